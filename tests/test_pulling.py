"""`pull` and `lock`: the files of a model without the model."""

import subprocess
import sys
from pathlib import Path

import pytest
from cli_fixtures import CARD, CONFIG, FILES, REPO, head

from zoo.errors import ConfigError, FileFormatError, HandleError, LockError, NotFoundError
from zoo.loading.locking import lock
from zoo.loading.pulling import pull
from zoo.weights.lockfile import Lockfile

SIZES = {name: len(content) for name, content in FILES.items()}


def test_pull_gives_what_a_load_reads(own_hub, tmp_path):
    pulled = pull(REPO, cache_dir=tmp_path)
    assert pulled.commit == head(own_hub)
    assert (pulled.origin, pulled.card.architecture) == (REPO, "test_resnet")
    assert {path.name: path.read_bytes() for path in pulled.files} == FILES
    assert pulled.bytes == sum(SIZES.values())
    assert {file.file: file.size for file in pulled.locked} == SIZES


def test_pull_of_a_folder_asks_no_one(own_hub, tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    pulled = pull(tmp_path)
    assert (pulled.origin, pulled.commit, pulled.locked) == (str(tmp_path), None, ())
    assert pulled.files == (tmp_path / "model.safetensors",)
    assert own_hub.requests == []


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({"config.json": b"{"}, ConfigError, "is not valid JSON"),
        ({"model.safetensors": b""}, NotFoundError, "has no file 'config.json'"),
        ({"config.json": CONFIG}, NotFoundError, "has no file 'model.safetensors'"),
        ({"config.json": CONFIG, "model.bin": b""}, FileFormatError, "only model.bin"),
    ],
)
def test_pull_of_incomplete_repos(own_hub, tmp_path, files, error, message):
    own_hub.storage.commit("acme/other", files)
    with pytest.raises(error, match=message):
        pull("acme/other", cache_dir=tmp_path)


def test_pull_imports_no_tensorflow(own_hub, tmp_path):
    code = (
        "import sys; from zoo.loading.locking import lock\n"
        f"lock({CARD!r}, {str(tmp_path / 'zoo.lock')!r}, cache_dir={str(tmp_path)!r})\n"
        "print(sorted({'tensorflow', 'keras', 'numpy'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_lock_adds_to_what_there_is(own_hub, tmp_path):
    own_hub.storage.commit("acme/other", FILES)
    path = tmp_path / "my.lock"
    assert len(lock(REPO, path, cache_dir=tmp_path / "c").files) == 2
    both = lock(["acme/other", CARD], path, cache_dir=tmp_path / "c")
    assert [(f.repo, f.file) for f in both.files] == [
        (repo, name) for repo in ("acme/other", REPO) for name in sorted(FILES)
    ]
    assert Lockfile.read(path).files == both.files


def test_lock_of_a_folder_or_of_two_commits_is_refused(own_hub, tmp_path):
    first = head(own_hub)
    own_hub.storage.commit(REPO, {**FILES, "README.md": b"# newer"})
    with pytest.raises(HandleError, match="is on this disk"):
        lock([REPO, Path(tmp_path)], tmp_path / "my.lock", cache_dir=tmp_path / "c")
    with pytest.raises(HandleError, match=f"was named at the commits {first} and"):
        lock([f"{REPO}@{first}", REPO], tmp_path / "my.lock", cache_dir=tmp_path / "c")
    assert not (tmp_path / "my.lock").exists()


def test_a_load_takes_the_locked_commit_alone(own_hub, tmp_path):
    path = tmp_path / "my.lock"
    lock(REPO, path, cache_dir=tmp_path / "c")
    commit = head(own_hub)
    own_hub.storage.commit(REPO, {**FILES, "README.md": b"# newer"})
    assert pull(REPO, cache_dir=tmp_path / "c", lockfile=path).commit == commit
    with pytest.raises(LockError, match="does not list acme/other"):
        pull("acme/other", cache_dir=tmp_path / "c", lockfile=path)
