"""The hub's reading half, driven by the real `huggingface_hub` client and by raw requests."""

import hashlib
import json
import os
import subprocess
import sys
import time
import tracemalloc
from itertools import islice
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from hub_fixtures import (
    CONFIG,
    MEMBER,
    README,
    REPO,
    STRANGER,
    WEIGHTS,
    ask,
    connect,
    download,
    git_oid,
)

from zoo.hub import Fault, HubServer, Storage

CLIENTS = {"own": sys.executable, "other": os.environ.get("ZOO_HUB_CLIENT_PYTHON")}


def client(hub, token=False):
    from huggingface_hub import HfApi

    return HfApi(endpoint=hub.url, token=token)


# The real client, in each version that is here


@pytest.mark.parametrize("environment", CLIENTS)
def test_real_client(hub, tmp_path, environment):
    python = CLIENTS[environment]
    if python is None:
        pytest.skip("ZOO_HUB_CLIENT_PYTHON names no Python with another huggingface_hub")
    expected = _fill(hub.storage)
    script = Path(__file__).with_name("hub_client_script.py")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    seen = subprocess.run(
        [python, "-W", "error", script, hub.url, tmp_path / "cache", MEMBER, STRANGER],
        env={**kept, "HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert seen.returncode == 0, seen.stderr
    assert json.loads(seen.stdout) == expected
    assert hub.requests[0].path == "/api/agent-harnesses"


def _fill(storage):
    """Repos for the script, and what it is to see of them."""
    odd = "sub/a b#ü%.txt"
    first = storage.commit(
        REPO, {"config.json": b"1", "README.md": README, odd: "é".encode()}, message="First"
    )
    storage.tag(REPO, "v1")
    second = storage.commit(
        REPO, {"config.json": b"2", "model.safetensors": WEIGHTS}, message="Second"
    )
    third = storage.commit(REPO, {"config.json": b"3"}, branch="try/it")
    storage.commit("acme/secret", {"config.json": b"private"})
    storage.set_private("acme/secret")
    storage.commit("acme/gated", {"config.json": b"gated"})
    storage.set_gated("acme/gated")
    storage.commit("bob/other", {"README.md": b"---\n: [\n---\n"})
    sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    pointer = (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(WEIGHTS)}\n"
    )
    names = ["README.md", "config.json", "model.safetensors", odd]
    return {
        "sha": second,
        "tags": ["digits", "image-classification", "license:mit"],
        "files": {
            "README.md": [len(README), git_oid(README), None],
            "config.json": [1, git_oid(b"2"), None],
            "model.safetensors": [len(WEIGHTS), git_oid(pointer.encode()), sha256],
            odd: [2, git_oid("é".encode()), None],
        },
        "at tag": first,
        "tree": [*names[:3], "sub", odd],
        "root": [*names[:3], "sub"],
        "last commits": ["First", "Second"],
        "refs": [
            ["refs/heads/main", second],
            ["refs/heads/try/it", third],
            ["refs/tags/v1", first],
        ],
        "commits": [[second, "Second"], [first, "First"]],
        "tensors": {"w": ["F32", [2, 3]]},
        "whoami": "ada",
        "exists": [True, False],
        "listings": {
            "author": ["acme/digits", "acme/gated"],
            "search": ["acme/digits"],
            "filter": ["acme/digits"],
            "task": ["acme/digits"],
            "limit": ["acme/digits"],
            "member": ["acme/digits", "acme/gated", "acme/secret", "bob/other"],
        },
        "download": "é",
        "of tag": "1",
        "of branch": "3",
        "private": "private",
        "gated": "gated",
        "snapshot": names,
        "errors": {
            "no repo": "RepositoryNotFoundError",
            "no repo info": "RepositoryNotFoundError",
            "no owner": "RepositoryNotFoundError",
            "no owner info": "RepositoryNotFoundError",
            "no revision": "RevisionNotFoundError",
            "no revision info": "RevisionNotFoundError",
            "no file": "RemoteEntryNotFoundError",
            "no folder": "RemoteEntryNotFoundError",
            "private": "RepositoryNotFoundError",
            "private, stranger": "RepositoryNotFoundError",
            "gated": "GatedRepoError",
            "gated, stranger": "GatedRepoError",
            "bad token": "HfHubHTTPError",
            "bad whoami": "HfHubHTTPError",
        },
    }


def test_cached_commit_asks_nothing(hub, digits, tmp_path):
    first = download(hub, tmp_path, "config.json", revision=digits)
    assert [request.method for request in hub.requests] == ["HEAD", "GET"]
    assert hub.requests[0].headers["accept-encoding"] == "identity"
    hub.requests.clear()
    assert download(hub, tmp_path, "config.json", revision=digits) == first
    assert hub.requests == []


def test_missing_file_is_remembered_by_commit(hub, digits, tmp_path):
    from huggingface_hub.errors import EntryNotFoundError

    with pytest.raises(EntryNotFoundError, match=r"No 'confg\.json'.*Did you mean 'config\.json'"):
        download(hub, tmp_path, "confg.json")
    assert (tmp_path / f"cache/models--acme--digits/.no_exist/{digits}/confg.json").exists()


def test_branch_that_moves_between_head_and_get(tmp_path):
    class MovingStorage(Storage):
        def commit_at(self, repo, revision):
            found = super().commit_at(repo, revision)
            if revision == "main":
                self.commit(REPO, {"config.json": b"new"})
            return found

    storage = MovingStorage(tmp_path / "hub")
    before = storage.commit(REPO, {"config.json": b"old"})
    with HubServer(storage) as hub:
        file = download(hub, tmp_path, "config.json")
    assert file.read_bytes() == b"old"
    assert file.parent.name == before
    assert file.resolve().name == git_oid(b"old")


def test_checksums_as_the_client_verifies_them(hub, digits, tmp_path):
    api = client(hub)
    api.snapshot_download(REPO, cache_dir=tmp_path)
    checked = api.verify_repo_checksums(REPO, cache_dir=tmp_path)
    assert (checked.checked_count, checked.mismatches) == (3, [])


def test_lists_come_in_pages(hub, digits, monkeypatch):
    monkeypatch.setattr("zoo.hub.reading.PAGE", 2)
    monkeypatch.setattr("zoo.hub.reading.LOG_PAGE", 2)
    hub.storage.commit(REPO, {"sub/ü b.txt": b"", "sub/c.txt": b"", "sub-way": b""})
    hub.storage.commit("bob/x", {"a": b""})
    log = [hub.storage.commit("bob/y", {"a": b""}) for _ in range(5)]
    api = client(hub)
    tree = api.list_repo_tree(REPO, recursive=True, expand=True)
    head = [entry.path for entry in islice(tree, 2)]
    hub.storage.commit(REPO, {"later.txt": b""})  # a listing under way stays with its commit
    assert head + [entry.path for entry in tree] == [
        "README.md",
        "config.json",
        "model.safetensors",
        "sub",
        "sub-way",
        "sub/c.txt",
        "sub/ü b.txt",
    ]
    assert [e.path for e in api.list_repo_tree(REPO, "sub")] == ["sub/c.txt", "sub/ü b.txt"]
    assert [model.id for model in api.list_models()] == ["acme/digits", "bob/x", "bob/y"]
    assert [commit.commit_id for commit in api.list_repo_commits("bob/y")] == log[::-1]


def test_limit_must_be_positive(hub):
    limits = ["0", "-1", "x", quote("²"), ""]
    assert [ask(hub, f"/api/models?limit={limit}")[0] for limit in limits] == [400] * 5
    assert ask(hub, "/api/models?limit=1")[0] == 200


# Downloads


@pytest.mark.parametrize(
    ("header", "status", "content_range", "expected"),
    [
        (None, 200, None, b"0123456789"),
        ("bytes=0-3", 206, "bytes 0-3/10", b"0123"),
        ("bytes=8-", 206, "bytes 8-9/10", b"89"),
        ("bytes=-2", 206, "bytes 8-9/10", b"89"),
        ("bytes=0-100000", 206, "bytes 0-9/10", b"0123456789"),
        ("bytes=10-", 416, "bytes */10", b""),
    ],
)
def test_ranges(hub, header, status, content_range, expected):
    commit = hub.storage.commit(REPO, {"digits.txt": b"0123456789"})
    answer = ask(
        hub,
        f"/{REPO}/resolve/{commit}/digits.txt",
        headers={"Range": header} if header else {},
    )
    assert (answer[0], answer[1]["Content-Range"]) == (status, content_range)
    assert answer[2] == expected or status == 416


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_headers_of_files(hub, digits, method):
    status, headers, _ = ask(hub, f"/{REPO}/resolve/main/model.safetensors?download=true", method)
    at_commit = f"/{REPO}/resolve/{digits}/model.safetensors"
    assert (status, headers["Location"], headers["X-Repo-Commit"]) == (307, at_commit, digits)
    etag = f'"{hashlib.sha256(WEIGHTS).hexdigest()}"'
    status, headers, _ = ask(hub, at_commit, method)
    assert (status, headers["ETag"], headers["X-Linked-Etag"]) == (200, etag, etag)
    assert headers["X-Linked-Size"] == headers["Content-Length"] == str(len(WEIGHTS))
    status, headers, _ = ask(hub, f"/{REPO}/resolve/{digits}/config.json", method)
    assert (status, headers["ETag"]) == (200, f'"{git_oid(CONFIG)}"')
    assert headers["X-Linked-Etag"] is None


def test_resume_after_a_cut(hub, tmp_path):
    content = np.random.default_rng(0).bytes(12 << 20)
    hub.storage.commit(REPO, {"model.safetensors": content})
    hub.faults.add(Fault("*.safetensors", cut_after=11 << 20, times=1))
    assert download(hub, tmp_path, "model.safetensors").read_bytes() == content
    gets = [request.headers.get("range") for request in hub.requests if request.method == "GET"]
    assert gets == [None, f"bytes={10 << 20}-"]


def test_large_files_pass_in_pieces(hub, tmp_path):
    size = 64 << 20
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(size)
    tracemalloc.start()
    try:
        commit = hub.storage.commit(REPO, {"big.bin": tmp_path / "sparse"})
        connection = connect(hub)
        connection.request("GET", f"/{REPO}/resolve/{commit}/big.bin")
        with connection.getresponse() as response:
            time.sleep(0.2)  # a reader that is slow to start must not fill the server's memory
            received = sum(map(len, iter(lambda: response.read(1 << 16), b"")))
        connection.close()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert received == size
    assert peak < 8 << 20


# What a client may not do

EVIL_PATHS = [
    "../repo.json",
    "%2e%2e/repo.json",
    "..%2frepo.json",
    "a/../../repo.json",
    "a%2f..%2f..%2frepo.json",
    "./config.json",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "a//b",
    "..%5crepo.json",
    "config.json%00",
    "a%0d%0aX-Evil:%201",
    "%ff",
]


@pytest.mark.parametrize("route", ["/acme/digits/resolve", "/api/models/acme/digits/tree"])
def test_paths_stay_inside_the_repo(hub, digits, route):
    for path in EVIL_PATHS:
        status, headers, _ = ask(hub, f"{route}/main/{path}")
        assert (path, status, headers["X-Evil"]) == (path, 400, None)
        assert headers["X-Error-Message"]


def test_form_paths_stay_inside_the_repo(hub, digits):
    address = f"/api/models/{REPO}/paths-info/main"
    for path in EVIL_PATHS[:-1]:
        assert (path, ask(hub, address, "POST", body=f"paths={path}")[0]) == (path, 400)
    assert json.loads(ask(hub, address, "POST", body="paths=%ff")[2]) == []


@pytest.mark.parametrize("address", ["/api/models/{}", "/{}/resolve/main/config.json"])
def test_repo_ids_stay_inside_the_storage(hub, digits, address):
    for repo in ["../repos", "%2e%2e/acme", "acme/..%2facme%2fdigits", "acme/%00", "acme/.."]:
        status, headers, _ = ask(hub, address.format(repo))
        assert (repo, status, headers["X-Error-Code"]) == (repo, 404, "RepoNotFound")


def test_revisions_stay_inside_the_repo(hub, digits):
    for revision in ["..%2f..%2frepo", "%2e%2e", "0" * 40, "%00", "a" * 5000]:
        status, headers, _ = ask(hub, f"/{REPO}/resolve/{revision}/config.json")
        assert (revision, status) == (revision, 404)
        assert headers["X-Error-Code"] == "RevisionNotFound"


def test_form_has_a_limit(hub, digits):
    answer = ask(
        hub, f"/api/models/{REPO}/paths-info/main", "POST", body="paths=" + "a" * 1_100_000
    )
    assert answer[0] == 413


def test_private_repo_is_not_there(hub, digits):
    hub.storage.set_private(REPO)
    bearer = {"Authorization": f"Bearer {MEMBER}"}
    for route in ["", "/revision/main", "/refs", "/tree/main", "/commits/main"]:
        hidden, headers, _ = ask(hub, f"/api/models/{REPO}{route}")
        assert (route, hidden, headers["X-Error-Code"]) == (route, 404, "RepoNotFound")
        assert ask(hub, f"/api/models/{REPO}{route}", headers=bearer)[0] == 200
    hub.storage.set_private(REPO, False)
    assert ask(hub, f"/api/models/{REPO}")[0] == 200


@pytest.mark.parametrize(("token", "status"), [(None, 401), (STRANGER, 403), (MEMBER, 200)])
def test_gated_repo_shows_its_files_to_members(hub, digits, token, status):
    hub.storage.set_gated(REPO)
    bearer = {"Authorization": f"Bearer {token}"} if token else {}
    assert ask(hub, f"/{REPO}/resolve/{digits}/config.json", "HEAD", bearer)[0] == status
    assert ask(hub, f"/api/models/{REPO}", headers=bearer)[0] == 200


def test_bad_credentials_are_refused_everywhere(hub, digits):
    for path in ["/api/models", f"/api/models/{REPO}", f"/{REPO}/resolve/main/config.json"]:
        for header in ["Bearer nobody", f"Basic {MEMBER}", ""]:
            status, headers, _ = ask(hub, path, headers={"Authorization": header})
            assert (path, header, status) == (path, header, 401)
            assert headers["X-Error-Message"] == "Invalid credentials in Authorization header"


def test_unknown_addresses(hub, digits):
    assert ask(hub, "/api/datasets/acme/digits")[0] == 404
    assert ask(hub, f"/api/models/{REPO}/refs", "DELETE")[0] == 405
    status, headers, _ = ask(hub, "/api/whoami-v2")
    assert (status, headers["X-Error-Message"]) == (401, "This address needs an access token.")


# From start to end


@pytest.mark.parametrize("stalled", [False, True])
def test_server_ends_quickly(tmp_path, stalled):
    with HubServer(Storage(tmp_path)) as hub:
        connection = connect(hub, timeout=0.5)
        connection.request("GET", "/api/models")
        assert connection.getresponse().read() == b"[]"  # and the connection stays open
        if stalled:
            hub.faults.add(Fault("*", stall=60))
            connection.request("GET", "/api/models")
            with pytest.raises(TimeoutError):
                connection.getresponse()
        start = time.monotonic()
    connection.close()
    assert time.monotonic() - start < 3
    with pytest.raises(ConnectionRefusedError):
        ask(hub, "/api/models")
