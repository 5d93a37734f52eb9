"""Every route of the hub, as the application itself lists them, with every kind of token and value.

A route that is new and has no rule in `RULES` fails here.
"""

import asyncio
import copy
import json
import re
from urllib.parse import quote, unquote

import h11
import pytest
from hub_fixtures import MEMBER, OUTSIDER, READER, STRANGER, TOKENS

from zoo.hub import Storage, create_app
from zoo.hub.web import Limits

SHA256 = "ab" * 32
REPO_API = "/api/models/{org}/{name}"
LFS = "/api/lfs/{org}/{name}/{oid}"
XET = "/xet/{space}"

# Who may: `anybody`; `user`, who has no wrong token; `known`, who has a right one; who `sees`,
# `reads` or `writes` the repo; who `names` in the body what is written; who has what the hub
# `signed` or `granted`. With it a body that is valid, but for what it names.
RULES = {
    ("GET", "/api/agent-harnesses"): ("anybody", None),
    ("GET", "/api/whoami-v2"): ("known", None),
    ("GET", "/api/models"): ("user", None),
    ("GET", "/api/models/{name}"): ("user", None),
    ("GET", "/{name}/resolve/{revision}/{path:path}"): ("user", None),
    ("POST", "/api/validate-yaml"): ("user", {"content": "---\na: 1\n---\n", "repoType": "model"}),
    ("GET", REPO_API): ("sees", None),
    ("GET", REPO_API + "/revision/{revision}"): ("sees", None),
    ("GET", REPO_API + "/refs"): ("sees", None),
    ("GET", REPO_API + "/commits/{revision}"): ("sees", None),
    ("GET", REPO_API + "/tree/{revision}"): ("sees", None),
    ("GET", REPO_API + "/tree/{revision}/{path:path}"): ("sees", None),
    ("POST", REPO_API + "/paths-info/{revision}"): ("sees", b"paths=x&expand=true"),
    ("GET", "/{org}/{name}/resolve/{revision}/{path:path}"): ("reads", None),
    ("POST", "/api/repos/create"): (
        "names",
        {"name": "new", "organization": "acme", "type": "model", "visibility": "public"},
    ),
    ("DELETE", "/api/repos/delete"): ("names", {"name": "gone", "organization": "acme"}),
    ("POST", "/api/repos/move"): ("names", {"fromRepo": "acme/gone", "toRepo": "acme/moved"}),
    ("PUT", REPO_API + "/settings"): ("writes", {"private": False, "gated": "auto"}),
    ("POST", REPO_API + "/branch/{revision}"): ("writes", {"startingPoint": "nowhere"}),
    ("DELETE", REPO_API + "/branch/{revision}"): ("writes", None),
    ("POST", REPO_API + "/tag/{revision}"): ("writes", {"tag": "..", "message": "m"}),
    ("DELETE", REPO_API + "/tag/{revision}"): ("writes", None),
    ("POST", REPO_API + "/preupload/{revision}"): (
        "writes",
        {"files": [{"path": "a", "size": 1, "sample": ""}]},
    ),
    ("POST", REPO_API + "/commit/{revision}"): (
        "writes",
        [
            {"key": "header", "value": {"summary": "s", "description": "d", "parentCommit": "0"}},
            {"key": "file", "value": {"path": "a", "content": "YQ==", "encoding": "base64"}},
            {"key": "deletedFile", "value": {"path": "nowhere"}},
            {"key": "deletedFolder", "value": {"path": "nowhere/"}},
            {"key": "lfsFile", "value": {"path": "a", "algo": "x", "oid": SHA256, "size": 1}},
        ],
    ),
    ("GET", REPO_API + "/discussions"): ("sees", None),
    ("POST", REPO_API + "/discussions"): ("writes", {"title": "t", "pullRequest": False}),
    ("GET", REPO_API + "/discussions/{number}"): ("sees", None),
    ("POST", REPO_API + "/discussions/{number}/status"): ("writes", {"status": "closed"}),
    ("POST", REPO_API + "/discussions/{number}/merge"): ("writes", None),
    ("POST", "/{org}/{name}.git/info/lfs/objects/batch"): (
        "writes",
        {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": SHA256, "size": 9}]},
    ),
    ("PUT", LFS): ("signed", b"content"),
    ("PUT", LFS + "/parts/{part}"): ("signed", b"content"),
    ("POST", LFS + "/complete"): ("signed", {"oid": SHA256, "parts": []}),
    ("POST", LFS + "/verify"): ("signed", {"oid": SHA256, "size": 9}),
    ("GET", REPO_API + "/xet-write-token/{revision}"): ("writes", None),
    ("GET", XET + "/v1/chunks/{prefix}/{chunk}"): ("granted", None),
    ("POST", XET + "/v1/xorbs/{prefix}/{xorb}"): ("granted", b"xorb"),
    ("POST", XET + "/v1/shards"): ("granted", b"shard"),
    ("POST", XET + "/shards"): ("granted", b"shard"),
}
REFUSALS = {"Unauthorized", "Forbidden", "GatedRepo", "RepoNotFound"}
ROLES = {
    "nobody": None,
    "unknown": "hf_unknown",
    "stranger": STRANGER,  # reads, and is a member of nothing
    "outsider": OUTSIDER,  # writes, and is a member of nothing
    "reader": READER,  # a member of acme who reads
    "member": MEMBER,  # a member of acme who writes
}
PARAMS = {
    "org": "acme",
    "name": "public",
    "revision": "main",
    "path": "x",
    "oid": SHA256,
    "part": "1",
    "number": "1",
    "space": "s",
    "prefix": "default",
    "chunk": SHA256,
    "xorb": SHA256,
}
SECRET = b"what only members read"


def routes(tmp_path):
    """(method, path) of every route that the application has."""
    app = create_app(Storage(tmp_path / "routes"))
    return {(min(route.methods - {"HEAD"}), route.path) for route in app.routes}


def address(path, /, **params):
    for name, value in {**PARAMS, **params}.items():
        path = path.replace(f"{{{name}}}", value).replace(f"{{{name}:path}}", value)
    return path


def encoded(body):
    if isinstance(body, list):  # a commit
        return b"\n".join(json.dumps(line).encode() for line in body)
    return body if isinstance(body, bytes | None) else json.dumps(body).encode()


class Client:
    """Asks an application as a server would, without a network between."""

    def __init__(self, storage, **options):
        self.app = create_app(storage, tokens=TOKENS, **options)

    def ask(self, method, path, body=None, headers=None):
        """(status, code of the error, body); what no server could send on is an error."""
        head, answer = asyncio.run(asyncio.wait_for(self._ask(method, path, body, headers), 60))
        h11.Response(status_code=head["status"], headers=head["headers"])  # a server's own check
        code = dict(head["headers"]).get(b"x-error-code", b"").decode() or None
        seen = (method, path[:200], (body or b"")[:200], headers, answer[:200])
        assert head["status"] < 500, seen
        ranged = "Range" in (headers or {})  # answered by the framework
        assert (code is not None) == (head["status"] >= 400) or ranged, seen
        return head["status"], code, answer

    async def _ask(self, method, path, body, headers):
        path, _, query = path.encode().partition(b"?")
        given = {"Host": "hub", "Content-Length": str(len(body or b"")), **(headers or {})}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "server": ("127.0.0.1", 80),
            "path": unquote(path.decode()),
            "raw_path": path,
            "query_string": query,
            "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in given.items()],
        }
        coming = iter([{"type": "http.request", "body": body or b""}])
        sent = []

        async def receive():
            return next(coming, None) or await asyncio.Event().wait()

        async def send(message):
            sent.append(message)

        try:
            await self.app(scope, receive, send)
        except Exception:  # is logged by a server, and answered before
            if not sent:
                raise
        return sent[0], b"".join(message.get("body", b"") for message in sent)


@pytest.fixture
def storage(tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.hub.blobs._sync", lambda path: None)  # no power cut is tested here
    storage = Storage(tmp_path / "hub")
    for kind in ("public", "private", "gated"):
        storage.commit(f"acme/{kind}", {"x": SECRET, "a/b/c": b"c", "README.md": b"---\na: b\n---"})
    storage.set_private("acme/private")
    storage.set_gated("acme/gated")
    return storage


@pytest.fixture
def client(storage):
    return Client(storage)


def test_every_route_has_a_rule(tmp_path):
    assert routes(tmp_path) == RULES.keys()


def expected(rule, role, kind, *, members_only):
    """The code of the refusal; None for who may."""
    if rule == "anybody":
        return None
    if rule in ("signed", "granted"):
        return "Forbidden" if rule == "signed" else "Unauthorized"
    if role == "unknown" or (role == "nobody" and (members_only or rule in ("known", "names"))):
        return "Unauthorized"
    if rule in ("user", "known"):
        return None
    if rule == "names":
        return None if role == "member" else "Forbidden"
    member = role in ("reader", "member")
    if kind == "private" and not member:
        return "RepoNotFound"
    if rule == "reads" and kind == "gated" and not member:
        return "GatedRepo"
    if rule == "writes" and role != "member":
        return "Unauthorized" if role == "nobody" else "Forbidden"
    return None


@pytest.mark.parametrize(
    ("kind", "members_only"),
    [("public", False), ("private", False), ("gated", False), ("public", True)],
)
def test_who_may(storage, kind, members_only):
    storage.open_pull(f"acme/{kind}", "A pull request")
    client = Client(storage, members_only=members_only)
    for (method, path), (rule, body) in RULES.items():
        where = address(path, name=kind)
        for role, token in ROLES.items():
            sent = {} if rule == "writes" and body else body
            if rule == "names" and role != "member":  # a repo that is there
                sent = {**body, "name": "public", "fromRepo": "acme/public"}
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            _, code, answer = client.ask(method, where, encoded(sent), headers)
            found = code if code in REFUSALS else None
            if found == "RepoNotFound" and (rule == "user" or role == "member"):
                found = None  # there is no such repo, whoever asks
            right = expected(rule, role, kind, members_only=members_only)
            assert found == right, (method, path, role, kind, code, answer)
            if right:
                assert SECRET not in answer


# Values that nobody should send

IN_PATHS = ["%00", "%0d%0aX:%20y", "%ff", "%ed%a0%80", "..%2f..%2fx", "%2e%2e", "é%20%5c", "9" * 40]
IN_PATHS += ["x" * 3000, "-1", "%F0%9F%98%80", "refs%2fpr%2f1", "["]
TEXTS = ["", "\r", "\0", "a\r\nX: y", "\ud800", "é😀\u2028", "x" * 100_000, "../..", "main\n"]
DEEP = json.loads("[" * 700 + "]" * 700)
VALUES = [*TEXTS, None, True, -1, 10**30, 1.5, float("nan"), [], {}, [None], DEEP]
BODIES = [
    b"",
    b"\0",
    b"\xff",
    b"[" * 100_000,
    b'{"a":' * 5000,
    b"1" * 6000,
    b"null",
    b"[1]",
    b'"x"',
]
TOKENS_NOBODY_HAS = [
    "",
    "Bearer",
    "Bearer ",
    "Bearer //[",
    "Bearer http://[",
    "Bearer é",
    "Bearer \xff\xfe",
    "Basic YTpi",
    "Bearer " + "x" * 5000,
    "Bearer /xet/s?repo=acme/public",
    "Bearer /xet/s?repo=acme/public&expires=soon&signature=%00",
    "Bearer /xet/s?" + "&".join("a=1" for _ in range(2000)),
]
QUERY = re.findall(
    r"\w+",
    "p limit cursor recursive expand blobs author search filter sort direction create_pr status "
    "type size step expires signature upload pipeline_tag",
)
AS_MEMBER = {"Authorization": f"Bearer {MEMBER}"}


def mutations(body):
    """The body with one value of it replaced, or one taken away."""
    places = []

    def look(value, place):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in list(items):
            places.append((*place, key))
            if isinstance(inner, dict | list):
                look(inner, (*place, key))

    look(body, ())
    for place in places:
        for value in VALUES:
            changed = copy.deepcopy(body)
            inside = changed
            for key in place[:-1]:
                inside = inside[key]
            inside[place[-1]] = value
            yield changed


def test_hostile_paths_and_queries(client, storage):
    for (method, path), (_, body) in RULES.items():
        for name in PARAMS:
            if f"{{{name}" not in path:
                continue
            for value in IN_PATHS:
                value = quote(value, safe="%")
                client.ask(method, address(path, **{name: value}), encoded(body), AS_MEMBER)
        if method == "GET":
            for value in [*IN_PATHS[:6], "true", "1", "999999999"]:
                pairs = [f"{name}={quote(value, safe='%')}" for name in QUERY]
                for query in ["&".join(pairs), *pairs[:3]]:
                    client.ask(method, f"{address(path)}?{query}", None, AS_MEMBER)


def test_hostile_bodies(client, storage):
    for (method, path), (_, body) in RULES.items():
        if method == "GET":
            continue
        where = address(path)
        for content in [
            *BODIES,
            *map(encoded, mutations(body) if isinstance(body, dict | list) else []),
        ]:
            client.ask(method, where, content, AS_MEMBER)
    assert storage.repo("acme/public").branches


def test_hostile_headers(client, storage):
    for (method, path), (_, body) in RULES.items():
        for value in TOKENS_NOBODY_HAS:
            status, *_ = client.ask(method, address(path), encoded(body), {"Authorization": value})
            assert status in (401, 403) or path == "/api/agent-harnesses", (path, value)
        for host in ["[", "a b", "a:b:c", "[::::]", "x:99999", "\xff", "a/b", "a@b"]:
            status, *_ = client.ask(method, address(path), None, {"Host": host})
            assert status == 400
    commit = storage.repo("acme/public").branches["main"]
    where = f"/acme/public/resolve/{commit}/x"
    for value in [
        "bytes=",
        "bytes=-",
        "bytes=9-1",
        "x",
        "bytes=" + "0-,-1" * 900,
        "bytes=0-" * 400,
    ]:
        client.ask("GET", where, None, {"Range": value})


def test_long_address(client, storage):
    assert client.ask("GET", "/api/models?search=" + "x" * 9000)[0] == 414


def test_answers_stay_in_proportion(client, storage):
    """What one request can ask for, where each object of it is short."""
    batch = "/acme/public.git/info/lfs/objects/batch"
    body = {"operation": "upload", "transfers": ["multipart"]}
    huge = [{"oid": f"{n:064x}", "size": Limits().file} for n in range(256)]
    status, _, answer = client.ask("POST", batch, encoded({**body, "objects": huge}), AS_MEMBER)
    assert (status, len(answer) < 8_000_000) == (200, True)
    objects = json.loads(answer)["objects"]
    for line in objects:
        header = line["actions"]["upload"]["header"]
        size = int(header["chunk_size"])
        assert len(header) - 1 == -(-Limits().file // size)
    many = [{"oid": SHA256, "size": 1}] * 1001
    assert client.ask("POST", batch, encoded({**body, "objects": many}), AS_MEMBER)[0] == 413
    files = {"files": [{"path": "a", "size": 1}] * 1001}
    where = "/api/models/acme/public/preupload/main"
    assert client.ask("POST", where, encoded(files), AS_MEMBER)[0] == 413
    where = "/api/models/acme/public/paths-info/main"
    assert client.ask("POST", where, b"paths=x&" * 20_000)[0] == 413
    assert len(json.loads(client.ask("POST", where, b"paths=x&" * 5000)[2])) == 1
