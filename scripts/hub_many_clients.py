"""Many clients upload to and download from one hub at once, for a while.

    python scripts/hub_many_clients.py --clients 64 --seconds 30

Each client is a thread of the stock `huggingface_hub`. It uploads a large file (by LFS) and a small
one in one commit, downloads both and compares them, again and again; the clients share eight repos.
Any error ends the script with one. At the end: what was done, and the most memory that the hub's
process held.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from pathlib import Path

os.environ |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1"}

TOKEN = "hf_of_many_clients"
REPOS = 8
LARGE, SMALL = 2_000_000, 20_000  # bytes


class Client(threading.Thread):
    """One client, at work until `end` (of `time.monotonic`)."""

    def __init__(self, url: str, number: int, folder: Path, end: float) -> None:
        super().__init__()
        self.url, self.repo, self.folder, self.end = url, f"acme/r{number % REPOS}", folder, end
        self.done: Counter[str] = Counter()
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            while time.monotonic() < self.end:
                self.turn()
        except Exception as error:
            self.error = error

    def turn(self) -> None:
        from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download

        name = uuid.uuid4().hex
        files = {f"{name}.bin": os.urandom(LARGE), f"{name}.txt": os.urandom(SMALL)}
        operations = [
            CommitOperationAdd(path, io.BufferedReader(io.BytesIO(content)))
            for path, content in files.items()
        ]
        api = HfApi(endpoint=self.url, token=TOKEN)
        commit = api.create_commit(self.repo, operations, commit_message=name)
        self.done["commits"] += 1
        for path, content in files.items():
            copy = hf_hub_download(
                self.repo,
                path,
                revision=commit.oid,
                endpoint=self.url,
                token=TOKEN,
                local_dir=self.folder / name,
            )
            received = Path(copy).read_bytes()
            assert hashlib.sha256(received).digest() == hashlib.sha256(content).digest()
            Path(copy).unlink()
            self.done["downloads"] += 1


def peak_memory(process: int) -> float:
    """The most memory that a process has held, in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--limit", type=float, default=300, help="MB")
    options = parser.parse_args()
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as name:
        serve = ["--root", f"{name}/hub", "--port", "0", "--token", TOKEN]
        command = [sys.executable, "-m", "zoo", "hub", "serve", *serve]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as hub:
            assert hub.stdout
            url = hub.stdout.readline().strip()
            try:
                for number in range(REPOS):
                    HfApi(endpoint=url, token=TOKEN).create_repo(f"acme/r{number}")
                end = time.monotonic() + options.seconds
                clients = [Client(url, n, Path(name), end) for n in range(options.clients)]
                for client in clients:
                    client.start()
                for client in clients:
                    client.join()
                peak = peak_memory(hub.pid)
            finally:
                hub.terminate()
    done = sum((client.done for client in clients), Counter())
    errors = [client.error for client in clients if client.error]
    print(
        f"{options.clients} clients, {options.seconds:.0f} s: {done['commits']} commits, "
        f"{done['downloads']} downloads, {len(errors)} errors; hub: {peak:.0f} MB"
    )
    if errors:
        raise errors[0]
    assert peak < options.limit, f"the hub held {peak:.0f} MB, more than {options.limit:.0f}"


if __name__ == "__main__":
    main()
