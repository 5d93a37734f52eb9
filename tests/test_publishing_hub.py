"""A hub repo as a target: one commit on what was looked at, or clear errors and nothing changed."""

import hashlib
import socket
import threading
import time
from dataclasses import replace

import pytest
from hub_fixtures import CONFIG, MEMBER, README, REPO, STRANGER, WEIGHTS, ask
from publishing_proxy import proxy
from weights_processes import run_python

from zoo.errors import (
    AccessError,
    DownloadError,
    HandleError,
    IntegrityError,
    NotFoundError,
    OfflineError,
    UploadError,
)
from zoo.hub import Fault, HubServer, Storage
from zoo.publishing.hub import HubTarget
from zoo.publishing.target import File
from zoo.weights.handle import Source

# of how the hub's client calls its own HTTP library to send a content
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")

CONTENTS = {
    "README.md": README,
    "config.json": CONFIG,
    "model.safetensors": WEIGHTS,
    "1_Pooling/config.json": b"{}",
}
WRITES = {"POST", "PUT", "PATCH", "DELETE"}


@pytest.fixture
def make(tmp_path):
    """Makes files to publish of contents by name."""

    def files(contents=CONTENTS):
        for name, content in contents.items():
            path = tmp_path / "staged" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return [File.of(tmp_path / "staged", name) for name in contents]

    return files


@pytest.fixture
def at(hub, tmp_path):
    """Makes targets on the hub, for a member of its owner."""

    def target(repo=REPO, branch="main", token=MEMBER, endpoint=hub.url, **options):
        source = Source(endpoint=endpoint, token=token, cache_dir=tmp_path / "cache")
        return HubTarget(repo, branch, source, **options)

    return target


@pytest.fixture
def no_pauses(monkeypatch):
    """The hub's client and zoo ask again at once."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def send(target, files, remove=()):
    return target.send(files, remove, target.look())


def contents(hub, repo=REPO, revision="main"):
    """What is in a repo, by name, but for what the hub keeps there itself."""
    commit = hub.storage.commit_at(hub.storage.repo(repo), revision)
    read = {name: hub.storage.blob_path(blob).read_bytes() for name, blob in commit.files.items()}
    return {name: content for name, content in read.items() if name != ".gitattributes"}


def exists(hub, repo=REPO):
    return any(found.id == repo for found in hub.storage.repos())


def writes(hub):
    return [(r.method, r.path) for r in hub.requests if r.method in WRITES]


# What is there


def test_a_look_at_nothing_writes_nothing(hub, at):
    there = at(private=True, tag="v1").look()
    assert (there.commit, there.files, there.missing) == (None, {}, "repo")
    assert writes(hub) == []


def test_a_look_at_a_repo(hub, at, digits):
    there = at().look()
    assert (there.commit, there.missing) == (digits, None)
    assert there.config == CONFIG.decode()
    assert there.readme == README.decode()
    assert there.files["model.safetensors"].etag == hashlib.sha256(WEIGHTS).hexdigest()
    assert writes(hub) == []


def test_a_new_branch_starts_where_main_is(hub, at, digits):
    there = at(branch="next").look()
    assert (there.commit, there.missing) == (digits, "branch")


def test_which_files_are_the_same(hub, at, digits, make):
    files = {file.name: file for file in make(CONTENTS | {"config.json": b"{}"})}
    there = at().look().files
    assert files["model.safetensors"].is_same(there["model.safetensors"])  # by sha256
    assert files["README.md"].is_same(there["README.md"])  # by git's sha1
    assert not files["config.json"].is_same(there["config.json"])
    assert not files["config.json"].is_same(None)


@pytest.mark.parametrize("hidden", [True, False])
def test_private_insists_on_a_private_repo(hub, at, digits, hidden):
    hub.storage.set_private(REPO, hidden)
    (check,) = at(private=True).look().checks
    assert (check.name, check.passed) == ("private", hidden)
    assert at().look().checks == ()


def test_a_tag_has_to_be_free(hub, at, digits):
    hub.storage.tag(REPO, "v1")
    for tag, free in [("v1", False), ("v2", True)]:
        (check,) = at(tag=tag).look().checks
        assert (check.name, check.passed) == ("tag", free)


# One commit


def test_a_new_repo(hub, at, make):
    sent = send(at(message="First"), make())
    assert contents(hub) == CONTENTS
    repo = hub.storage.repo(REPO)
    assert sent.commit == repo.branches["main"]
    assert sent.url == f"{hub.url}/{REPO}"
    assert not repo.private
    log = [commit.message for commit in hub.storage.history(repo, commit_of(hub, sent))]
    assert log[0] == "First"
    assert len(log) == 2  # the other one was made with the repo


def commit_of(hub, sent):
    return hub.storage.commit_at(hub.storage.repo(REPO), sent.commit)


def test_a_new_private_repo_is_private_from_the_first_byte(hub, at, make):
    send(at(private=True), make())
    assert hub.storage.repo(REPO).private
    assert ask(hub, f"/{REPO}/resolve/main/config.json")[0] == 404


def test_files_are_changed_added_removed_and_others_stay(hub, at, digits, make):
    hub.storage.commit(REPO, {"old.txt": b"old", "mine.txt": b"mine"})
    new = {"config.json": b"{}", "LICENSE": b"MIT"}
    parent = hub.storage.repo(REPO).branches["main"]
    sent = send(at(), make(new), ["old.txt"])
    here = {"README.md": README, "model.safetensors": WEIGHTS, "mine.txt": b"mine"}
    assert contents(hub) == here | new
    assert commit_of(hub, sent).parent == parent


def test_the_same_again_sends_nothing(hub, at, make):
    first = send(at(), make())
    hub.requests.clear()
    assert send(at(), make()).commit == first.commit
    assert writes(hub) == []


def test_a_tag_names_the_commit(hub, at, make):
    sent = send(at(tag="v1"), make())
    assert hub.storage.repo(REPO).tags == {"v1": sent.commit}
    again = send(at(tag="v2"), make())
    assert hub.storage.repo(REPO).tags == {"v1": sent.commit, "v2": again.commit}


@pytest.mark.parametrize("with_repo", [True, False])
def test_another_branch(hub, at, make, with_repo):
    if with_repo:
        hub.storage.commit(REPO, {"config.json": b"{}"})
    sent = send(at(branch="next/2"), make())
    assert contents(hub, revision="next/2") == CONTENTS
    assert contents(hub) == ({"config.json": b"{}"} if with_repo else {})
    assert sent.url == f"{hub.url}/{REPO}/tree/next/2"


def test_a_pull_request_leaves_the_branch_as_it_is(hub, at, digits, make):
    files = make(CONTENTS | {"config.json": b"{}"})
    sent = send(at(create_pr=True), files)
    assert hub.storage.repo(REPO).branches == {"main": digits}
    assert commit_of(hub, sent).parent == digits
    assert contents(hub, revision="refs/pr/1")["config.json"] == b"{}"
    assert sent.url.startswith(f"{hub.url}/{REPO}/")


def test_a_file_that_changed_after_the_gate_is_not_sent(hub, at, digits, make):
    files = [replace(file, sha256="0" * 64) for file in make({"LICENSE": b"MIT"})]
    with pytest.raises(IntegrityError, match=r"LICENSE arrived at .*another content"):
        send(at(), files)
    assert hub.storage.repo(REPO).branches["main"] == digits


def test_what_arrived_is_compared(hub, at, digits, make, monkeypatch):
    (file,) = make({"LICENSE": b"MIT"})
    target = at()
    there = target.look()
    commit = target._writer.commit

    def tampered(files, *arguments, **options):
        return commit(make({"LICENSE": b"Mine"}), *arguments, **options)

    monkeypatch.setattr(target._writer, "commit", tampered)
    with pytest.raises(IntegrityError, match="LICENSE arrived at"):
        target.send([file], (), there)


# Two at once


def test_a_change_meanwhile_is_neither_lost_nor_overwritten(hub, at, digits, make):
    target = at()
    there = target.look()
    theirs = hub.storage.commit(REPO, {"config.json": b'{"theirs": 1}'})
    with pytest.raises(UploadError, match=r"412.*has changed since.*was kept.*Publish again"):
        target.send(make(CONTENTS | {"config.json": b"{}"}), (), there)
    assert hub.storage.repo(REPO).branches["main"] == theirs
    send(at(), make(CONTENTS | {"config.json": b"{}"}))
    assert contents(hub)["config.json"] == b"{}"


def test_two_publish_at_once_on_one_parent(hub, at, digits, make):
    """One wins, the other is told; nothing of it is there."""
    targets = [at(), at()]
    both = [target.look() for target in targets]
    files = [make({"config.json": content}) for content in (b'{"a": 1}', b'{"b": 2}')]
    files[0] = [replace(f, path=f.path.rename(f.path.with_suffix(".a"))) for f in files[0]]
    files[0][0].path.write_bytes(b'{"a": 1}')
    make({"config.json": b'{"b": 2}'})
    results = [None, None]

    def run(index):
        try:
            results[index] = targets[index].send(files[index], (), both[index])
        except UploadError as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (lost,) = [index for index in range(2) if isinstance(results[index], UploadError)]
    assert "412" in str(results[lost])
    assert contents(hub)["config.json"] == (b'{"a": 1}', b'{"b": 2}')[1 - lost]
    assert hub.storage.repo(REPO).branches["main"] == results[1 - lost].commit


def test_a_repo_that_another_made_meanwhile(hub, at, make):
    target = at()
    there = target.look()
    theirs = hub.storage.commit(REPO, {"config.json": b"{}"})
    with pytest.raises(UploadError, match=r"409.*made just now"):
        target.send(make(), (), there)
    assert hub.storage.repo(REPO).branches["main"] == theirs


# Tokens


def test_a_wrong_token(hub, at, make):
    with pytest.raises(AccessError, match="token that was sent"):
        at(token="hf_wrong").look()
    assert writes(hub) == []


@pytest.mark.parametrize("repo", [REPO, "bob/digits"])
def test_a_token_that_may_not_write(hub, at, make, repo):
    """Of a stranger, and of the owner: it may only read."""
    with pytest.raises(AccessError, match=r"403.*right to write"):
        send(at(repo, token=STRANGER), make())
    assert not exists(hub, repo)
    hub.storage.commit(repo, {"config.json": b"{}"})
    with pytest.raises(AccessError, match=r"403.*right to write"):
        send(at(repo, token=STRANGER), make())
    assert contents(hub, repo) == {"config.json": b"{}"}


def test_no_token(hub, at, make):
    with pytest.raises(
        AccessError, match=r"401.*valid token: give token= \(--token\), or set HF_ENDPOINT"
    ):
        send(at(token=False), make())
    assert not exists(hub)


def test_the_ambient_token_goes_to_no_other_endpoint(hub, at, make, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", MEMBER)
    with pytest.raises(AccessError):
        send(at(token=None), make())
    assert not any("authorization" in request.headers for request in hub.requests)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    send(at(token=None), make())
    assert contents(hub) == CONTENTS


def test_the_token_goes_to_no_other_host(hub, at, digits, make):
    """Not to the place that the hub names for the contents, either."""
    with proxy(hub) as elsewhere:

        def point_elsewhere(method, path, body):
            is_batch = path.endswith("/info/lfs/objects/batch")
            return body.replace(here.url.encode(), elsewhere.url.encode()) if is_batch else body

        with proxy(hub, point_elsewhere) as here:
            send(at(endpoint=here.url), make(CONTENTS | {"big.safetensors": WEIGHTS * 2}))
    assert contents(hub)["big.safetensors"] == WEIGHTS * 2
    assert [method for method, _, _ in elsewhere.requests] == ["PUT", "POST"]
    headers = [name.lower() for _, _, headers in elsewhere.requests for name in headers]
    assert "authorization" not in headers


# Faults

BEFORE = ["*/preupload/*", "*/objects/batch", "/api/lfs/*"]
STATUSES = [
    (400, UploadError, "Try again"),
    (401, AccessError, "valid token"),
    (403, AccessError, "right to write"),
    (404, NotFoundError, "is not there"),
    (409, UploadError, "there already"),
    (412, UploadError, "has changed since"),
    (413, UploadError, "max_shard_size="),
    (429, UploadError, "limits the rate"),
    (500, UploadError, "Try again in a while"),
]


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize(
    ("path", "status", "error", "advice"),
    [("*/commit/*", *row) for row in STATUSES]
    + [(path, *STATUSES[row]) for path in BEFORE for row in (2, 6, 8)],
)
def test_statuses(hub, at, digits, make, path, status, error, advice):
    files = make(CONTENTS | {"config.json": b"{}", "model.safetensors": WEIGHTS * 2})
    hub.faults.add(Fault(path, status=status))
    with pytest.raises(
        error, match=rf"status {status}\).*Nothing half-written.*{advice}"
    ) as caught:
        send(at(), files)
    assert type(caught.value) is error
    assert hub.storage.repo(REPO).branches["main"] == digits
    hub.faults.clear()
    send(at(), files)
    assert contents(hub)["config.json"] == b"{}"


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("path", BEFORE)
@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_hub_is_asked_again(hub, at, digits, make, path, status):
    hub.faults.add(Fault(path, status=status, times=2))
    send(at(), make(CONTENTS | {"model.safetensors": WEIGHTS * 2}))
    assert contents(hub)["model.safetensors"] == WEIGHTS * 2


def test_a_hub_that_asks_for_too_long_is_not_waited_for(hub, at, digits, make):
    hub.faults.add(Fault("/api/lfs/*", status=429, retry_after=3600))
    start = time.monotonic()
    with pytest.raises(DownloadError, match="asks to wait 3600 s"):
        send(at(), make(CONTENTS | {"model.safetensors": WEIGHTS * 2}))
    assert time.monotonic() - start < 5
    assert hub.storage.repo(REPO).branches["main"] == digits


@pytest.mark.usefixtures("no_pauses")
def test_a_hub_that_says_nothing_is_given_up(hub, at, digits, make, monkeypatch):
    monkeypatch.setattr("zoo.publishing.writer._LONGEST_SILENCE", 0.2)
    hub.faults.add(Fault("*/commit/*", stall=30))
    with pytest.raises(UploadError, match="Check the network"):
        send(at(), make({"config.json": b"{}"}))
    assert hub.storage.repo(REPO).branches["main"] == digits


def test_no_network(at, make):
    with socket.socket() as closed:  # bound, and nobody listens
        closed.bind(("127.0.0.1", 0))
        start = time.monotonic()
        with pytest.raises(DownloadError, match="Check the network"):
            at(endpoint=f"http://127.0.0.1:{closed.getsockname()[1]}").look()
        assert time.monotonic() - start < 5


def test_offline(hub, at, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OfflineError, match="or publish to a folder"):
        at().look()
    assert hub.requests == []


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("path", ["/api/lfs/", "/commit/main"])
def test_a_hub_that_dies_in_the_middle(tmp_path, at, make, path):
    """While a content is sent, and while the commit is."""
    from hub_fixtures import TOKENS

    files = make(CONTENTS | {"model.safetensors": WEIGHTS * 2})
    storage = Storage(tmp_path / "other")
    old = storage.commit(REPO, {"model.safetensors": WEIGHTS})
    with HubServer(storage, tokens=TOKENS) as server:
        server.faults.add(Fault(f"*{path}*", stall=30))
        target = at(endpoint=server.url)
        there, errors = target.look(), []

        def run():
            try:
                target.send(files, (), there)
            except UploadError as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        while not any(path in request.path for request in server.requests):
            assert thread.is_alive()
    thread.join(30)
    assert "Nothing half-written" in str(errors[0])
    with HubServer(Storage(tmp_path / "other"), tokens=TOKENS) as server:
        assert contents(server) == {"model.safetensors": WEIGHTS}
        assert server.storage.repo(REPO).branches["main"] == old
        send(at(endpoint=server.url), files)
        assert contents(server) == CONTENTS | {"model.safetensors": WEIGHTS * 2}


@pytest.mark.usefixtures("no_pauses")
def test_a_commit_whose_answer_is_lost_is_found(hub, at, digits, make):
    def lose(method, path, body):
        return None if "/commit/" in path and method == "POST" else body

    with proxy(hub, lose) as server:
        sent = send(at(endpoint=server.url), make(CONTENTS | {"config.json": b"{}"}))
    assert sent.commit == hub.storage.repo(REPO).branches["main"] != digits
    assert [path for _, path, _ in server.requests].count(f"/api/models/{REPO}/commit/main") == 1


def test_front_matter_that_the_hub_refuses(hub, at, digits, make):
    hub.faults.add(Fault("/api/validate-yaml", status=400))
    with pytest.raises(UploadError, match=r"Invalid metadata in README\.md"):
        send(at(), make({"README.md": b"# New"}))
    assert hub.storage.repo(REPO).branches["main"] == digits


def test_a_name_that_is_none(at):
    with pytest.raises(HandleError, match="no name of a hub repo"):
        at("acme/--").look()


# Xet

PUBLISH = """
from pathlib import Path
from zoo.publishing.hub import HubTarget
from zoo.publishing.target import File
from zoo.weights.handle import Source
from huggingface_hub.utils._runtime import is_xet_available
assert is_xet_available()
folder = Path(sys.argv[2])
files = [File.of(folder, path.name) for path in folder.glob("*.*")]
source = Source(endpoint=sys.argv[1], token=sys.argv[3], cache_dir=folder / "cache")
target = HubTarget("acme/digits", "main", source)
print(target.send(files, (), target.look()).commit)
"""


def test_no_xet_towards_a_hub_of_ones_own(hub, make, tmp_path):
    """hf_xet stores at any place that a server names, so it stays off, though it is installed."""
    pytest.importorskip("hf_xet")
    make({name: content for name, content in CONTENTS.items() if "/" not in name})
    done = run_python(PUBLISH, hub.url, tmp_path / "staged", MEMBER, HF_HUB_DISABLE_XET="0")
    assert done.message == ""
    assert contents(hub)["model.safetensors"] == WEIGHTS
    assert not any("xet" in request.path for request in hub.requests)
