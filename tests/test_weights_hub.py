"""Loading from a hub that works: what is fetched, what is asked, what is remembered."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hub_fixtures import CONFIG, MEMBER, README, REPO, STRANGER, WEIGHTS, download
from weights_terminal import Terminal

from zoo.errors import (
    AccessError,
    FileFormatError,
    HandleError,
    IntegrityError,
    LockError,
    NotFoundError,
    OfflineError,
)
from zoo.weights.files import open_checkpoint
from zoo.weights.handle import Source
from zoo.weights.hub import open_repository
from zoo.weights.lockfile import LockedFile, Lockfile

SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture
def source(hub, tmp_path):
    return Source(endpoint=hub.url, cache_dir=tmp_path / "cache")


def asked(hub):
    """What was asked since the last time, without the addresses' common part."""
    requests = [(request.method, request.path.split("/")[-1]) for request in hub.requests]
    hub.requests.clear()
    return requests


def test_files_come_from_one_commit(hub, digits, source):
    repository = open_repository(REPO, source)
    assert (repository.origin, repository.commit) == (REPO, digits)
    hub.storage.commit(REPO, {"config.json": b"{}", "model.safetensors": b""})
    config = repository.file("config.json")
    assert config.read_bytes() == CONFIG
    assert [path.read_bytes() for path in repository.weights()] == [WEIGHTS]
    assert config.parent.name == digits


def test_what_is_cached_makes_no_request(hub, digits, source):
    def load():
        repository = open_repository(REPO, source)
        repository.file("config.json")
        assert repository.file("labels.json", required=False) is None
        return repository.weights()

    first = load()
    assert asked(hub) == [
        ("GET", "main"),
        *[("HEAD", "config.json")] * 2,
        ("GET", "config.json"),
        *[("HEAD", "model.safetensors")] * 2,
        ("GET", "model.safetensors"),
    ]
    assert load() == first
    assert asked(hub) == []


def test_a_branch_stays_where_it_was_until_refresh(hub, digits, source):
    open_repository(REPO, source).file("config.json")
    newer = hub.storage.commit(REPO, {"config.json": b"{}"})
    asked(hub)
    assert open_repository(REPO, source).commit == digits
    assert asked(hub) == []
    refreshed = open_repository(REPO, replace(source, refresh=True))
    assert refreshed.commit == newer
    assert refreshed.file("config.json").read_bytes() == b"{}"
    asked(hub)
    assert open_repository(REPO, source).commit == newer
    assert asked(hub) == []


def test_an_unchanged_file_of_a_new_commit_is_not_fetched_again(hub, digits, source):
    open_repository(REPO, source).weights()
    hub.storage.commit(REPO, {"config.json": b"{}"})
    asked(hub)
    open_repository(REPO, replace(source, refresh=True)).weights()
    assert asked(hub) == [("GET", "main"), *[("HEAD", "model.safetensors")] * 2]


@pytest.mark.parametrize("name", ["v1", "feature/x", "{commit}"])
def test_revisions(hub, digits, source, name):
    hub.storage.tag(REPO, "v1")
    hub.storage.commit(REPO, {"x": b""}, branch="feature/x")
    later = hub.storage.commit(REPO, {"config.json": b"{}"})
    wanted = name.format(commit=digits)
    repository = open_repository(REPO, source, wanted)
    assert repository.file("config.json").read_bytes() == CONFIG
    assert repository.commit != later
    asked(hub)
    assert open_repository(REPO, source, wanted).commit == repository.commit
    assert asked(hub) == []


def test_the_sources_revision_comes_before_the_cards(hub, digits, source):
    hub.storage.tag(REPO, "v1")
    hub.storage.commit(REPO, {"config.json": b"{}"})
    assert open_repository(REPO, replace(source, revision="v1"), "main").commit == digits


def test_a_card_with_commit_and_file_asks_little(hub, digits, source):
    """With the file's name given the repo is not listed to find it, once it is cached."""
    weights = open_repository(REPO, source, digits).weights("model.safetensors", SHA256)
    assert weights[0].read_bytes() == WEIGHTS
    asked(hub)
    assert open_repository(REPO, source, digits).weights("model.safetensors", SHA256) == weights
    assert asked(hub) == []


def test_shards_come_from_the_index(hub, source):
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = {"weight_map": dict(zip("ab", names, strict=True))}
    files = dict.fromkeys(names, WEIGHTS)
    hub.storage.commit(REPO, {"model.safetensors.index.json": json.dumps(index).encode(), **files})
    assert [path.name for path in open_repository(REPO, source).weights()] == names
    asked(hub)
    assert [path.name for path in open_repository(REPO, source).weights()] == names
    assert asked(hub) == []


def test_an_index_cannot_point_outside(hub, source, tmp_path):
    index = {"weight_map": {"a": "../../../../secret.safetensors"}}
    hub.storage.commit(REPO, {"model.safetensors.index.json": json.dumps(index).encode()})
    with pytest.raises(FileFormatError, match=r"names the shard '\.\./"):
        open_repository(REPO, source).weights()


def test_a_repo_with_pickles_alone(hub, source):
    hub.storage.commit(REPO, {"pytorch_model.bin": b"\x80\x04", "config.json": b"{}"})
    with pytest.raises(FileFormatError, match=r"acme/digits has no .*only pytorch_model\.bin"):
        open_repository(REPO, source).weights()
    assert ("GET", "pytorch_model.bin") not in asked(hub)


def test_a_missing_file_is_named_with_the_nearest(hub, digits, source):
    repository = open_repository(REPO, source)
    with pytest.raises(NotFoundError, match=r"no file 'confg\.json'.*'config\.json'.*README\.md"):
        repository.file("confg.json")
    with pytest.raises(NotFoundError, match="no name of a file inside"):
        repository.file("../config.json", required=False)


def test_a_missing_revision_is_named_with_the_nearest(hub, digits, source):
    hub.storage.tag(REPO, "v1.0")
    with pytest.raises(NotFoundError, match=r"commit 'v1\.1'.*'v1\.0'.*It has: main, v1\.0"):
        open_repository(REPO, source, "v1.1")
    with pytest.raises(NotFoundError, match=f"branch, tag or commit '{'0' * 40}'"):
        open_repository(REPO, source, "0" * 40).file("config.json")


def test_a_missing_repo(hub, source):
    with pytest.raises(NotFoundError, match=rf"No repo {hub.url}/{REPO} \(404\)"):
        open_repository(REPO, source)


@pytest.mark.parametrize(
    ("repo", "revision"), [("a/b/c", None), ("../x", None), ("a b/c", None), (REPO, "../../x")]
)
def test_no_names(hub, source, repo, revision):
    with pytest.raises(HandleError, match="no repo and revision"):
        open_repository(repo, source, revision)
    assert asked(hub) == []


# Access


def test_a_private_repo(hub, digits, source):
    hub.storage.set_private(REPO)
    for token in (None, STRANGER):
        with pytest.raises(NotFoundError, match="if it is private, give token="):
            open_repository(REPO, replace(source, token=token))
    repository = open_repository(REPO, replace(source, token=MEMBER))
    assert repository.file("config.json").read_bytes() == CONFIG


def test_a_gated_repo(hub, digits, source):
    hub.storage.set_gated(REPO)
    for token, sent in ((None, "none was sent"), (STRANGER, "the token that was sent")):
        repository = open_repository(REPO, replace(source, token=token))
        with pytest.raises(AccessError, match=rf"accepted its terms at {hub.url}/{REPO}.*{sent}"):
            repository.file("config.json")
    repository = open_repository(REPO, replace(source, token=MEMBER))
    assert repository.file("config.json").read_bytes() == CONFIG


def test_a_token_that_the_hub_does_not_know(hub, digits, source):
    with pytest.raises(AccessError, match=r"closed to the token that was sent.*\(401\)"):
        open_repository(REPO, replace(source, token="hf_wrong"))


# Offline


def test_offline_loads_what_is_cached(hub, digits, source):
    paths = open_repository(REPO, source).weights()
    asked(hub)
    offline = open_repository(REPO, replace(source, offline=True))
    assert offline.weights() == paths
    assert offline.file("labels.json", required=False) is None  # the listing is remembered
    assert asked(hub) == []


def test_offline_names_what_is_missing(hub, digits, source):
    offline = replace(source, offline=True)
    with pytest.raises(OfflineError, match=rf"{REPO}@main.*zoo pull hf://{REPO}@main"):
        open_repository(REPO, offline)
    with pytest.raises(OfflineError, match=r"'model\.safetensors'.*zoo pull"):
        open_repository(REPO, offline, digits).weights()
    open_repository(REPO, source).file("config.json")
    asked(hub)
    repository = open_repository(REPO, offline)
    with pytest.raises(OfflineError) as caught:
        repository.weights()
    said = str(caught.value)
    assert "'model.safetensors'" in said
    assert digits in said
    assert str(source.cache_dir) in said
    assert f"zoo pull hf://{REPO}@{digits}" in said
    with pytest.raises(OfflineError, match="refresh"):
        open_repository(REPO, replace(offline, refresh=True))
    assert asked(hub) == []


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_follows_the_environment_of_the_moment(hub, digits, source, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    with pytest.raises(OfflineError):
        open_repository(REPO, source)
    assert open_repository(REPO, replace(source, offline=False)).commit == digits
    monkeypatch.setenv(variable, "0")
    assert open_repository(REPO, source).file("config.json").read_bytes() == CONFIG


# A cache that other programs filled


def own_cache(source):
    """The folder that `source` keeps its endpoint's files in."""
    (folder,) = Path(source.cache_dir).glob("zoo/endpoints/*")
    return folder


@pytest.fixture
def filled(hub, digits, source):
    """A cache as the client alone fills it, with nothing of zoo's."""
    open_repository(REPO, source)
    cache = own_cache(source)
    for path in [p for p in cache.rglob("*") if p.is_file()]:
        path.unlink()
    for name in ("config.json", "model.safetensors"):
        download(hub, Path(), name, cache_dir=cache)
    asked(hub)
    return cache


@pytest.mark.parametrize("offline", [False, True])
def test_the_clients_files_are_taken_without_a_request(hub, digits, source, filled, offline):
    repository = open_repository(REPO, replace(source, offline=offline))
    assert repository.commit == digits
    assert repository.file("config.json").read_bytes() == CONFIG
    assert [path.read_bytes() for path in repository.weights()] == [WEIGHTS]
    assert asked(hub) == []


def test_the_clients_files_are_hashed(hub, digits, source, filled):
    (blob,) = filled.glob(f"*/blobs/{SHA256}")
    damaged = bytearray(WEIGHTS)
    damaged[-1] ^= 1
    blob.write_bytes(damaged)
    with pytest.raises(IntegrityError, match=f"gave {SHA256}.*was removed from the cache"):
        open_repository(REPO, source).weights()
    assert not blob.exists()
    assert open_repository(REPO, source).weights()[0].read_bytes() == WEIGHTS


def test_a_branch_that_another_program_moves_does_not_move_a_load(hub, digits, source, filled):
    assert open_repository(REPO, source).commit == digits
    newer = hub.storage.commit(REPO, {"config.json": b"{}"})
    assert download(hub, Path(), "config.json", cache_dir=filled).parent.name == newer
    asked(hub)
    assert open_repository(REPO, source).commit == digits
    assert asked(hub) == []


def test_what_the_client_found_missing_is_not_asked_for(hub, digits, source, filled):
    with pytest.raises(Exception, match="404"):
        download(hub, Path(), "labels.json", cache_dir=filled)
    asked(hub)
    assert open_repository(REPO, source).file("labels.json", required=False) is None
    assert asked(hub) == []


def test_whether_an_unknown_file_exists_is_never_guessed(hub, digits, source, filled):
    repository = open_repository(REPO, replace(source, offline=True))
    with pytest.raises(OfflineError, match=r"labels\.json"):
        repository.file("labels.json", required=False)
    assert open_repository(REPO, source).file("labels.json", required=False) is None
    assert repository.file("labels.json", required=False) is None


def test_the_client_loads_what_zoo_fetched(hub, digits, source):
    path = open_repository(REPO, source).file("config.json")
    found = download(hub, Path(), "config.json", cache_dir=own_cache(source), local_files_only=True)
    assert found.samefile(path)


# Hashes


def test_a_file_is_hashed_once(hub, digits, source, monkeypatch):
    hashed = []
    real = hashlib.file_digest

    def count(file, digest):
        hashed.append(Path(file.name).name)
        return real(file, digest)

    monkeypatch.setattr(hashlib, "file_digest", count)
    (path,) = open_repository(REPO, source).weights()
    assert hashed == ["model.safetensors"]
    open_repository(REPO, source).weights()
    assert hashed == ["model.safetensors"]
    path.touch()  # it may have changed: the size and the time tell, the content is read
    open_repository(REPO, source).weights()
    assert hashed == ["model.safetensors"] * 2


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b[:-1] + bytes([b[-1] ^ 1])])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_changed_on_the_disk_is_found(hub, digits, source, name, change):
    path = open_repository(REPO, source).file(name)
    right = path.read_bytes()
    path.write_bytes(change(right))
    with pytest.raises(IntegrityError, match="removed from the cache"):
        open_repository(REPO, source).file(name)
    assert not path.exists()
    assert open_repository(REPO, source).file(name).read_bytes() == right


def test_another_hash_than_the_cards_is_an_error(hub, digits, source):
    with pytest.raises(IntegrityError, match=f"{SHA256}; expected {'0' * 64}.*was removed"):
        open_repository(REPO, source).weights(sha256="0" * 64)
    assert not list(Path(source.cache_dir).rglob(SHA256))
    (path,) = open_repository(REPO, source).weights(sha256=SHA256.upper())
    with pytest.raises(IntegrityError, match="was not loaded"):
        open_repository(REPO, source).weights(sha256="0" * 64)
    assert path.exists()  # it is what the hub says, and others may use it


# Lockfiles


@pytest.fixture
def locked(hub, digits, source, tmp_path):
    """A source with a lockfile of the first commit, on a hub that has moved on."""
    repository = open_repository(REPO, replace(source, cache_dir=tmp_path / "other"))
    repository.file("config.json")
    repository.weights()
    Lockfile(repository.used.values()).write(tmp_path / "zoo.lock")
    hub.storage.commit(REPO, {"config.json": b"{}"})
    return replace(source, lockfile=tmp_path / "zoo.lock")


def test_what_was_handed_out_can_be_locked(hub, digits, source):
    repository = open_repository(REPO, source)
    repository.file("config.json")
    assert repository.used == {
        "config.json": LockedFile(
            repo=REPO,
            commit=digits,
            file="config.json",
            sha256=hashlib.sha256(CONFIG).hexdigest(),
            size=len(CONFIG),
        )
    }


def test_a_locked_commit_is_loaded(hub, digits, locked):
    repository = open_repository(REPO, locked)
    assert repository.commit == digits
    assert repository.file("config.json").read_bytes() == CONFIG
    assert repository.weights()[0].read_bytes() == WEIGHTS
    assert open_repository(REPO, locked, digits).commit == digits
    assert open_repository(REPO, replace(locked, refresh=True)).commit == digits


def test_what_is_not_locked_is_refused(hub, digits, locked):
    with pytest.raises(LockError, match=r"does not list 'README\.md'"):
        open_repository(REPO, locked).file("README.md")
    hub.storage.commit("acme/other", {"README.md": README})
    with pytest.raises(LockError, match="does not list acme/other"):
        open_repository("acme/other", locked)
    with pytest.raises(LockError, match=f"at the commit {digits}, and {'0' * 40} is asked for"):
        open_repository(REPO, locked, "0" * 40)


def test_another_content_than_the_locked_is_refused(locked):
    lock = Lockfile.read(locked.lockfile)
    lock.merge([replace(entry, sha256="0" * 64) for entry in lock.files])
    lock.write(locked.lockfile)
    with pytest.raises(LockError, match=f"sha256 {SHA256}, expected {'0' * 64}"):
        open_repository(REPO, locked).weights()


# The progress bar


@pytest.mark.parametrize(("size", "shown"), [(5_000_000, True), (4_999_999, False)])
def test_large_files_show_their_progress(hub, source, monkeypatch, size, shown):
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    hub.storage.commit(REPO, {"model.safetensors": bytes(size)})
    open_repository(REPO, source).weights()
    assert ("100%" in terminal.text) is shown
    assert ("model.safetensors" in terminal.text) is shown


def test_the_checkpoint_of_a_repo(hub, digits, source):
    checkpoint = open_checkpoint(open_repository(REPO, source).weights())
    assert checkpoint["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
