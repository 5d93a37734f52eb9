"""Python in processes of their own: with a full disk, without rights, killed, two at a time."""

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import NamedTuple

_PRELUDE = """
import ctypes, os, resource, sys

def fill_the_disk(size):
    "No file can grow beyond that many bytes from now on."
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

def lose_rights():
    "Be stopped by the mode of files, which does not stop root as long as it has its capabilities."
    if os.getuid() == 0:
        version = (0x20080522).to_bytes(4, sys.byteorder)
        assert ctypes.CDLL(None).capset(version + bytes(4), bytes(24)) == 0

sys.excepthook = lambda *error: print(f"{error[0].__name__}: {error[1]}", file=sys.stderr)
"""


class Done(NamedTuple):
    """What a process printed, and the error that it ended with: its class and what it says."""

    output: str
    error: str
    message: str


def start_python(code, *arguments, **environment):
    """A process that runs `code`, which finds the arguments in `sys.argv`."""
    return subprocess.Popen(
        [sys.executable, "-c", _PRELUDE + code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def finish(process):
    """Wait for a process."""
    output, errors = process.communicate(timeout=60)
    last = errors.strip().splitlines()[-1] if process.returncode else ""
    kind, _, message = last.partition(": ")
    return Done(output, kind, message)


def run_python(code, *arguments, **environment):
    return finish(start_python(code, *arguments, **environment))


@contextmanager
def read_only(folder):
    """A folder in which nobody without special rights can change anything."""
    inside = [path for path in (folder, *folder.rglob("*")) if not path.is_symlink()]
    modes = {path: path.stat().st_mode for path in inside}
    for path in inside:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield
    for path, mode in modes.items():
        path.chmod(mode)
