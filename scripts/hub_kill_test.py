"""Kills the hub with SIGKILL while clients upload and commit, and looks at what is left.

    python scripts/hub_kill_test.py --rounds 50

Every round serves the same folder anew, has two stock clients write to it (small files inside the
commit, large ones by Xet and by LFS), and kills the hub at a random moment. Then each commit must
consist of exactly what its client meant, whole on the disk; every commit that a client was told of
must be there; and at the end `gc` leaves the contents of commits and nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.hub import Storage

REPOS = ("acme/one", "acme/two")
TOKEN = "hf_of_the_kill_test"
LARGE = 3_000_000  # bytes
LONGEST = 2.0  # seconds from the clients' first commits to the kill

# Prints what it is about to commit, and then the commit that the hub answered with.
CLIENT = """
import hashlib, io, json, os, sys, uuid
from huggingface_hub import CommitOperationAdd, HfApi
url, token, repo, large = *sys.argv[1:4], int(sys.argv[4])
api = HfApi(endpoint=url, token=token)
api.create_repo(repo, exist_ok=True)
for turn in range(1000):
    name = uuid.uuid4().hex
    files = {f"{name}.txt": os.urandom(50_000), f"{name}.safetensors": os.urandom(large)}
    as_stream = turn % 2  # which goes by LFS; bytes go by Xet
    operations = [
        CommitOperationAdd(path, io.BufferedReader(io.BytesIO(content)) if as_stream else content)
        for path, content in files.items()
    ]
    hashes = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    print(json.dumps({"message": name, "files": hashes}), flush=True)
    commit = api.create_commit(repo, operations, commit_message=name)
    print(json.dumps({"message": name, "commit": commit.oid}), flush=True)
"""


@contextmanager
def serving(root: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The hub as a process of its own, and its address."""
    options = ["--root", str(root), "--port", "0", "--token", TOKEN]
    command = [sys.executable, "-m", "zoo", "hub", "serve", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as hub:
        assert hub.stdout
        try:
            yield hub, hub.stdout.readline().strip()
        finally:
            hub.kill()


def one_round(root: Path, home: Path) -> list[dict]:
    """What the clients printed until the hub was killed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env = {**kept, "HF_HOME": str(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    with serving(root) as (hub, url):
        clients = [
            subprocess.Popen(
                [sys.executable, "-c", CLIENT, url, TOKEN, repo, str(LARGE)],
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for repo in REPOS
        ]
        lines = [client.stdout.readline() for client in clients if client.stdout]
        time.sleep(random.uniform(0, LONGEST))
        hub.kill()
        hub.wait()
    for client in clients:
        client.kill()
        lines += client.communicate()[0].splitlines()
    return [json.loads(line) for line in lines if line.endswith(("}", "}\n"))]


def check(storage: Storage, said: list[dict]) -> int:
    """The number of commits in `storage`, each of which is as its client meant it."""
    meant = {line["message"]: line["files"] for line in said if "files" in line}
    told = {line["commit"] for line in said if "commit" in line}
    found = set()
    for repo in storage.repos():
        log = list(storage.states(repo, storage.commit_at(repo, "main")))
        for commit, parent in itertools.pairwise(log):
            before = {path: blob.sha256 for path, blob in parent.files.items()}
            now = {path: blob.sha256 for path, blob in commit.files.items()}
            assert now == {**before, **meant[commit.message]}, f"{commit.id} is not what was meant"
            found.add(commit.id)
        for blob in log[0].files.values():
            content = storage.blob_path(blob).read_bytes()
            assert hashlib.sha256(content).hexdigest() == blob.sha256, f"{blob} is not whole"
    assert told <= found, f"lost: {told - found}"
    return len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "hub"
        said: list[dict] = []
        broken_off = commits = 0
        for number in range(rounds):
            said += one_round(root, Path(folder) / "home")
            commits = check(Storage(root), said)
            broken_off += any(path.is_file() for path in (root / "incoming").rglob("*"))
            print(f"\r{number + 1} kills, {commits} commits, all whole", end="", flush=True)
        storage = Storage(root)
        used = {
            blob.sha256
            for repo in storage.repos()
            for blob in storage.commit_at(repo, "main").files.values()
        }
        garbage = storage.gc(grace=0)
        left = {path.name for path in (root / "blobs").glob("*/*")}
        assert left == used, f"gc left {left - used} and took {used - left}"
        assert not any((root / "incoming").glob("*")), "gc left broken-off uploads"
        assert check(storage, said) == commits
        acknowledged = sum("commit" in line for line in said)
    print(
        f"\r{rounds} kills: {commits} commits, {acknowledged} of them acknowledged, all whole; "
        f"after {broken_off} kills there were broken-off uploads; gc removed {garbage.files} files "
        f"of {garbage.bytes / 1e6:.1f} MB and nothing that a commit has."
    )


if __name__ == "__main__":
    main()
