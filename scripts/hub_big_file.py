"""Uploads a large file to the hub with the stock `hf` command, downloads it, and tells the memory.

    python scripts/hub_big_file.py --size 1e9 [--hf .venv-old-client/bin/hf]

Prints how long each took and the most memory that the hub's process held (its resident set, as
Linux counts it). Ends with an error if a byte differs or the hub held more than `--limit` MB.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOKEN = "hf_of_the_big_file"
PIECE = 1 << 24


def write_random(file: Path, size: int) -> None:
    with file.open("wb") as stream:
        for start in range(0, size, PIECE):
            stream.write(os.urandom(min(PIECE, size - start)))


def peak_memory(process: int) -> float:
    """The most memory that a process has held, in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def same(one: Path, other: Path) -> bool:
    with one.open("rb") as a, other.open("rb") as b:
        while piece := a.read(PIECE):
            if piece != b.read(PIECE):
                return False
        return not b.read(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=float, default=1e9, help="bytes")
    parser.add_argument("--limit", type=float, default=200, help="MB")
    parser.add_argument("--hf", default=str(Path(sys.executable).with_name("hf")))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file, copy = folder / "model.safetensors", folder / "download"
        write_random(file, int(options.size))
        serve = ["--root", str(folder / "hub"), "--port", "0", "--token", TOKEN]
        command = [sys.executable, "-m", "zoo", "hub", "serve", *serve]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as hub:
            assert hub.stdout
            kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
            env = {**kept, "HF_ENDPOINT": hub.stdout.readline().strip(), "HF_TOKEN": TOKEN}
            env["HF_HOME"] = str(folder / "home")
            try:
                for verb in (["upload", "acme/big", str(file)], ["download", "acme/big"]):
                    more = ["--local-dir", str(copy)] if verb[0] == "download" else []
                    start = time.monotonic()
                    subprocess.run(
                        [options.hf, *verb, *more], env=env, check=True, capture_output=True
                    )
                    seconds = time.monotonic() - start
                    peak = peak_memory(hub.pid)
                    speed = options.size / 1e6 / seconds
                    print(f"hf {verb[0]}: {seconds:.1f} s, {speed:.0f} MB/s; hub: {peak:.0f} MB")
            finally:
                hub.terminate()
        assert same(file, copy / file.name), "the download is not what was uploaded"
        assert peak < options.limit, f"the hub held {peak:.0f} MB, more than {options.limit:.0f}"


if __name__ == "__main__":
    main()
