"""Uploads by Xet: the formats, what is refused, and the stock client with hf_xet installed."""

import hashlib
import io
import os
import random
import struct
import subprocess
import sys

import lz4.frame
import pytest
from hub_fixtures import MEMBER, REPO, ask, bearer, broken_off, commit, send, stored

from zoo.hub.errors import BadRequestError
from zoo.hub.xorbs import XorbReader, read_shard

CHUNKS = [b"a" * 1000, bytes(range(256)) * 3 + b"xyz", b"z", os.urandom(5000)]
CONTENT = b"".join(CHUNKS)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
XORB = "ab" * 32
API = f"/api/models/{REPO}"


# The formats, as their specification has them


def header(packed, scheme, size):
    return struct.pack("<I", packed << 8)[:4] + struct.pack("<I", size << 8 | scheme)


def chunk(content, scheme=0):
    grouped = b"".join(content[n::4] for n in range(4)) if scheme == 2 else content
    data = lz4.frame.compress(grouped) if scheme else grouped
    return header(len(data), scheme, len(content)) + data


def as_bytes(text):
    """A hash of 64 hex digits as a shard has it."""
    return struct.pack("<4Q", *(int(text[n : n + 16], 16) for n in range(0, 64, 16)))


def shard(segments, sha256=SHA256, *, flags=3 << 30):
    """A shard with one file, of (xorb, first, last, size) segments."""
    parts = [b"tag".ljust(32), struct.pack("<QQ", 2, 0)]
    parts += [bytes(32), struct.pack("<IIQ", flags, len(segments), 0)]
    parts += [as_bytes(x) + struct.pack("<IIII", 0, size, a, b) for x, a, b, size in segments]
    parts += [bytes(48)] * len(segments) if flags & 1 << 31 else []
    parts += [as_bytes(sha256) + bytes(16)] if flags & 1 << 30 else []
    return b"".join([*parts, b"\xff" * 32 + bytes(16)])


def read(data, step=10**9):
    reader = XorbReader()
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    chunks = [chunk for piece in pieces for chunk in reader.feed(piece)]
    reader.finish()
    return chunks


@pytest.mark.parametrize("scheme", [0, 1, 2])
@pytest.mark.parametrize("step", [1, 7, 10**9])
def test_chunks_of_a_xorb(scheme, step):
    data = b"".join(chunk(content, scheme) for content in CHUNKS)
    assert read(data, step) == CHUNKS
    assert read(data + b"XETBLOB" + os.urandom(100), max(step, 8)) == CHUNKS


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (chunk(b"abc")[:-1], "middle of a chunk"),
        (chunk(b"abc")[:5], "middle of a chunk"),
        (b"\x01" + chunk(b"abc")[1:], "version 1"),
        (header(3, 9, 3) + b"abc", "compression 9"),
        (header(3, 0, 4) + b"abc", "not the 4 bytes"),
        (header(0, 0, 0), "A chunk of 0 bytes"),
        (header(3, 0, 2 << 20) + b"abc", "A chunk of 2097152 bytes"),
        (header(100, 1, 3) + b"x" * 100, "not LZ4"),
        (header(len(bomb := lz4.frame.compress(bytes(1 << 20))), 1, 9) + bomb, "not the 9 bytes"),
    ],
)
def test_broken_xorbs(data, message):
    with pytest.raises(BadRequestError, match=message):
        read(data)


def test_files_of_a_shard():
    [file] = read_shard(io.BytesIO(shard([(XORB, 1, 3, 50), ("cd" * 32, 0, 1, 7)])))
    assert (file.sha256, file.size) == (SHA256, 57)
    assert [(s.xorb, s.first, s.last) for s in file.segments] == [(XORB, 1, 3), ("cd" * 32, 0, 1)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "breaks off"),
        (shard([(XORB, 0, 1, 1)])[:-1], "breaks off"),
        (shard([(XORB, 0, 1, 1)], flags=0), "no sha256"),
        (shard([(XORB, 1, 1, 1)]), "from 1 to 1"),
        (bytes(48), "version 0"),
    ],
)
def test_broken_shards(data, message):
    with pytest.raises(BadRequestError, match=message):
        list(read_shard(io.BytesIO(data)))


# The routes


@pytest.fixture
def cas(hub, digits):
    """What the token gives: a function that sends something to the space of `REPO`."""
    granted = send(hub, "GET", f"{API}/xet-write-token/main")[2]
    root, token = granted["casUrl"].removeprefix(hub.url), granted["accessToken"]

    def post(path, body, token=token, root=root):
        return send(hub, "POST", f"{root}/v1/{path}", body, token)[:2]

    return post


LFS_LINE = "lfsFile", {"path": "x.bin", "algo": "sha256", "oid": SHA256, "size": len(CONTENT)}


def test_file_of_two_xorbs(hub, cas):
    one, two = b"".join(map(chunk, CHUNKS[:2])), b"".join(map(chunk, [b"unused", *CHUNKS[2:]]))
    assert cas(f"xorbs/default/{XORB}", one) == (200, None)
    assert cas(f"xorbs/default/{'cd' * 32}", two) == (200, None)
    sizes = [sum(map(len, CHUNKS[:2])), sum(map(len, CHUNKS[2:]))]
    body = shard([(XORB, 0, 2, sizes[0]), ("cd" * 32, 1, 3, sizes[1])])
    assert cas("shards", body) == (200, None)
    assert cas("shards", body) == (200, None)  # as when the first answer is lost
    assert commit(hub, LFS_LINE)[0] == 200
    assert (
        ask(hub, f"/{REPO}/resolve/{hub.storage.repo(REPO).branches['main']}/x.bin")[2] == CONTENT
    )
    # Of the first xorb every chunk is in the file; the second is kept for the chunk that is not.
    assert {file.name for file in broken_off(hub)} == {"cd" * 32, "cd" * 32 + ".ends"}


def test_chunks_of_an_earlier_file_are_found_in_it(hub, cas):
    cas(f"xorbs/default/{XORB}", b"".join(map(chunk, CHUNKS)))
    cas("shards", shard([(XORB, 0, 4, len(CONTENT))]))
    assert broken_off(hub) == []
    part = CHUNKS[3] + CHUNKS[1] + CHUNKS[2]
    sha256 = hashlib.sha256(part).hexdigest()
    segments = [(XORB, 3, 4, 5000), (XORB, 1, 3, len(part) - 5000)]
    assert cas("shards", shard(segments, sha256)) == (200, None)
    assert hub.storage.blobs.path(sha256).read_bytes() == part
    hub.storage.gc(grace=0)  # takes both: no commit has them
    assert cas("shards", shard(segments, sha256)) == (400, "ContentMismatch")


@pytest.mark.parametrize(
    "segments",
    [
        [(XORB, 0, 4, len(CONTENT) + 1)],
        [(XORB, 0, 3, len(CONTENT) - 5000)],
        [(XORB, 0, 5, len(CONTENT))],
        [("cd" * 32, 0, 1, 1)],
    ],
)
def test_file_that_is_not_the_announced_one(hub, cas, segments):
    cas(f"xorbs/default/{XORB}", b"".join(map(chunk, CHUNKS)))
    assert cas("shards", shard(segments)) == (400, "ContentMismatch")
    assert SHA256 not in stored(hub)
    assert commit(hub, LFS_LINE)[:2] == (400, "ContentMismatch")


def test_refused(hub, cas):
    hub.storage.commit("acme/other", {"a": b""})
    other = send(hub, "GET", "/api/models/acme/other/xet-write-token/main")[2]
    body = chunk(b"abc")
    assert cas(f"xorbs/default/{XORB}", body, token=None) == (401, "Unauthorized")
    assert cas(f"xorbs/default/{XORB}", body, token=MEMBER) == (401, "Unauthorized")
    assert cas(f"xorbs/default/{XORB}", body, token=other["accessToken"]) == (401, "Unauthorized")
    forged = other["accessToken"].replace("other", "digits")
    root = other["casUrl"].removeprefix(hub.url)
    assert cas(f"xorbs/default/{XORB}", body, forged, root) == (403, "Forbidden")
    for name in ["..%2f..%2fsecret", "x", "AB" * 32]:
        assert cas(f"xorbs/default/{name}", body) == (400, "BadRequest")
    assert cas(f"xorbs/default/{XORB}", b"\0" * 100) == (400, "BadRequest")
    assert cas("shards", b"no shard") == (400, "BadRequest")
    assert broken_off(hub) == []


# The real client


def upload(hub, tmp_path, content):
    """`hf upload` of a file, as anyone would call it; what it printed."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env = {**kept, "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url, "HF_TOKEN": MEMBER}
    code = "from huggingface_hub.cli.hf import main; main()"
    subprocess.run(
        [sys.executable, "-c", code, "upload", "acme/xet", str(file)],
        env=env,
        check=True,
        timeout=60,
    )


def received(hub):
    """The bytes of all xorbs that came in since the last look."""
    sizes = [int(r.headers["content-length"]) for r in hub.requests if "/v1/xorbs/" in r.path]
    hub.requests.clear()
    return sum(sizes)


def test_stock_client_sends_only_what_is_new(hub, tmp_path):
    first = random.Random(0).randbytes(4_000_000)
    second = first[:2_000_000] + random.Random(1).randbytes(500_000) + first[2_000_000:]
    upload(hub, tmp_path, first)
    assert received(hub) > 4_000_000
    upload(hub, tmp_path, second)
    assert 500_000 < received(hub) < 1_000_000
    assert stored(hub) == {hashlib.sha256(content).hexdigest() for content in (first, second)}
    assert broken_off(hub) == []
    # What the client remembers to have sent may be gone: then it sends all of it.
    hub.storage.delete_repo("acme/xet")
    hub.storage.gc(grace=0)
    upload(hub, tmp_path, first)
    assert received(hub) > 4_000_000
    assert ask(hub, "/acme/xet/resolve/main/model.safetensors", headers=bearer(MEMBER))[0] == 307
    assert stored(hub) == {hashlib.sha256(first).hexdigest()}
