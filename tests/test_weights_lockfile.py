import json

import pytest
from weights_processes import run_python

from zoo.errors import FileFormatError, LockError, NotFoundError
from zoo.weights.lockfile import LockedFile, Lockfile

OLD, NEW = "a" * 40, "b" * 40


def locked(file, repo="timm/resnet50", commit=OLD, sha256="1" * 64, size=5):
    return LockedFile(repo=repo, commit=commit, file=file, sha256=sha256, size=size)


FILES = [locked("model.safetensors"), locked("config.json"), locked("x.bin", repo="acme/a")]


@pytest.fixture
def lock(tmp_path):
    path = tmp_path / "zoo.lock"
    Lockfile(FILES).write(path)
    return Lockfile.read(path)


def test_what_is_written_is_read(lock):
    assert lock.files == tuple(sorted(FILES))
    assert [entry.file for entry in lock.files] == ["x.bin", "config.json", "model.safetensors"]


def test_the_same_files_give_the_same_bytes(tmp_path):
    Lockfile(FILES).write(tmp_path / "1")
    Lockfile(reversed(FILES)).write(tmp_path / "2")
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert json.loads((tmp_path / "1").read_bytes())["files"][0] == {
        "repo": "acme/a",
        "commit": OLD,
        "file": "x.bin",
        "sha256": "1" * 64,
        "size": 5,
    }
    assert json.loads((tmp_path / "1").read_bytes())["version"] == 1


def test_a_locked_file_passes(lock):
    lock.check("timm/resnet50", OLD, "config.json", "1" * 64, 5)
    assert lock.commit("timm/resnet50") == OLD


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"commit": NEW}, f"commit {NEW}, expected {OLD}"),
        ({"sha256": "2" * 64}, f"sha256 {'2' * 64}, expected {'1' * 64}"),
        ({"size": 6}, "size 6, expected 5"),
        ({"size": 6, "commit": NEW}, f"commit {NEW}, expected {OLD}, size 6, expected 5"),
    ],
)
def test_another_file_is_refused_with_what_differs(lock, change, message):
    given = {"commit": OLD, "sha256": "1" * 64, "size": 5, **change}
    with pytest.raises(LockError, match=message) as caught:
        lock.check("timm/resnet50", file="config.json", **given)
    assert "zoo lock" in str(caught.value)
    assert str(lock.path) in str(caught.value)


def test_what_is_not_listed_is_refused_with_the_nearest(lock):
    with pytest.raises(
        LockError, match=r"does not list 'confg\.json'.*Did you mean 'config\.json'"
    ):
        lock.check("timm/resnet50", OLD, "confg.json", "1" * 64, 5)
    with pytest.raises(LockError, match=r"does not list timm/resnet51.*'timm/resnet50'"):
        lock.commit("timm/resnet51")


def test_merging_adds_files_of_the_same_commit(lock):
    lock.merge([locked("labels.json"), locked("config.json", sha256="3" * 64)])
    files = {entry.file: entry.sha256[0] for entry in lock.files if entry.repo == "timm/resnet50"}
    assert files == {"config.json": "3", "labels.json": "1", "model.safetensors": "1"}


def test_merging_another_commit_drops_the_old_one(lock):
    lock.merge([locked("config.json", commit=NEW)])
    assert [(e.repo, e.commit, e.file) for e in lock.files] == [
        ("acme/a", OLD, "x.bin"),
        ("timm/resnet50", NEW, "config.json"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no lockfile"),
        (b"[]", "is no lockfile"),
        (b'{"version": 1}', "is no lockfile"),
        (b'{"version": 1, "files": [{"repo": "a/b"}]}', "is no lockfile"),
        (b'{"version": 2, "files": [{"new": 1}]}', "version 2; this zoo reads version 1"),
        (b"\xff\xfe", "is no lockfile"),
    ],
)
def test_a_damaged_lockfile_is_an_error(tmp_path, content, message):
    (tmp_path / "zoo.lock").write_bytes(content)
    with pytest.raises(FileFormatError, match=message):
        Lockfile.read(tmp_path / "zoo.lock")


def test_no_lockfile(tmp_path):
    with pytest.raises(NotFoundError, match="`zoo lock` writes one"):
        Lockfile.read(tmp_path / "zoo.lock")


FULL_DISK = """
from zoo.weights.lockfile import LockedFile, Lockfile
lock = Lockfile.read(sys.argv[1])
lock.merge(LockedFile(repo="r/r", commit="c", file=f"{i}", sha256="s", size=1) for i in range(100))
fill_the_disk(1000)
lock.write(sys.argv[1])
"""


def test_a_full_disk_keeps_the_old_lockfile(lock):
    before = lock.path.read_bytes()
    assert run_python(FULL_DISK, lock.path).error == "DiskError"
    assert lock.path.read_bytes() == before
    assert list(lock.path.parent.iterdir()) == [lock.path]
