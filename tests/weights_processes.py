"""Python in processes of their own: with a full disk, without rights, killed, two at a time."""

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

_PRELUDE = """
import os, resource, sys

def fill_the_disk(size):
    "No file can grow beyond that many bytes from now on."
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

def lose_rights():
    "Become a user who is stopped by the mode of files; root is not."
    if os.getuid() == 0:
        os.setuid(65534)

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
def shared_folder():
    """A folder that every user of the machine may enter; pytest's own are closed."""
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path
        for inside in [path, *path.rglob("*")]:
            if not inside.is_symlink():
                inside.chmod(0o755)
