"""Safetensors that are in the pull request of the hub's converter alone."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cli_fixtures import FILES
from hub_fixtures import MEMBER, WEIGHTS

import zoo
from zoo.errors import FileFormatError, LockError
from zoo.loading.locking import lock
from zoo.loading.pulling import pull
from zoo.weights.conversion import AUTHOR, TITLE
from zoo.weights.handle import Source
from zoo.weights.hub import open_repository
from zoo.weights.lockfile import Lockfile

REPO = "acme/old"
MODEL = "model.safetensors"
SHARDS = {"a.safetensors": WEIGHTS, "b.safetensors": FILES[MODEL]}


@pytest.fixture
def storage(hub):
    """A repo that has its config and a pickle on `main`."""
    main = {"config.json": FILES["config.json"], "pytorch_model.bin": b"pickle"}
    hub.storage.commit(REPO, {**main, "README.md": b"# Old"})
    return hub.storage


@pytest.fixture
def source(hub, tmp_path):
    return Source(endpoint=hub.url, cache_dir=tmp_path / "cache")


def propose(storage, files=None, *, author=AUTHOR, title=TITLE):
    """Open a pull request; the commit that it is at."""
    files = {MODEL: FILES[MODEL]} if files is None else files
    puts = [storage.add(name, content) for name, content in files.items()]
    made, _ = storage.apply(REPO, "main", puts, message=title, author=author, as_pull=True)
    return made


def asked(hub):
    paths = [request.path.removeprefix(f"/api/models/{REPO}") for request in hub.requests]
    hub.requests.clear()
    return paths


def test_all_files_come_from_the_pull_request(hub, storage, source):
    made = propose(storage)
    repository = open_repository(REPO, source)
    assert (repository.commit, repository.pull_request) == (made, "refs/pr/1")
    assert [path.read_bytes() for path in repository.weights()] == [FILES[MODEL]]
    assert repository.file("config.json").parent.name == made
    assert {file.commit for file in repository.used.values()} == {made}


def test_what_was_found_is_asked_for_once(hub, storage, source):
    propose(storage)
    paths = open_repository(REPO, source).weights()
    assert asked(hub)[:3] == ["/revision/main", "/discussions", "/revision/refs/pr/1"]
    later = propose(storage)
    for offline in (False, True):
        again = open_repository(REPO, replace(source, offline=offline))
        assert (again.weights(), again.pull_request) == (paths, "refs/pr/1")
    assert asked(hub) == []
    refreshed = open_repository(REPO, replace(source, refresh=True))
    assert (refreshed.commit, refreshed.pull_request) == (later, "refs/pr/2")


def test_a_repo_with_weights_is_not_asked_about_pull_requests(hub, storage, source):
    propose(storage)
    head = storage.commit(REPO, {MODEL: WEIGHTS})
    repository = open_repository(REPO, source)
    assert (repository.commit, repository.pull_request) == (head, None)
    assert asked(hub) == ["/revision/main"]


def test_a_file_that_a_card_names_is_weights(hub, storage, source):
    storage.commit(REPO, {"other.safetensors": WEIGHTS})
    propose(storage)
    repository = open_repository(REPO, source, None, "other.safetensors")
    assert repository.pull_request is None
    assert [p.name for p in repository.weights("other.safetensors")] == ["other.safetensors"]


@pytest.mark.parametrize("name", ["main", "refs/pr/1"])
@pytest.mark.parametrize("of", ["source", "handle"])
def test_a_named_revision_is_what_is_taken(hub, storage, source, name, of):
    made = propose(storage)
    propose(storage)
    named = replace(source, revision=name if of == "source" else None)
    repository = open_repository(REPO, named, name if of == "handle" else None)
    assert repository.pull_request is None
    assert (repository.commit == made) == (name != "main")
    assert "/discussions" not in asked(hub)


def test_the_newest_is_taken(hub, storage, source):
    propose(storage, {MODEL: WEIGHTS})
    newest = propose(storage)
    assert open_repository(REPO, source).commit == newest


@pytest.mark.parametrize(
    "why", ["impostor", "title", "closed", "no file", "stale", "changed", "none"]
)
def test_pull_requests_that_are_not_taken(hub, storage, source, why):
    """Of whom else, for what else, no more open, without the file, or of another state of main."""
    if why == "impostor":
        propose(storage, author="SFconvertb0t")
    elif why == "title":
        propose(storage, title="Adding `safetensors` variant of this model, better")
    elif why == "closed":
        propose(storage)
        storage.close_pull(REPO, 1)
    elif why == "no file":
        propose(storage, {"notes.txt": b""})
    elif why == "stale":
        propose(storage)
        storage.commit(REPO, {"pytorch_model.bin": b"another"})
    elif why == "changed":
        propose(storage, {MODEL: WEIGHTS, "config.json": b"{}"})
    repository = open_repository(REPO, source)
    assert (repository.commit, repository.pull_request) == (
        storage.repo(REPO).branches["main"],
        None,
    )
    with pytest.raises(FileFormatError, match=r"only pytorch_model\.bin.*SFconvertbot"):
        repository.weights()


def test_a_card_names_its_pull_request(hub, storage, source):
    """Which is asked for first, and need not be listed; where it has gone, the list is asked."""
    made = propose(storage)
    repository = open_repository(REPO, source, None, MODEL, "refs/pr/1")
    assert (repository.commit, repository.pull_request) == (made, "refs/pr/1")
    assert "/discussions" not in asked(hub)
    other = replace(source, cache_dir=source.cache_dir / "other")
    assert open_repository(REPO, other, None, MODEL, "refs/pr/7").commit == made
    head = storage.commit(REPO, {MODEL: WEIGHTS})
    merged = open_repository(REPO, replace(source, refresh=True), None, MODEL, "refs/pr/1")
    assert (merged.commit, merged.pull_request) == (head, None)


def test_cards_that_need_it_name_it():
    card = zoo.info("electra-base-discriminator")
    assert card.weights.pull_request == "refs/pr/4"


def test_an_impostor_beside_the_converter(hub, storage, source):
    made = propose(storage)
    propose(storage, {MODEL: WEIGHTS}, author="mallory")
    propose(storage, {"x.safetensors": WEIGHTS})
    assert open_repository(REPO, source).commit == made


def test_a_page_may_have_changed_since(hub, storage, source):
    """As a README.md does; transformers would have the weights converted once more."""
    made = propose(storage)
    storage.commit(REPO, {"README.md": b"# New"})
    assert open_repository(REPO, source).commit == made


def test_shards(hub, storage, source):
    index = {"weight_map": dict(zip("ab", SHARDS, strict=True))}
    propose(storage, {**SHARDS, "model.safetensors.index.json": json.dumps(index).encode()})
    for name in (None, MODEL):  # the second is what a card says that says nothing
        assert [p.name for p in open_repository(REPO, source).weights(name)] == list(SHARDS)


def test_a_hub_without_discussions(hub, storage, source):
    from zoo.hub import Fault

    propose(storage)
    for status in (404, 403):
        hub.faults.add(Fault(path="*/discussions", status=status, times=1))
        refreshed = replace(source, refresh=True)
        assert open_repository(REPO, refreshed).pull_request is None
    assert open_repository(REPO, replace(source, refresh=True)).pull_request == "refs/pr/1"


def test_offline_before_it_was_asked(hub, storage, source):
    propose(storage)
    open_repository(REPO, source, "main").file("config.json")
    offline = open_repository(REPO, replace(source, offline=True))
    assert offline.pull_request is None
    with pytest.raises(FileFormatError, match="none is known offline"):
        offline.weights()


def test_pull_lock_and_load_say_it(hub, storage, tmp_path):
    pytest.importorskip("keras")
    bundled = Path(zoo.__file__).parent / "bundled" / "resnet_mini.digits"
    storage.commit(REPO, {"config.json": bundled / "config.json"})
    weights = {MODEL: bundled / MODEL}
    made = propose(storage, weights)
    where = {"endpoint": hub.url, "cache_dir": tmp_path / "cache"}
    pulled = pull(REPO, **where)
    assert (pulled.commit, pulled.pull_request) == (made, "refs/pr/1")
    model = zoo.load(REPO, **where)
    assert (model.load_report.commit, model.load_report.pull_request) == (made, "refs/pr/1")
    assert "refs/pr/1" in str(model.load_report)
    path = tmp_path / "zoo.lock"
    lock(REPO, path, **where)
    assert {(file.file, file.commit) for file in Lockfile.read(path).files} == {
        ("config.json", made),
        (MODEL, made),
    }
    newer = propose(storage, weights)
    assert zoo.load(REPO, lockfile=path, refresh=True, **where).load_report.commit == made
    with pytest.raises(LockError):
        zoo.load(f"{REPO}@{newer}", lockfile=path, **where)


def test_the_hub_lists_pull_requests(hub, storage):
    from huggingface_hub import HfApi

    for n in range(60):
        storage.open_pull(REPO, f"Change {n}", "ada" if n % 2 else "bob")
    storage.close_pull(REPO, 1)
    api = HfApi(endpoint=hub.url, token=MEMBER)

    def numbers(**query):
        return [found.num for found in api.get_repo_discussions(REPO, **query)]

    assert numbers() == list(range(60, 0, -1))
    assert numbers(author="bob", discussion_status="open") == list(range(59, 1, -2))
    assert numbers(discussion_status="closed") == [1]
    assert numbers(discussion_type="discussion") == []
    api.change_discussion_status(REPO, 1, "open")
    api.change_discussion_status(REPO, 2, "closed")
    assert numbers(discussion_status="closed") == [2]
    assert api.get_discussion_details(REPO, 2).status == "closed"
