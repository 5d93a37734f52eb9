"""The fixture `hub`: a hub of its own for every test, empty, on loopback; and how to ask it."""

import hashlib
import http.client
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
TOKENS = {
    MEMBER: User(name="ada", orgs=("acme",), role="write"),
    STRANGER: User(name="bob"),
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


def download(hub, tmp_path, file, **options):
    """A file of `REPO` as the real client caches it, in `tmp_path/cache`."""
    from huggingface_hub import hf_hub_download

    options = {"cache_dir": tmp_path / "cache", "token": False, **options}
    return Path(hf_hub_download(REPO, file, endpoint=hub.url, **options))


def git_oid(content):
    """git's name for a file: what `git hash-object` prints."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
