"""The hub's storage: what a commit keeps, and what it refuses."""

import contextlib
import hashlib
import sqlite3
from pathlib import Path

import pytest
from hub_fixtures import REPO, git_oid

from zoo.hub import Storage
from zoo.hub.errors import InvalidNameError, MissingError, TakenError


def test_commits_build_on_each_other_and_last(tmp_path):
    storage = Storage(tmp_path)
    (tmp_path / "file").write_bytes(b"from a file")
    first = storage.commit(REPO, {"a": b"1", "sub/b": b"2"})
    second = storage.commit(REPO, {"a": tmp_path / "file"}, message="Title\n\nMore")
    other = storage.commit(REPO, {"c": b"3"}, branch="other")
    storage.tag(REPO, "v1", first)
    storage = Storage(tmp_path)  # as a new process would see it
    repo = storage.repo(REPO)
    assert repo.branches == {"main": second, "other": other}
    assert repo.tags == {"v1": first}

    def contents(revision):
        files = storage.commit_at(repo, revision).files
        return {path: storage.blob_path(blob).read_bytes() for path, blob in files.items()}

    assert contents("v1") == contents(first) == {"a": b"1", "sub/b": b"2"}
    assert contents("main") == {"a": b"from a file", "sub/b": b"2"}
    assert contents("other") == {"a": b"from a file", "sub/b": b"2", "c": b"3"}
    log = storage.history(repo, storage.commit_at(repo, "other"))
    assert [commit.id for commit in log] == [other, second, first]
    with pytest.raises(TakenError):
        storage.tag(REPO, "v1")


@pytest.mark.parametrize(
    ("path", "size", "lfs"),
    [("a.bin", 1_000_000, False), ("a.bin", 1_000_001, True), ("a.safetensors", 0, True)],
)
def test_which_files_are_lfs(tmp_path, path, size, lfs):
    storage = Storage(tmp_path)
    storage.commit(REPO, {path: bytes(size)})
    blob = storage.commit_at(storage.repo(REPO), "main").files[path]
    assert (blob.lfs, blob.size) == (lfs, size)
    assert blob.sha256 == hashlib.sha256(bytes(size)).hexdigest()
    assert blob.etag == (blob.sha256 if lfs else git_oid(bytes(size)))


@pytest.mark.parametrize(
    ("repo", "files", "branch", "error"),
    [
        ("digits", {"a": b""}, "main", InvalidNameError),
        ("../digits", {"a": b""}, "main", InvalidNameError),
        (REPO, {"../a": b""}, "main", InvalidNameError),
        (REPO, {"": b""}, "main", InvalidNameError),
        (REPO, {"a": b"", "a/b": b""}, "main", InvalidNameError),
        (REPO, {"a": b""}, "dev", InvalidNameError),
        (REPO, {"a": b"", "b": Path("missing")}, "main", FileNotFoundError),
    ],
)
def test_failed_commit_leaves_no_repo_and_no_temporary_file(tmp_path, repo, files, branch, error):
    storage = Storage(tmp_path)
    with pytest.raises(error):
        storage.commit(repo, files, branch=branch)
    assert storage.repos() == []
    assert list(tmp_path.rglob("*.tmp")) == []
    with pytest.raises(MissingError):
        storage.repo(repo)


def test_hub_from_before_pull_requests_could_be_closed(tmp_path):
    storage = Storage(tmp_path)
    storage.commit("acme/digits", {"x": b""})
    storage.open_pull("acme/digits", "Old")
    storage.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "hub.sqlite3")) as old:
        old.execute("ALTER TABLE pulls DROP COLUMN closed")
        old.commit()
    storage = Storage(tmp_path)
    pull = storage.pull(storage.repo("acme/digits"), 1)
    assert (pull.title, pull.status) == ("Old", "open")
    storage.close_pull("acme/digits", 1)
    assert storage.pull(storage.repo("acme/digits"), 1).status == "closed"
    with pytest.raises(TakenError, match="is closed"):
        storage.merge("acme/digits", 1)
    storage.close_pull("acme/digits", 1, False)
    storage.merge("acme/digits", 1)
    with pytest.raises(TakenError, match="is merged already"):
        storage.close_pull("acme/digits", 1)
