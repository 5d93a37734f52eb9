"""What zoo fetched is listed, verified and removed, and nothing else is."""

import hashlib
import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hub_fixtures import CONFIG, REPO, WEIGHTS, download
from weights_processes import read_only, run_python
from weights_server import web_server

from zoo.errors import IntegrityError, NotFoundError
from zoo.weights.cache import entries, prune, remove, verify
from zoo.weights.endpoint import feature_cache
from zoo.weights.handle import Source
from zoo.weights.https import fetch_url
from zoo.weights.hub import open_repository

SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
DAY = timedelta(days=1)


@pytest.fixture
def source(hub, tmp_path):
    return Source(endpoint=hub.url, cache_dir=tmp_path / "cache")


@pytest.fixture
def everywhere(source):
    """All the caches, and not that of the hub alone."""
    return replace(source, endpoint=None)


@pytest.fixture
def cache(source, hub):
    port = hub.url.rpartition(":")[2]
    return Path(source.cache_dir) / "zoo" / "endpoints" / f"127.0.0.1_{port}"


def load(source, *names, repo=REPO):
    repository = open_repository(repo, source)
    return [repository.file(name) for name in names]


def listed(source):
    return [(entry.repo, entry.file) for entry in entries(source)]


def age(cache, days, file="*"):
    """Make the loads of a file look older."""
    for record in cache.glob(f"*/.zoo/files/*/{file}.json"):
        past = time.time() - days * 86400
        os.utime(record, (past, past))


def test_what_was_fetched_is_listed(hub, digits, source, everywhere):
    assert entries(source) == []
    before = datetime.now(UTC) - timedelta(seconds=1)
    config, weights = load(source, "config.json", "model.safetensors")
    first, second = entries(source)
    assert (first.file, first.path) == ("config.json", config)
    assert second == replace(
        first,
        file="model.safetensors",
        path=weights,
        sha256=SHA256,
        size=len(WEIGHTS),
        last_used=second.last_used,
    )
    assert (second.repo, second.commit, second.endpoint) == (REPO, digits, hub.url)
    assert before < second.last_used <= datetime.now(UTC)
    assert entries(everywhere) == entries(source)


def test_a_load_is_a_use(hub, digits, source, cache):
    load(source, "config.json", "model.safetensors")
    age(cache, 3)
    load(source, "config.json")
    used = {entry.file: entry.last_used for entry in entries(source)}
    assert used["config.json"] > datetime.now(UTC) - DAY
    assert used["model.safetensors"] < datetime.now(UTC) - 2 * DAY


def test_files_of_plain_addresses_are_listed(everywhere, source):
    with web_server(lambda *request: (200, {}, b"content")) as server:
        url = f"{server.url}/a.bin"
        path = fetch_url(url, source)
    (entry,) = entries(everywhere)
    assert (entry.repo, entry.endpoint, entry.commit) == (url, None, None)
    assert (entry.file, entry.path, entry.size) == ("a.bin", path, 7)
    assert entries(source) == []  # those of one endpoint alone
    assert remove(url, everywhere) == [entry]
    assert not path.parent.exists()


def test_what_other_programs_fetched_is_not_listed(hub, digits, source, cache):
    load(source, "config.json")
    download(hub, Path(), "model.safetensors", cache_dir=cache)
    assert listed(source) == [(REPO, "config.json")]
    load(source, "model.safetensors")  # verified by zoo, and still not its own
    assert listed(source) == [(REPO, "config.json")]


# Verifying


def test_verify_hashes_what_was_verified_before(hub, digits, source, cache):
    download(hub, Path(), "README.md", cache_dir=cache)
    _, weights, _ = load(source, "config.json", "model.safetensors", "README.md")
    assert [(v.entry.file, v.ok) for v in verify(source)] == [
        ("README.md", True),
        ("config.json", True),
        ("model.safetensors", True),
    ]
    state = weights.stat()
    weights.write_bytes(bytes(len(WEIGHTS)))
    os.utime(weights, ns=(state.st_atime_ns, state.st_mtime_ns))  # as a failing disk leaves it
    load(source, "model.safetensors")
    found = {v.entry.file: (v.ok, v.found) for v in verify(source)}
    assert found["config.json"] == (True, hashlib.sha256(CONFIG).hexdigest())
    assert found["model.safetensors"] == (False, hashlib.sha256(bytes(len(WEIGHTS))).hexdigest())
    with pytest.raises(IntegrityError, match="removed from the cache"):
        load(source, "model.safetensors")  # no longer trusted
    assert load(source, "model.safetensors")[0].read_bytes() == WEIGHTS
    assert all(v.ok for v in verify(source))


def test_verify_names_what_is_gone(hub, digits, source):
    (path,) = load(source, "config.json")
    path.unlink()
    (found,) = verify(source)
    assert (found.ok, found.found, found.entry.path) == (False, None, path)
    assert entries(source) == []


# Removing


def test_remove_takes_the_files_of_one_repo(hub, digits, source, cache):
    hub.storage.commit("acme/other", {"config.json": CONFIG})
    load(source, "config.json", "model.safetensors")
    (other,) = load(source, "config.json", repo="acme/other")
    removed = remove(REPO, source)
    assert [entry.file for entry in removed] == ["config.json", "model.safetensors"]
    assert not (cache / "models--acme--digits").exists()
    assert listed(source) == [("acme/other", "config.json")]
    assert other.read_bytes() == CONFIG
    assert load(source, "config.json")[0].read_bytes() == CONFIG


def test_remove_leaves_what_other_programs_fetched(hub, digits, source, cache):
    load(source, "config.json")
    theirs = download(hub, Path(), "model.safetensors", cache_dir=cache)
    load(source, "model.safetensors")
    remove(REPO, source)
    assert theirs.read_bytes() == WEIGHTS
    assert not (theirs.parent / "config.json").is_symlink()
    assert sorted(path.name for path in theirs.parents[2].glob("blobs/*")) == [SHA256]
    with pytest.raises(NotFoundError):
        remove(REPO, source)


def test_remove_leaves_a_content_that_another_commit_needs(hub, digits, source, cache):
    load(source, "config.json")
    newer = hub.storage.commit(REPO, {"new": b""})
    theirs = download(hub, Path(), "config.json", cache_dir=cache, revision=newer)
    remove(REPO, source)
    assert theirs.read_bytes() == CONFIG


def test_remove_of_an_unknown_repo_gives_the_nearest(hub, digits, source):
    load(source, "config.json")
    with pytest.raises(NotFoundError, match=r"'acme/digit'.*Did you mean 'acme/digits'.*cache ls"):
        remove("acme/digit", source)
    assert listed(source) == [(REPO, "config.json")]


REMOVE = """
from zoo.weights.cache import remove
from zoo.weights.handle import Source
lose_rights()
remove("acme/digits", Source(cache_dir=sys.argv[1]))
"""


def test_a_cache_that_cannot_be_written(hub, digits, source):
    load(source, "config.json")
    with read_only(source.cache_dir):
        assert run_python(REMOVE, source.cache_dir).error == "DiskError"
    assert listed(source) == [(REPO, "config.json")]
    assert load(source, "config.json")[0].read_bytes() == CONFIG


# Pruning


def test_prune_takes_what_is_no_longer_used(hub, digits, source, cache):
    load(source, "config.json", "model.safetensors")
    age(cache, 40, "model.safetensors")
    would = prune(source, dry_run=True)
    assert [entry.file for entry in would] == ["model.safetensors"]
    assert len(entries(source)) == 2
    assert prune(source) == would
    assert listed(source) == [(REPO, "config.json")]
    assert not list(cache.rglob(SHA256))
    assert prune(source) == []


def test_prune_leaves_what_other_programs_fetched(hub, digits, source, cache):
    theirs = download(hub, Path(), "model.safetensors", cache_dir=cache)
    load(source, "model.safetensors", "config.json")
    prune(source, timedelta(0))
    assert theirs.read_bytes() == WEIGHTS
    assert listed(source) == []


def test_prune_takes_what_broken_downloads_left(hub, digits, source, everywhere, cache):
    load(source, "config.json")
    blobs = cache / "models--acme--digits" / "blobs"
    urls = Path(source.cache_dir) / "zoo" / "urls" / "1234"
    urls.mkdir(parents=True)
    leftovers = [blobs / f"{SHA256}.1a2b.incomplete", urls / "a.partial", urls / "a.partial.json"]
    for path in leftovers:
        path.write_bytes(b"part")
    (urls / ".lock").touch()
    prune(everywhere)
    assert all(path.exists() for path in leftovers)  # they may still be written
    for path in leftovers:
        os.utime(path, (0, 0))
    prune(everywhere)
    assert not any(path.exists() for path in leftovers)
    assert not urls.exists()
    assert listed(source) == [(REPO, "config.json")]


def test_prune_takes_features_that_no_run_reads(everywhere, source):
    folder = feature_cache(everywhere)
    for name, days in (("old", 40), ("new", 2)):
        (folder / name).mkdir(parents=True)
        (folder / name / "0.npy").write_bytes(b"features")
        past = time.time() - days * 86400
        os.utime(folder / name, (past, past))
    prune(everywhere, dry_run=True)
    prune(source)  # a single hub's
    assert {path.name for path in folder.iterdir()} == {"old", "new"}
    prune(everywhere)
    assert {path.name for path in folder.iterdir()} == {"new"}


def test_the_clients_own_view_of_the_cache_stays_clean(hub, digits, source, cache):
    from huggingface_hub import scan_cache_dir

    load(source, "config.json", "model.safetensors")
    info = scan_cache_dir(cache)
    assert info.warnings == []
    (repo,) = info.repos
    assert (repo.repo_id, repo.nb_files, repo.refs.keys()) == (REPO, 2, {"main"})
    info.delete_revisions(digits).execute()
    assert entries(source) == verify(source) == []
