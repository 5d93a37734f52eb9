"""To name a content one must be allowed to read it, or have sent it; nobody else learns of it."""

import hashlib
import io
import json
import os
import subprocess
import sys

import pytest
from hub_fixtures import MEMBER, OUTSIDER, READER, TOKENS, ask, batch, bearer, commit, href, send
from test_hub_xet import CHUNKS, CONTENT, LFS_LINE, SHA256, XORB, chunk, shard

from zoo.hub import HubServer, Storage, User

GATED, MINE = "acme/gated", "dan/mine"
UNKNOWN = hashlib.sha256(b"that nobody has").hexdigest()


@pytest.fixture(params=["gated", "private"])
def closed(hub, request):
    """The commit of a repo whose files are for members alone, beside one of the outsider's."""
    made = hub.storage.commit(GATED, {"model.safetensors": CONTENT})
    (hub.storage.set_gated if request.param == "gated" else hub.storage.set_private)(GATED)
    hub.storage.commit(MINE, {"x": b""})
    return made


def names(hub, sha256=SHA256, token=OUTSIDER, **options):
    """Commit a pointer at a content, without sending it: status and answer."""
    line = ("lfsFile", {"path": "m.safetensors", "algo": "sha256", "oid": sha256})
    status, code, answer = commit(hub, line, repo=MINE, token=token, **options)
    text = str(answer).replace(sha256, "SHA256")
    return status, code, text


def test_naming_tells_nothing(hub, closed):
    """Neither that the content is there, nor that it is not."""
    known, unknown = names(hub), names(hub, UNKNOWN)
    assert known == unknown
    assert known[:2] == (400, "ContentMismatch")
    assert names(hub, header={"parentCommit": "0" * 40})[:2] == (400, "ContentMismatch")
    pull = f"/api/models/{MINE}/commit/main?create_pr=1"
    lines = [{"key": "header", "value": {"summary": "x"}}]
    lines += [{"key": "lfsFile", "value": {"path": "m", "oid": SHA256}}]
    body = "\n".join(map(json.dumps, lines)).encode()
    assert send(hub, "POST", pull, body, OUTSIDER)[:2] == (400, "ContentMismatch")
    assert hub.storage.repo(MINE).pulls == {}


def test_announcing_tells_nothing(hub, closed):
    """LFS asks for all of it, and knows nothing of what was not sent to this repo."""
    line = batch(hub, CONTENT, repo=MINE, token=OUTSIDER)
    assert line["actions"].keys() == {"upload", "verify"}
    check = {"oid": SHA256, "size": len(CONTENT)}
    assert send(hub, "POST", href(hub, line, "verify"), check, None)[:2] == (400, "ContentMismatch")
    assert names(hub)[0] == 400


def test_completing_without_a_part(hub, closed, monkeypatch):
    """As if the answer to a first completion had been lost; there was none."""
    monkeypatch.setattr("zoo.hub.lfs.PART", 1000)
    line = batch(hub, CONTENT, repo=MINE, token=OUTSIDER)
    done = {"oid": SHA256, "parts": [{"partNumber": n, "etag": "x"} for n in range(1, 8)]}
    assert send(hub, "POST", href(hub, line), done, None)[:2] == (400, "ContentMismatch")
    assert names(hub)[0] == 400


def test_shards_name_nothing_of_other_spaces(hub, closed):
    def cas(repo, token):
        granted = send(hub, "GET", f"/api/models/{repo}/xet-write-token/main", None, token)[2]
        root = granted["casUrl"].removeprefix(hub.url)
        return lambda path, body: send(
            hub, "POST", f"{root}/v1/{path}", body, granted["accessToken"]
        )

    theirs, mine = cas(GATED, MEMBER), cas(MINE, OUTSIDER)
    theirs(f"xorbs/default/{XORB}", b"".join(map(chunk, CHUNKS)))
    body = shard([(XORB, 0, 4, len(CONTENT))])
    for _ in range(2):  # the chunks wait in their space; then they are in a content
        assert mine("shards", body)[:2] == (400, "ContentMismatch")
        assert theirs("shards", body)[0] == 200
    assert names(hub)[0] == 400
    mine(f"xorbs/default/{XORB}", b"".join(map(chunk, CHUNKS)))
    assert mine("shards", body)[0] == 200
    assert names(hub)[0] == 200


def test_who_sends_it_has_it(hub, closed):
    """The bytes are asked for although they are here, and are of use to who sent them."""
    line = batch(hub, CONTENT, repo=MINE, token=OUTSIDER)
    assert send(hub, "PUT", href(hub, line), CONTENT, None)[0] == 200
    check = {"oid": SHA256, "size": len(CONTENT)}
    assert send(hub, "POST", href(hub, line, "verify"), check, None)[0] == 200
    assert "actions" not in batch(hub, CONTENT, repo=MINE, token=OUTSIDER)
    assert names(hub)[0] == 200
    head = hub.storage.repo(MINE).branches["main"]
    assert ask(hub, f"/{MINE}/resolve/{head}/m.safetensors")[2] == CONTENT
    # It is the outsider's in that repo, and nowhere else.
    hub.storage.commit("bob/other", {"x": b""})
    assert ask(hub, f"/{GATED}/resolve/{closed}/model.safetensors")[0] in (401, 404)


def test_members_name_what_they_read(hub, closed):
    hub.storage.commit("acme/copy", {"x": b""})
    assert "actions" not in batch(hub, CONTENT, repo="acme/copy")
    assert commit(hub, LFS_LINE, repo="acme/copy")[0] == 200


def test_members_who_only_read_name_nothing(hub, closed):
    assert batch(hub, CONTENT, repo=GATED, token=READER) == (403, "Forbidden")
    assert commit(hub, LFS_LINE, repo=GATED, token=READER)[:2] == (403, "Forbidden")


def test_right_that_was_taken_back(tmp_path):
    """An announcement, made while one might read, is no right to name it later."""
    storage = Storage(tmp_path / "hub")
    storage.commit(GATED, {"model.safetensors": CONTENT})
    storage.set_gated(GATED)
    storage.commit(MINE, {"x": b""})
    member = {OUTSIDER: User(name="dan", orgs=("acme",), role="write")}
    with HubServer(storage, tokens=member) as hub:
        assert "actions" not in batch(hub, CONTENT, repo=MINE, token=OUTSIDER)
    with HubServer(storage, tokens=TOKENS) as hub:
        assert "actions" in batch(hub, CONTENT, repo=MINE, token=OUTSIDER)
        assert names(hub)[0] == 400


def test_small_files_are_contents_too(hub):
    """Of a small file git's hash is shown, not this one; it is asked for all the same."""
    hub.storage.commit(GATED, {"config.json": b"{}"})
    hub.storage.set_gated(GATED)
    hub.storage.commit(MINE, {"x": b""})
    assert names(hub, hashlib.sha256(b"{}").hexdigest())[0] == 400


def test_what_is_closed_later(hub):
    """A copy made while a repo was open stays; a new one is refused."""
    hub.storage.commit(GATED, {"model.safetensors": CONTENT})
    hub.storage.commit(MINE, {"x": b""})
    hub.storage.commit("dan/second", {"x": b""})
    assert names(hub)[0] == 200
    hub.storage.set_gated(GATED)
    # dan reads it in dan/mine, which is open
    assert commit(hub, LFS_LINE, repo="dan/second", token=OUTSIDER)[0] == 200
    hub.storage.delete_repo(MINE)
    hub.storage.delete_repo("dan/second")
    hub.storage.commit(MINE, {"x": b""})
    assert names(hub)[0] == 400


# The stock client


def test_stock_client_copies_what_it_may_read(hub, closed):
    from huggingface_hub import CommitOperationCopy, HfApi
    from huggingface_hub.errors import HTTPError

    member, outsider = (HfApi(endpoint=hub.url, token=t) for t in (MEMBER, OUTSIDER))
    one, two = (CommitOperationCopy("model.safetensors", name) for name in ("one.st", "two.st"))
    member.create_commit(GATED, [one], commit_message="Copied")
    with pytest.raises(HTTPError):
        outsider.create_commit(GATED, [two], commit_message="Copied", create_pr=True)


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_stock_client_sends_all_of_it_by_lfs(hub, closed):
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.url, token=OUTSIDER)
    api.upload_file(
        repo_id=MINE,
        path_or_fileobj=io.BufferedReader(io.BytesIO(CONTENT)),
        path_in_repo="m.safetensors",
    )
    assert sum(request.method == "PUT" for request in hub.requests) == 1
    head = hub.storage.repo(MINE).branches["main"]
    assert ask(hub, f"/{MINE}/resolve/{head}/m.safetensors")[2] == CONTENT


def test_stock_client_sends_all_of_it_by_xet(hub, closed, tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(CONTENT)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env = {**kept, "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url, "HF_TOKEN": OUTSIDER}
    code = "from huggingface_hub.cli.hf import main; main()"
    command = [sys.executable, "-c", code, "upload", MINE, str(file)]
    subprocess.run(command, env=env, check=True, timeout=120)
    assert any("/v1/xorbs/" in r.path or r.method == "PUT" for r in hub.requests)
    head = hub.storage.repo(MINE).branches["main"]
    answer = ask(hub, f"/{MINE}/resolve/{head}/model.safetensors", headers=bearer(OUTSIDER))
    assert answer[2] == CONTENT
