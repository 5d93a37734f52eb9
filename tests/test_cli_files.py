"""`zoo pull`, `lock`, `verify` and `cache`, against a hub on loopback."""

import hashlib
import json
import os
import time
from pathlib import Path

import pytest
from cli_fixtures import CARD, FILES, REPO, head

from zoo.hub import Fault

SHA256 = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
CACHE_KEYS = {"repo", "endpoint", "commit", "file", "path", "sha256", "size", "last_used"}


def commit_of(hub, **files):
    changed = {name.replace("_", "."): content for name, content in files.items()}
    return hub.storage.commit(REPO, {**FILES, **changed})


def gone_unused(tmp_path, days):
    """Make every file of the cache one that was last used that long ago."""
    then = time.time() - days * 86400
    for record in tmp_path.rglob(".zoo/files/**/*.json"):
        os.utime(record, (then, then))


def test_pull_of_a_card_and_of_its_repo(cli, own_hub):
    card = json.loads(cli("pull", CARD, "--json").stdout)
    assert set(card) == {"name", "origin", "commit", "pull_request", "bytes", "files"}
    assert (card["name"], card["origin"]) == (CARD, REPO)
    assert card["commit"] == head(own_hub)
    (weights,) = card["files"]
    assert Path(weights).read_bytes() == FILES["model.safetensors"]
    assert card["bytes"] == len(FILES["model.safetensors"])

    repo = json.loads(cli("pull", f"hf://{REPO}@main", "--json").stdout)
    assert {Path(file).name for file in repo["files"]} == set(FILES)
    assert repo["bytes"] == sum(map(len, FILES.values()))
    assert repo["commit"] == card["commit"]


def test_pull_says_what_it_did(cli, own_hub):
    out = cli("pull", CARD).stdout
    facts = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert (facts["Model"], facts["From"]) == (CARD, REPO)
    assert facts["Size"] == f"{len(FILES['model.safetensors'])} B, verified"
    assert Path(facts["File"]).name == "model.safetensors"


def test_pull_updates_and_offline_does_not_ask(cli, own_hub):
    first = json.loads(cli("pull", REPO, "--json").stdout)["commit"]
    second = commit_of(own_hub, config_json=b'{"architecture": "test_resnet", "num_classes": 7}')
    assert second != first
    asked = len(own_hub.requests)
    assert json.loads(cli("pull", REPO, "--json", "--offline").stdout)["commit"] == first
    assert json.loads(cli("pull", REPO, "--json", env={"HF_HUB_OFFLINE": "1"}).stdout)
    assert len(own_hub.requests) == asked
    assert json.loads(cli("pull", REPO, "--json").stdout)["commit"] == second
    at_first = json.loads(cli("pull", REPO, "--json", "--revision", first).stdout)
    assert at_first["commit"] == first


def test_pull_with_options_instead_of_the_environment(cli, hub, tmp_path):
    hub.storage.commit(REPO, FILES)
    out = cli("pull", CARD, "--endpoint", hub.url, "--cache-dir", tmp_path / "c", "--json").stdout
    (file,) = json.loads(out)["files"]
    assert Path(file).is_relative_to(tmp_path / "c")
    missing = cli("pull", CARD, "--endpoint", hub.url, "--offline", code=1).stderr
    assert missing.startswith("Error: Offline, and which commit ")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("test_resnt.r160_in1k", "Did you mean 'test_resnet"),
        ("test_resnet.r161_in1k", "Did you mean 'r160_in1k'?"),
        ("timm/nothing", "No repo http://127.0.0.1"),
        (f"{REPO}@mian", "has no branch, tag or commit 'mian'. Did you mean 'main'?"),
        ("./nowhere", "No folder nowhere."),
        ("resnet50t", "No safetensors weights of 'resnet50t' are published."),
        ("a b", "There is no model 'a b'."),
        ("http://127.0.0.1/x", "is plain http"),
    ],
)
def test_pull_of_what_is_not_there(cli, own_hub, name, message):
    result = cli("pull", name, code=1)
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_pull_of_spoiled_weights_is_a_mismatch(cli, own_hub, tmp_path):
    own_hub.faults.add(Fault("*.safetensors", flip_byte=70, times=1))
    result = cli("pull", CARD, code=3)
    assert "was removed from the cache" in result.stderr
    assert not list(tmp_path.rglob("snapshots/*/model.safetensors"))
    cli("pull", CARD)


def test_lock_then_pull(cli, own_hub):
    result = cli("lock", CARD, REPO)
    assert result.stderr == "zoo.lock locks 2 files.\n"
    assert [line.split()[-1] for line in result.stdout.splitlines()] == ["file", *sorted(FILES)]
    commit = head(own_hub)
    assert json.loads(Path("zoo.lock").read_text())["files"] == [
        {"repo": REPO, "file": n, "commit": commit, "sha256": SHA256[n], "size": len(FILES[n])}
        for n in sorted(FILES)
    ]
    later = commit_of(own_hub, README_md=b"# newer")
    assert json.loads(cli("pull", CARD, "--json").stdout)["commit"] == later
    locked = cli("pull", CARD, "--lockfile", "zoo.lock", "--json").stdout
    assert json.loads(locked)["commit"] == commit
    again = json.loads(cli("lock", REPO, "--json").stdout)
    assert again["lockfile"] == "zoo.lock"
    assert {entry["commit"] for entry in again["files"]} == {later}


def test_locked_otherwise_is_a_mismatch(cli, own_hub):
    cli("lock", REPO)
    content = Path("zoo.lock").read_text()
    Path("zoo.lock").write_text(content.replace(SHA256["model.safetensors"], "0" * 64))
    result = cli("pull", REPO, "--lockfile", "zoo.lock", code=3)
    assert (
        "'model.safetensors' of timm/test_resnet.r160_in1k is not the locked one" in result.stderr
    )
    assert "does not list" in cli("pull", "a/b", "--lockfile", "zoo.lock", code=3).stderr


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([REPO, "./here"], "./here is on this disk"),
        ([REPO, "timm/nothing"], "No repo"),
        (["--lockfile", "nowhere/zoo.lock", REPO], "No folder nowhere for the lockfile"),
        ([f"{REPO}@first", REPO], "a lockfile holds one of each repo"),
    ],
)
def test_lock_writes_all_or_nothing(cli, own_hub, names, message):
    cli("lock", REPO)
    own_hub.storage.tag(REPO, "first", "main")
    commit_of(own_hub, README_md=b"# newer")
    before = Path("zoo.lock").read_bytes()
    assert message in cli("lock", *names, code=1).stderr
    assert Path("zoo.lock").read_bytes() == before
    assert os.listdir() == ["zoo.lock"]  # noqa: PTH208


def test_verify(cli, own_hub, tmp_path):
    empty = cli("verify")
    assert (empty.stdout, empty.stderr) == ("", "0 of 0 files as verified.\n")
    assert json.loads(cli("verify", "--json").stdout) == []
    files = [Path(file) for file in json.loads(cli("pull", REPO, "--json").stdout)["files"]]
    paths = {file.name: file for file in files}
    good = cli("verify")
    assert [line.split()[0] for line in good.stdout.splitlines()] == ["status", "ok", "ok"]
    assert good.stderr == "2 of 2 files as verified.\n"

    paths["model.safetensors"].resolve().write_bytes(b"x" * len(FILES["model.safetensors"]))
    paths["config.json"].unlink()
    assert cli("verify", code=3).stderr == "0 of 2 files as verified.\n"
    entries = {e["file"]: e for e in json.loads(cli("verify", "--json", code=3).stdout)}
    assert {name: entry["status"] for name, entry in entries.items()} == {
        "config.json": "missing",
        "model.safetensors": "changed",
    }
    changed = entries["model.safetensors"]
    assert set(changed) == {
        "status", "repo", "commit", "file", "size", "sha256", "found", "path",
    }  # fmt: skip
    assert changed["sha256"] == SHA256["model.safetensors"]
    assert changed["found"] == hashlib.sha256(b"x" * changed["size"]).hexdigest()
    assert entries["config.json"]["found"] is None
    cli("pull", REPO, code=3)  # the changed file goes
    cli("pull", REPO)
    cli("verify")


def test_cache_ls(cli, own_hub):
    assert cli("cache", "ls").stdout == ""
    assert cli("cache", "ls", "--json").stdout == "[]\n"
    cli("pull", REPO)
    entries = json.loads(cli("cache", "ls", "--json").stdout)
    assert {entry["file"]: entry["sha256"] for entry in entries} == SHA256
    assert all(set(entry) == CACHE_KEYS for entry in entries)
    assert all(Path(entry["path"]).read_bytes() == FILES[entry["file"]] for entry in entries)
    header, line = cli("cache", "ls").stdout.splitlines()
    assert header.split() == ["used", "size", "files", "commit", "repo"]
    total = sum(map(len, FILES.values()))
    commit = entries[0]["commit"][:12]
    assert line.split() == ["just", "now", str(total), "B", "2", commit, REPO]


@pytest.mark.parametrize("name", [REPO, f"hf://{REPO}", CARD, "test_resnet"])
def test_cache_rm(cli, own_hub, name):
    cli("pull", REPO)
    removed = cli("cache", "rm", name, "--json")
    assert {entry["file"] for entry in json.loads(removed.stdout)} == set(FILES)
    assert removed.stderr == f"Removed 2 files, {sum(map(len, FILES.values()))} B.\n"
    assert cli("cache", "ls").stdout == ""


def test_cache_rm_of_what_is_not_there(cli, own_hub):
    cli("pull", REPO)
    result = cli("cache", "rm", REPO.replace("resnet", "resnt"), code=1)
    assert f"Did you mean '{REPO}'?" in result.stderr
    assert len(json.loads(cli("cache", "ls", "--json").stdout)) == 2


def test_cache_prune_asks(cli, own_hub, tmp_path):
    cli("pull", REPO)
    assert cli("cache", "prune").stderr == "Removed 0 files, 0 B.\n"
    gone_unused(tmp_path, days=31)
    question = f"Remove 2 files, {sum(map(len, FILES.values()))} B? [y/N] "
    for answer in ("", "n\n", "what\n"):
        refused = cli("cache", "prune", input=answer, code=1)
        assert refused.stderr == question + (
            "Nothing was removed. With --yes there is no question.\n"
        )
        assert refused.stdout.splitlines()[1].split()[:3] == ["31", "d", "ago"]
    assert len(json.loads(cli("cache", "ls", "--json").stdout)) == 2
    assert cli("cache", "prune", input="y\n").stderr.startswith(question + "Removed 2 files")
    assert cli("cache", "ls").stdout == ""


def test_cache_prune_of_an_age_without_asking(cli, own_hub, tmp_path):
    cli("pull", REPO)
    gone_unused(tmp_path, days=8)
    assert (
        json.loads(cli("cache", "prune", "--older-than", "9d", "--dry-run", "--json").stdout) == []
    )
    shown = cli("cache", "prune", "--older-than", "1w", "--dry-run", "--json")
    assert {entry["file"] for entry in json.loads(shown.stdout)} == set(FILES)
    assert len(json.loads(cli("cache", "ls", "--json").stdout)) == 2
    removed = cli("cache", "prune", "--older-than", "1w", "--yes", "--json")
    assert json.loads(removed.stdout) == json.loads(shown.stdout)
    assert cli("cache", "ls").stdout == ""
