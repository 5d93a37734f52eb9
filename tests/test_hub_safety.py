"""What the hub's writing half refuses, and what is left when an upload goes wrong."""

import base64
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from types import SimpleNamespace
from urllib.parse import quote

import pytest
from hub_fixtures import (
    MEMBER,
    OUTSIDER,
    READER,
    REPO,
    STRANGER,
    TOKENS,
    WEIGHTS,
    ask,
    batch,
    broken_off,
    commit,
    connect,
    href,
    inline,
    send,
    stored,
)

from zoo.errors import ConfigError
from zoo.hub import HubServer, Storage, User
from zoo.hub.access import read_tokens
from zoo.hub.objects import Put
from zoo.hub.web import Limits

CONTENT = b"large" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
LFS_FILE = ("lfsFile", {"path": "big.bin", "algo": "sha256", "oid": SHA256, "size": len(CONTENT)})
API = f"/api/models/{REPO}"

WRITES = [
    ("POST", "/api/repos/create", {"name": "new", "organization": "acme"}),
    ("DELETE", "/api/repos/delete", {"name": "digits", "organization": "acme"}),
    ("POST", "/api/repos/move", {"fromRepo": REPO, "toRepo": "acme/moved"}),
    ("PUT", f"{API}/settings", {"private": True}),
    ("POST", f"{API}/preupload/main", {"files": []}),
    ("POST", f"{API}/commit/main", {"key": "header", "value": {"summary": "x"}}),
    ("POST", f"{API}/branch/new", {}),
    ("DELETE", f"{API}/branch/new", None),
    ("POST", f"{API}/tag/main", {"tag": "new"}),
    ("DELETE", f"{API}/tag/new", None),
    ("POST", f"/{REPO}.git/info/lfs/objects/batch", {"operation": "upload", "objects": []}),
    ("GET", f"{API}/xet-write-token/main", None),
]


# Tokens


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (None, (401, "Unauthorized")),
        ("hf_wrong", (401, "Unauthorized")),
        (READER, (403, "Forbidden")),
        (STRANGER, (403, "Forbidden")),
        (OUTSIDER, (403, "Forbidden")),
    ],
)
def test_writing_takes_a_token_that_may_write(hub, digits, token, expected):
    before = hub.storage.repos()
    for method, path, body in WRITES:
        status, code, _ = send(hub, method, path, body, token)
        assert (path, status, code) == (path, *expected)
    assert hub.storage.repos() == before


def test_private_repo_is_not_there_for_writers_outside(hub, digits):
    hub.storage.set_private(REPO)
    for method, path, body in WRITES[1:]:
        status, code, _ = send(hub, method, path, body, OUTSIDER)
        assert (path, status, code) == (path, 404, "RepoNotFound")


def test_moving_into_anothers_name(hub, digits):
    status, code, _ = send(
        hub, "POST", "/api/repos/move", {"fromRepo": REPO, "toRepo": "dan/digits"}
    )
    assert (status, code) == (403, "Forbidden")


def test_hub_for_members_only(tmp_path):
    storage = Storage(tmp_path)
    sha = storage.commit(REPO, {"config.json": b"{}"})
    with HubServer(storage, tokens=TOKENS, members_only=True) as hub:
        for path in ["/api/models", API, f"/{REPO}/resolve/{sha}/config.json"]:
            assert send(hub, "GET", path, token=None)[:2] == (401, "Unauthorized")
            assert send(hub, "GET", path, token=STRANGER)[0] == 200
        assert send(hub, "GET", "/api/agent-harnesses", token=None)[0] == 200


def test_addresses_stay_on_this_hub(hub, digits):
    """What the client is told to call next: nothing leads a token elsewhere."""
    line = batch(hub, CONTENT)
    assert all(href(hub, line, action) for action in ["upload", "verify"])
    token = send(hub, "GET", f"{API}/xet-write-token/main")[2]
    assert token["casUrl"].startswith(f"{hub.url}/xet/")
    _, headers, _ = ask(hub, f"/{REPO}/resolve/main//evil.example/x", "HEAD")
    assert headers["Location"] is None


# Paths

EVIL = [
    "../x",
    "a/../../x",
    "/etc/passwd",
    "a//b",
    "./x",
    "a/./b",
    "",
    "a\\b",
    "a\0b",
    "a\nb",
    "..",
]


@pytest.mark.parametrize("path", [*EVIL, "x" * 1001])
def test_commits_stay_inside_the_repo(hub, digits, path):
    before = stored(hub)
    lines = [
        inline(path),
        ("lfsFile", {"path": path, "oid": SHA256, "size": 1}),
        ("deletedFile", {"path": path}),
        ("deletedFolder", {"path": path}),
    ]
    for line in lines:
        status, code, _ = commit(hub, line)
        assert (line[0], status, code) == (line[0], 400, "InvalidName")
    files = {"files": [{"path": path, "size": 1, "sample": ""}]}
    assert send(hub, "POST", f"{API}/preupload/main", files)[:2] == (400, "InvalidName")
    assert stored(hub) == before
    assert hub.storage.repo(REPO).branches == {"main": digits}


@pytest.mark.parametrize("name", ["..", "../x", "a/b", ".x", "a b", "a\0", "", "x.git", "a..b"])
def test_repo_names_stay_inside_the_storage(hub, digits, name):
    body = {"name": name, "organization": "acme"}
    assert send(hub, "POST", "/api/repos/create", body)[:2] == (400, "InvalidName")
    body = {"fromRepo": REPO, "toRepo": f"acme/{name}"}
    assert send(hub, "POST", "/api/repos/move", body)[:2] == (400, "InvalidName")
    assert [repo.id for repo in hub.storage.repos()] == [REPO]


@pytest.mark.parametrize(
    "name", ["..", "../x", "a/../b", "/a", "a//b", "-a", "a\0", "0" * 40, "refs/pr/1", "HEAD"]
)
def test_names_of_branches_and_tags(hub, digits, name):
    branch = send(hub, "POST", f"{API}/branch/{quote(name, safe='')}", {})
    assert branch[:2] == (400, "InvalidName")
    assert send(hub, "POST", f"{API}/tag/main", {"tag": name})[:2] == (400, "InvalidName")


# Bodies that are too large, or no bodies at all


@pytest.fixture
def small_hub(tmp_path):
    limits = Limits(file=20_000, inline_file=5_000, commit=50_000, files=3, json=2_000)
    with HubServer(Storage(tmp_path / "hub"), tokens=TOKENS, limits=limits) as server:
        server.storage.commit(REPO, {"config.json": b"{}"})
        yield server


def test_limits(small_hub):
    hub = small_hub
    before = hub.storage.repo(REPO).branches
    inside = inline("a", bytes(12_000))
    assert commit(hub, inside)[:2] == (413, "TooLarge")
    assert commit(hub, *[inline(f"{n}", bytes(4_900)) for n in range(9)])[:2] == (413, "TooLarge")
    assert commit(hub, *[inline(f"{n}") for n in range(4)])[:2] == (413, "TooLarge")
    assert send(hub, "POST", "/api/validate-yaml", {"content": "x" * 2_000})[0] == 413
    files = {"files": [{"path": "a", "size": 20_001, "sample": ""}]}
    assert send(hub, "POST", f"{API}/preupload/main", files)[:2] == (413, "TooLarge")
    assert batch(hub, bytes(20_001))["error"]["code"] == 413
    assert hub.storage.repo(REPO).branches == before
    assert commit(hub, *[inline(f"{n}") for n in range(3)])[0] == 200


def test_body_larger_than_it_was_announced(hub, digits):
    line = batch(hub, CONTENT)
    assert send(hub, "PUT", href(hub, line), CONTENT + b"!", None)[:2] == (413, "TooLarge")
    assert SHA256 not in stored(hub)
    assert broken_off(hub) == []


@pytest.mark.parametrize(
    "body",
    [
        b"no json",
        b"[]",
        b'{"key": "header"}',
        b'{"key": 1, "value": {}}',
        b"[" * 100_000,
        b'{"key": "file", "value": {"path": 1}}',
        b'{"key": "file", "value": {"path": "a", "content": "*", "encoding": "base64"}}',
        b'{"key": "file", "value": {"path": "a", "content": "x", "encoding": "rot13"}}',
        b'{"key": "lfsFile", "value": {"path": "a", "oid": "../../secret", "size": 1}}',
        b'{"key": "script", "value": {"path": "a"}}',
        b"\xff",
        b"",
    ],
)
def test_malformed_commits(hub, digits, body):
    assert send(hub, "POST", f"{API}/commit/main", body)[:2] == (400, "BadRequest")
    assert hub.storage.repo(REPO).branches == {"main": digits}


def test_deleting_what_is_not_there(hub, digits):
    for key in ["deletedFile", "deletedFolder"]:
        status, code, _ = commit(hub, inline("new"), (key, {"path": "nowhere"}))
        assert (key, status, code) == (key, 404, "EntryNotFound")
    assert hub.storage.repo(REPO).branches == {"main": digits}


def test_file_and_folder_of_one_name(hub, digits):
    status, code, _ = commit(hub, inline("config.json/x"))
    assert (status, code) == (400, "InvalidName")


def test_every_error_has_a_code_and_a_message(hub, digits):
    for method, path in [("GET", "/nowhere"), ("PUT", "/api/models"), ("GET", f"{API}/duplicate")]:
        status, headers, _ = ask(hub, path, method)
        assert (path, status) == (path, 405 if method == "PUT" else 404)
        assert headers["X-Error-Code"]
        assert path in headers["X-Error-Message"]


# Contents that are not what they should be


@pytest.mark.parametrize("sent", [b"", CONTENT[:-1], CONTENT[:-1] + b"!"])
def test_content_that_is_not_the_announced_one(hub, digits, sent):
    line = batch(hub, CONTENT)
    assert send(hub, "PUT", href(hub, line), sent, None)[:2] == (400, "ContentMismatch")
    assert (SHA256 in stored(hub), broken_off(hub)) == (False, [])
    check = {"oid": SHA256, "size": len(CONTENT)}
    assert send(hub, "POST", href(hub, line, "verify"), check)[:2] == (400, "ContentMismatch")
    assert commit(hub, LFS_FILE)[:2] == (400, "ContentMismatch")
    assert hub.storage.repo(REPO).branches == {"main": digits}
    assert send(hub, "PUT", href(hub, line), CONTENT, None)[0] == 200
    assert send(hub, "POST", href(hub, line, "verify"), check)[0] == 200
    assert commit(hub, LFS_FILE)[0] == 200


def test_parts_that_are_not_the_announced_content(hub, digits, monkeypatch):
    monkeypatch.setattr("zoo.hub.lfs.PART", 2_000)
    line = batch(hub, CONTENT)
    header = {k: v.removeprefix(hub.url) for k, v in line["actions"]["upload"]["header"].items()}
    assert header.pop("chunk_size") == "2000"
    parts = [CONTENT[start : start + 2_000] for start in (0, 2_000, 4_000)]
    done = {"oid": SHA256, "parts": [{"partNumber": n, "etag": "x"} for n in (1, 2, 3)]}
    assert send(hub, "POST", href(hub, line), done, None)[:2] == (400, "ContentMismatch")
    assert send(hub, "PUT", header["00001"], parts[0][1:], None)[:2] == (400, "ContentMismatch")
    assert send(hub, "PUT", header["00003"], parts[0], None)[:2] == (413, "TooLarge")
    for address in header.values():
        send(hub, "PUT", address, parts[2], None)
    assert send(hub, "POST", href(hub, line), done, None)[:2] == (400, "ContentMismatch")
    assert broken_off(hub) == []
    for address, part in zip(header.values(), parts, strict=True):
        assert send(hub, "PUT", address, part, None)[0] == 200
    assert send(hub, "POST", href(hub, line), done, None)[0] == 200
    assert send(hub, "POST", href(hub, line), done, None)[0] == 200  # its answer may get lost
    assert commit(hub, LFS_FILE)[0] == 200


def test_wrong_size_in_a_commit(hub, digits):
    hub.storage.commit(REPO, {"big.safetensors": CONTENT})
    line = (LFS_FILE[0], {**LFS_FILE[1], "size": 1})
    assert commit(hub, line)[:2] == (400, "ContentMismatch")


def test_knowing_a_hash_is_not_having_the_content(hub, digits):
    hub.storage.commit("dan/secret", {"big.safetensors": CONTENT})
    hub.storage.set_private("dan/secret")
    assert commit(hub, LFS_FILE)[:2] == (400, "ContentMismatch")
    assert "actions" in batch(hub, CONTENT)
    hub.storage.set_private("dan/secret", False)
    assert "actions" not in batch(hub, CONTENT)
    assert commit(hub, LFS_FILE)[0] == 200


# Signed addresses


def test_signatures(hub, digits, monkeypatch):
    address = href(hub, batch(hub, CONTENT))
    other = hashlib.sha256(b"other").hexdigest()
    forged = [
        address.replace(f"size={len(CONTENT)}", "size=9999"),
        address.replace(SHA256, other),
        address.replace(REPO, "acme/other"),
        address[:-1] + ("0" if address[-1] != "0" else "1"),
        address.partition("&signature")[0],
        address.partition("?")[0],
        address + "&size=9999",
    ]
    for wrong in forged:
        assert send(hub, "PUT", wrong, CONTENT, None)[:2] == (403, "Forbidden")
    verify = address.replace("?", "/verify?")
    assert send(hub, "POST", verify, {"oid": SHA256, "size": len(CONTENT)})[0] == 403
    later = SimpleNamespace(time=lambda: time.time() + 7 * 3600)
    monkeypatch.setattr("zoo.hub.access.time", later)
    status, code, answer = send(hub, "PUT", address, CONTENT, None)
    assert (status, code) == (403, "Forbidden")
    assert "expired" in answer["error"]
    assert SHA256 not in stored(hub)


def test_secret_is_for_the_owner_alone(hub, digits):
    batch(hub, CONTENT)
    assert (hub.storage.root / "secret").stat().st_mode & 0o777 == 0o600


# Uploads that break off, and what is left of them


def test_upload_that_breaks_off(hub, digits):
    connection = connect(hub)
    connection.putrequest("PUT", href(hub, batch(hub, CONTENT)))
    connection.putheader("Content-Length", str(len(CONTENT)))
    connection.endheaders(CONTENT[:100])
    deadline = time.monotonic() + 5
    while not broken_off(hub) and time.monotonic() < deadline:
        time.sleep(0.01)
    connection.close()
    while broken_off(hub) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (broken_off(hub), SHA256 in stored(hub)) == ([], False)
    assert commit(hub, inline("a"))[0] == 200


def test_gc_takes_what_no_commit_has(hub, digits):
    send(hub, "PUT", href(hub, batch(hub, CONTENT)), CONTENT, None)
    (hub.storage.root / "incoming/left").write_bytes(b"123")
    kept = stored(hub) - {SHA256}
    found = hub.storage.gc(grace=3600)
    assert (found.files, found.bytes) == (0, 0)
    found = hub.storage.gc(grace=0, dry_run=True)
    assert (found.files, found.bytes) == (2, len(CONTENT) + 3)
    assert (stored(hub), len(broken_off(hub))) == (kept | {SHA256}, 1)
    assert hub.storage.gc(grace=0) == found
    assert (stored(hub), broken_off(hub)) == (kept, [])
    assert ask(hub, f"/{REPO}/resolve/{digits}/model.safetensors")[2] == WEIGHTS
    hub.storage.delete_repo(REPO)
    assert hub.storage.gc(grace=0).files == len(kept)


def test_commit_after_gc_took_its_content(hub, digits):
    send(hub, "PUT", href(hub, batch(hub, CONTENT)), CONTENT, None)
    hub.storage.gc(grace=0)
    assert commit(hub, LFS_FILE)[:2] == (400, "ContentMismatch")
    assert hub.storage.repo(REPO).branches == {"main": digits}


def test_full_disk(tmp_path):
    """The limit on the size of a file is met as a full disk is: in the middle of a write."""
    Storage(tmp_path).commit(REPO, {"config.json": b"{}"})
    command = [sys.executable, "-m", "zoo", "hub", "serve", "--root", str(tmp_path), "--port", "0"]
    limit = 2_000_000

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    with subprocess.Popen(
        [*command, "--token", MEMBER], stdout=subprocess.PIPE, text=True, preexec_fn=limited
    ) as process:
        try:
            hub = SimpleNamespace(url=process.stdout.readline().strip(), storage=Storage(tmp_path))
            content = os.urandom(limit + 1)
            line = batch(hub, content)
            assert send(hub, "PUT", href(hub, line), content, None)[:2] == (507, "DiskFull")
            encoded = base64.b64encode(content).decode()
            large = ("file", {"path": "large", "content": encoded, "encoding": "base64"})
            assert commit(hub, large)[:2] == (507, "DiskFull")
            granted = send(hub, "GET", f"{API}/xet-write-token/main")[2]
            xorb = granted["casUrl"].removeprefix(hub.url) + "/v1/xorbs/default/" + "ab" * 32
            chunk = (len(content[:1000]) << 8).to_bytes(4, "little")
            body = (chunk + bytes([0]) + (1000).to_bytes(3, "little") + content[:1000]) * 2500
            status, _, answer = send(hub, "POST", xorb, body, granted["accessToken"])
            assert (status, "disk is full" in answer["error"]) == (413, True)
            assert (broken_off(hub), len(stored(hub))) == ([], 1)
            assert commit(hub, inline("small"))[0] == 200
        finally:
            process.terminate()
    files = hub.storage.commit_at(hub.storage.repo(REPO), "main").files
    assert sorted(files) == ["config.json", "small"]


def test_error_of_the_hub_itself(hub, digits, monkeypatch):
    def broken(*_):
        raise RuntimeError("a secret of the hub")

    monkeypatch.setattr(hub.storage, "repos", broken)
    status, headers, body = ask(hub, "/api/models")
    assert (status, headers["X-Error-Code"]) == (500, "InternalServerError")
    assert b"secret" not in body
    assert json.loads(body)["error"] == headers["X-Error-Message"]


# Text that a header cannot carry


@pytest.mark.parametrize(
    "text", ["a\r", "a\nX-Evil: y", "a\0b", "é\x85\u2028", "\x1b[2J", "\ud800"]
)
def test_refusals_quote_any_text(hub, digits, text):
    """They stand in a header, too: the connection was dropped where it could not take them."""
    bodies = [
        ("POST", "/api/repos/create", {"type": text}),
        ("POST", "/api/repos/create", {"name": text, "organization": "acme"}),
        ("PUT", f"{API}/settings", {"visibility": text}),
    ]
    for method, path, body in bodies:
        assert send(hub, method, path, body)[0] == 400
    assert commit(hub, (text, {"path": "a"}))[0] == 400


# Front matter


@pytest.mark.parametrize("token", [None, "hf_wrong", MEMBER])
def test_checking_front_matter_takes_the_rights_of_reading(tmp_path, token):
    storage = Storage(tmp_path)
    body = {"content": "---\na: 1\n---\n"}
    with HubServer(storage, tokens=TOKENS, members_only=True) as hub:
        status = send(hub, "POST", "/api/validate-yaml", body, token)[0]
        assert status == (200 if token == MEMBER else 401)
    with HubServer(storage, tokens=TOKENS) as hub:
        status = send(hub, "POST", "/api/validate-yaml", body, token)[0]
        assert status == (401 if token == "hf_wrong" else 200)


@pytest.mark.parametrize(
    "block",
    [
        "a: [" + "b," * 200_000 + "]",
        "a: &a [x, x]\n" + "b: &b [*a, *a]\nc: &c [*b, *b]\n" + "- *c\n" * 100_000,
        "[" * 100_000,
    ],
)
def test_front_matter_that_costs_too_much(hub, block):
    """Neither is it checked at length, nor does it keep the models from being listed."""
    readme = f"---\n{block}\n---\n"
    status, _, answer = send(hub, "POST", "/api/validate-yaml", {"content": readme}, None)
    assert (status, answer["errors"] != []) == (400, True)
    hub.storage.commit(REPO, {"README.md": readme.encode()})
    for _ in range(3):
        (model,) = send(hub, "GET", "/api/models")[2]
        assert (model["id"], model["tags"]) == (REPO, [])


# Many files


def test_thousands_of_folders(hub):
    """What takes a walk over all files for each folder, or each change, would take minutes here."""
    blob = hub.storage.add("x", b"x").blob
    puts = [Put(f"f{n}/g/x", blob) for n in range(4000)]
    hub.storage.commit(REPO, {"README.md": b"x"})
    hub.storage.apply(REPO, "main", puts, message="Many", author="ada")
    form = b"&".join(b"paths=f%d" % n for n in range(4000)) + b"&expand=true"
    entries = send(hub, "POST", f"{API}/paths-info/main", form, None)[2]
    assert len({entry["oid"] for entry in entries}) == len(entries) == 4000
    assert {entry["lastCommit"]["title"] for entry in entries} == {"Many"}
    tree = send(hub, "GET", f"{API}/tree/main?recursive=true&expand=true&limit=1000", None, None)[2]
    assert len(tree) == 1000
    folders = {entry["path"]: entry["oid"] for entry in tree if entry["type"] == "directory"}
    shown = {entry["path"]: entry["oid"] for entry in entries}
    assert all(shown[path] == oid for path, oid in folders.items() if path in shown)
    assert send(hub, "GET", f"/{REPO}/resolve/main/f1/h/x", None, None)[0] == 307
    head = hub.storage.repo(REPO).branches["main"]
    assert send(hub, "GET", f"/{REPO}/resolve/{head}/f1/h/x", None, None)[0] == 404
    gone = [("deletedFolder", {"path": f"f{n}"}) for n in range(4000)]
    assert commit(hub, *gone)[0] == 200
    head = hub.storage.repo(REPO).branches["main"]
    assert hub.storage.commit_at(hub.storage.repo(REPO), head).files.keys() == {"README.md"}


def test_folder_that_is_deleted_and_filled_again(hub, digits):
    lines = [
        inline("a/b/x"),
        ("deletedFolder", {"path": "a/"}),
        inline("a/b/y"),
        ("deletedFolder", {"path": "a/b"}),
        inline("a/z"),
    ]
    assert commit(hub, *lines)[0] == 200
    files = hub.storage.commit_at(hub.storage.repo(REPO), "main").files
    assert {path for path in files if path.startswith("a/")} == {"a/z"}
    assert commit(hub, ("deletedFolder", {"path": "a/b"}))[:2] == (404, "EntryNotFound")


def test_paths_of_many_folders(hub, digits):
    assert commit(hub, inline("/".join("a" * 51)))[0] == 200
    assert commit(hub, inline("/".join("b" * 52)))[:2] == (400, "InvalidName")


# Tokens that nobody could send


@pytest.mark.parametrize("token", ["hf_secret\n", "hf sécret", "", "\ud800hf_secret"])
def test_tokens_of_a_hub_are_checked(tmp_path, token):
    with pytest.raises(ConfigError, match="of 'ada' has a character") as raised:
        HubServer(Storage(tmp_path), tokens={token: User(name="ada")})
    assert "cret" not in str(raised.value)


@pytest.mark.parametrize(
    "line", ['token = "hf_secret\\n"', 'token = ["hf_secret"]', 'tokn = "hf_secret"', "token = 7"]
)
def test_file_of_tokens_that_are_none(tmp_path, line):
    file = tmp_path / "users.toml"
    file.write_text(f"[ada]\n{line}\n")
    with pytest.raises(ConfigError) as raised:
        read_tokens(file)
    assert "secret" not in str(raised.value)
    assert "ada" in str(raised.value)
