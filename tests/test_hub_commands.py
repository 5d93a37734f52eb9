"""`zoo hub` from the shell, the stock `hf` command against it, and the hub under stress."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from hub_fixtures import MEMBER, REPO, WEIGHTS, ask, commit, inline, send

from zoo.hub import Fault, Storage

SCRIPTS = Path(__file__).parents[1] / "scripts"
USERS = """
[ada]
token = "hf_ada"
orgs = ["acme"]
role = "write"

[bob]
token = "hf_bob"
"""


@contextmanager
def serving(root, *options):
    """`zoo hub serve` on a free port, and what it said when it began."""
    command = [sys.executable, "-W", "error", "-m", "zoo", "hub", "serve", "--root", root]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, "--port", "0", *options], **pipes) as process:
        try:
            url = process.stdout.readline().strip()
            yield SimpleNamespace(url=url, storage=Storage(root), process=process)
        finally:
            process.kill()


def zoo(*arguments):
    command = [sys.executable, "-m", "zoo", "hub", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


# zoo hub serve


def test_serve_until_interrupted(tmp_path):
    Storage(tmp_path).commit(REPO, {"config.json": b"{}"})
    with serving(tmp_path, "--token", MEMBER) as hub:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", hub.url)
        assert [model["id"] for model in send(hub, "GET", "/api/models")[2]] == [REPO]
        assert commit(hub, inline("a"))[0] == 200
        hub.process.send_signal(signal.SIGINT)
        assert hub.process.wait(timeout=10) == 0
        assert hub.process.stderr.read() == ""


def test_serve_makes_a_token_and_keeps_it(tmp_path):
    tokens = set()
    for _ in range(2):
        with serving(tmp_path) as hub:
            assert f"{tmp_path}/token" in hub.process.stderr.readline()
            tokens.add((tmp_path / "token").read_text())
            token = next(iter(tokens))
            assert send(hub, "GET", "/api/whoami-v2", token=token)[2]["name"] == "zoo"
            body = {"name": "new", "organization": "any"}
            assert send(hub, "POST", "/api/repos/create", body, None)[0] == 401
            assert send(hub, "POST", "/api/repos/create", body, token)[0] in (200, 409)
    assert len(tokens) == 1
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600


def test_serve_with_users(tmp_path):
    (tmp_path / "users.toml").write_text(USERS)
    users = ["--tokens", tmp_path / "users.toml"]
    with serving(tmp_path / "hub", *users, "--private", "--max-files", "2") as hub:
        body = {"name": "digits", "organization": "acme"}
        assert send(hub, "POST", "/api/repos/create", body, "hf_bob")[0] == 403
        assert send(hub, "POST", "/api/repos/create", body, "hf_ada")[0] == 200
        assert send(hub, "GET", "/api/models", token=None)[0] == 401
        assert len(send(hub, "GET", "/api/models", token="hf_bob")[2]) == 1
        lines = [inline(name) for name in "abc"]
        assert commit(hub, *lines, token="hf_ada")[0] == 413


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[ada", "Cannot read the tokens"),
        ("ada = 1", "needs a token"),
        ("[ada]", "needs a token"),
        ("[ada]\ntoken = ''", "needs a token"),
        ("[ada]\ntoken = 'x'\norgs = 'acme'", "needs a token"),
        ("[ada]\ntoken = 'x'\nrole = 'admin'", "'read' or 'write'"),
        ("[ada]\ntoken = 'x'\n[bob]\ntoken = 'x'", "the same token"),
    ],
)
def test_broken_users(tmp_path, text, message):
    from zoo.errors import ConfigError
    from zoo.hub.access import read_tokens

    (tmp_path / "users.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_tokens(tmp_path / "users.toml")


def test_wrong_usage(tmp_path):
    both = zoo("serve", "--root", tmp_path, "--token", "x", "--tokens", tmp_path / "users.toml")
    assert (both.returncode, "not both" in both.stderr) == (2, True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        failed = zoo("serve", "--root", tmp_path, "--port", port)
    assert (failed.returncode, "Traceback" in failed.stderr) == (1, False)
    assert f"Cannot listen on 127.0.0.1 port {port}" in failed.stderr


def test_server_that_is_not_installed(monkeypatch):
    import importlib.util

    from click.testing import CliRunner

    from zoo.cli import main

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "starlette" else real(name)
    )
    result = CliRunner().invoke(main, ["hub", "serve", "--root", "x"])
    assert result.exit_code == 1
    assert (
        "The hub needs starlette, which is not installed: `pip install starlette`" in result.output
    )


def test_gc(tmp_path):
    storage = Storage(tmp_path)
    storage.commit(REPO, {"a": b"1"})
    storage.blobs.add(b"12345")
    dry = zoo("gc", "--root", tmp_path, "--older-than", "0h", "--dry-run", "--json")
    assert json.loads(dry.stdout) == {"files": 1, "bytes": 5, "dry_run": True}
    assert zoo("gc", "--root", tmp_path).stdout == "Removed 0 files, 0 B.\n"
    assert zoo("gc", "--root", tmp_path, "--older-than", "0h").stdout == "Removed 1 file, 5 B.\n"
    assert zoo("gc", "--root", tmp_path / "nowhere").returncode == 2
    assert not (tmp_path / "nowhere").exists()


# The stock command, with hf_xet installed and no other variable set


@pytest.fixture
def hf(hub, tmp_path):
    """Runs `hf` against the hub; what it printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env = {**kept, "HF_ENDPOINT": hub.url, "HF_TOKEN": MEMBER, "HF_HOME": str(tmp_path / "home")}
    code = "from huggingface_hub.cli.hf import main; main()"

    def run(*arguments, fails=False):
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture
def folder(tmp_path):
    """A folder with a model in it, and one file that is not small."""
    files = {"model.safetensors": WEIGHTS, "config.json": b"{}", "sub/big.bin": os.urandom(3 << 20)}
    for path, content in files.items():
        (tmp_path / "up" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "up" / path).write_bytes(content)
    return SimpleNamespace(path=tmp_path / "up", files=files)


def head(hub, revision="main"):
    found = hub.storage.commit_at(hub.storage.repo(REPO), revision).files
    return {path: hub.storage.blob_path(blob).read_bytes() for path, blob in found.items()}


def test_hf_uploads_and_downloads(hub, hf, folder, tmp_path):
    assert "ada" in hf("auth", "whoami")
    hf("upload", REPO, folder.path)
    assert head(hub) == folder.files
    hf("upload", REPO, folder.path / "config.json", "copy.json", "--commit-message", "Copy")
    assert head(hub) == {**folder.files, "copy.json": b"{}"}
    hf("upload", REPO, folder.path / "sub", ".", "--delete", "*.json", "--create-pr")
    assert set(head(hub, "refs/pr/1")) == {"model.safetensors", "sub/big.bin", "big.bin"}
    hub.faults.add(Fault("*/big.bin", cut_after=1 << 20, times=1))
    hf("download", REPO, "--local-dir", tmp_path / "down")
    for path, content in head(hub).items():
        assert (tmp_path / "down" / path).read_bytes() == content


def test_hf_manages_repos(hub, hf, digits):
    hf("repos", "create", "acme/new", "--private")
    assert hub.storage.repo("acme/new").private
    assert "exists already" in hf("repos", "create", "acme/new", fails=True)
    hf("repos", "settings", "acme/new", "--public")
    hf("repos", "tag", "create", REPO, "v1")
    assert "v1" in hf("repos", "tag", "list", REPO)
    hf("repos", "branch", "create", REPO, "dev")
    hf("repos", "delete-files", REPO, "*.json", "--revision", "dev")
    assert set(head(hub, "dev")) == {"README.md", "model.safetensors"}
    hf("repos", "branch", "delete", REPO, "dev")
    hf("repos", "tag", "delete", REPO, "v1", "--yes")
    assert hub.storage.repo(REPO).names == {"main": digits}
    hf("repos", "move", "acme/new", "acme/moved")
    hf("repos", "delete", "acme/moved", "--yes")
    assert [repo.id for repo in hub.storage.repos()] == [REPO]


# Under stress: short runs of what the scripts do at length


@pytest.mark.parametrize(
    ("script", "options", "expected"),
    [
        ("hub_kill_test.py", ["--rounds", "2"], r"2 kills: \d+ commits, .* all whole"),
        ("hub_many_clients.py", ["--seconds", "2"], r"64 clients, 2 s: .*, 0 errors"),
        ("hub_big_file.py", ["--size", "6e7"], r"hf download: .*; hub: \d+ MB"),
    ],
)
def test_scripts(script, options, expected):
    done = subprocess.run(
        [sys.executable, SCRIPTS / script, *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(expected, done.stdout)


def test_processes_share_a_folder(tmp_path):
    """A commit of one process is there for another at once."""
    with serving(tmp_path, "--token", MEMBER) as one, serving(tmp_path, "--token", MEMBER) as two:
        send(one, "POST", "/api/repos/create", {"name": "digits", "organization": "acme"})
        for n, hub in enumerate([one, two, one, two]):
            assert commit(hub, inline(f"{n}"))[0] == 200
        for hub in (one, two):
            tree = json.loads(ask(hub, f"/api/models/{REPO}/tree/main")[2])
            assert [entry["path"] for entry in tree] == ["0", "1", "2", "3"]
