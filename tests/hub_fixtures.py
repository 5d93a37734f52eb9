"""The fixture `hub`: a hub of its own for every test, empty, on loopback; and how to ask it."""

import base64
import hashlib
import http.client
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from zoo.hub import HubServer, Storage, User

REPO = "acme/digits"
CONFIG = b'{"v": 1}'
README = b"""---
license: mit
tags: [digits]
pipeline_tag: image-classification
---
# Digits
"""
WEIGHTS = safetensors.numpy.save({"w": np.arange(6, dtype=np.float32).reshape(2, 3)})

MEMBER = "hf_token_of_ada"
STRANGER = "hf_token_of_bob"
READER = "hf_token_of_eve"
OUTSIDER = "hf_token_of_dan"
TOKENS = {
    MEMBER: User(name="ada", orgs=("acme",), role="write"),
    STRANGER: User(name="bob"),
    READER: User(name="eve", orgs=("acme",), role="read"),
    OUTSIDER: User(name="dan", role="write"),
}


@pytest.fixture
def hub(tmp_path):
    """A running `HubServer` over an empty storage; `acme` has one member, who holds `MEMBER`."""
    with HubServer(Storage(tmp_path / "hub"), tokens=TOKENS) as server:
        yield server


@pytest.fixture
def digits(hub):
    """The commit of a small public model, `REPO`, on `hub`."""
    files = {"config.json": CONFIG, "model.safetensors": WEIGHTS, "README.md": README}
    return hub.storage.commit(REPO, files)


def connect(hub, timeout=5):
    """An open connection to the hub, which the caller closes."""
    return http.client.HTTPConnection(hub.url.removeprefix("http://"), timeout=timeout)


def ask(hub, path, method="GET", headers=None, body=None):
    """One request as it is, with nothing normalised or followed: (status, headers, body)."""
    connection = connect(hub)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def bearer(token):
    return {"Authorization": f"Bearer {token}"} if token else {}


def send(hub, method, path, body=None, token=MEMBER, headers=None):
    """One request with a token and a JSON body: (status, code of the error, JSON answer)."""
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    status, answered, answer = ask(hub, path, method, {**bearer(token), **(headers or {})}, content)
    assert status < 400 or (answered["X-Error-Code"] and answered["X-Error-Message"])
    is_json = "json" in (answered["Content-Type"] or "")
    return status, answered["X-Error-Code"], json.loads(answer) if is_json else answer


def commit(hub, *lines, repo=REPO, revision="main", token=MEMBER, header=None):
    """A raw commit of (key, value) pairs."""
    pairs = [("header", {"summary": "Raw", **(header or {})}), *lines]
    body = b"".join(
        json.dumps({"key": key, "value": value}).encode() + b"\n" for key, value in pairs
    )
    return send(hub, "POST", f"/api/models/{repo}/commit/{revision}", body, token)


def inline(path, content=b"new"):
    """A line of a commit: a small file."""
    encoded = base64.b64encode(content).decode()
    return "file", {"path": path, "content": encoded, "encoding": "base64"}


def batch(hub, content, repo=REPO, token=MEMBER, **changes):
    """Announce a large file; the object of the answer."""
    wanted = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), **changes}
    body = {"operation": "upload", "transfers": ["basic", "multipart"], "objects": [wanted]}
    status, code, answer = send(hub, "POST", f"/{repo}.git/info/lfs/objects/batch", body, token)
    return answer["objects"][0] if status == 200 else (status, code)


def href(hub, line, action="upload"):
    """The path and query of an action's address, which must be on this hub."""
    address = line["actions"][action]["href"]
    assert address.startswith(f"{hub.url}/")
    return address.removeprefix(hub.url)


def stored(hub):
    """The sha256 of every content on the hub, and whatever else lies in its folder of contents."""
    return {path.name for path in (hub.storage.root / "blobs").glob("*/*")}


def broken_off(hub):
    """Files of uploads that did not end."""
    return [path for path in (hub.storage.root / "incoming").rglob("*") if path.is_file()]


def download(hub, tmp_path, file, **options):
    """A file of `REPO` as the real client caches it, in `tmp_path/cache`."""
    from huggingface_hub import hf_hub_download

    options = {"cache_dir": tmp_path / "cache", "token": False, **options}
    return Path(hf_hub_download(REPO, file, endpoint=hub.url, **options))


def git_oid(content):
    """git's name for a file: what `git hash-object` prints."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
