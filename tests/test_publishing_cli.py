"""`zoo publish`: what it prints, what it exits with, and what it leaves."""

import json

import numpy as np
import pytest
from hub_fixtures import MEMBER, STRANGER

import zoo

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")

REPO = "acme/owls"
THREE = ["README.md", "config.json", "model.safetensors"]


@pytest.fixture
def as_member(own_hub, monkeypatch):
    """The hub that is asked by default, with the token of a member of `acme`."""
    monkeypatch.setenv("HF_TOKEN", MEMBER)
    own_hub.requests.clear()
    return own_hub


@pytest.fixture(scope="module")
def here(tiny):
    """The folder of a small model, under the licence of its architecture."""
    return tiny[0]


def test_a_folder_to_a_hub(cli, as_member, here, tiny):
    done = cli("publish", here, REPO, "--license", "mit", "--tag", "v1", "--message", "Owls")
    commit = as_member.storage.repo(REPO).tags["v1"]
    assert f"Published: {as_member.url}/{REPO} at commit {commit}" in done.stdout
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["added", "model.safetensors"] in [[line[0], line[-1]] for line in lines if line]
    assert ["ok", "licence", "mit"] in lines
    assert f"{REPO}@main at {as_member.url}: " in done.stdout
    again = zoo.load(REPO, endpoint=as_member.url, token=False)
    x = np.zeros((1, 64, 64, 3), np.float32)
    np.testing.assert_array_equal(again(x), tiny[1](x))


def test_dry_run(cli, as_member, here):
    done = cli("publish", here, REPO, "--license", "mit", "--dry-run")
    assert "Nothing was sent" in done.stderr
    assert {request.method for request in as_member.requests} == {"GET"}


def test_a_gate_that_is_not_passed(cli, as_member, here):
    done = cli("publish", here, REPO, "--license", "mine", code=3)
    assert "FAILED  licence" in done.stdout
    assert "nothing was sent" in done.stderr
    assert {request.method for request in as_member.requests} == {"GET"}


def test_json(cli, as_member, here):
    done = cli("publish", here, REPO, "--license", "mit", "--json")
    data = json.loads(done.stdout)
    assert data["commit"] == as_member.storage.repo(REPO).branches["main"]
    assert data["url"] == f"{as_member.url}/{REPO}"
    assert data["report"]["passed"] is True
    assert [file["name"] for file in data["report"]["files"]] == THREE


def test_json_of_a_refusal(cli, here):
    done = cli("publish", here, "./to", "--license", "mine", "--json", code=3)
    data = json.loads(done.stdout)
    assert (data["commit"], data["report"]["passed"]) == (None, False)
    failed = [check["name"] for check in data["report"]["checks"] if not check["passed"]]
    assert failed == ["licence"]


def test_a_token_that_may_not_write(cli, as_member, here):
    done = cli("publish", here, REPO, "--license", "mit", "--token", STRANGER, code=1)
    assert done.stderr.startswith("Error: ")
    assert "right to write" in done.stderr


def test_a_named_model_to_a_folder(cli, tmp_path):
    done = cli("publish", "resnet_mini", "./digits")
    folder = tmp_path / "here" / "digits"
    assert sorted(path.name for path in folder.iterdir()) == THREE
    assert done.stdout.endswith("Published: digits\n")


def test_options_of_hubs_do_not_fit_a_folder(cli, here):
    done = cli("publish", here, "./to", "--private", "--tag", "v1", code=1)
    assert "takes no private, tag" in done.stderr


def test_other_branches_pull_requests_and_force(cli, as_member, here):
    flags = ("--license", "mit")
    cli("publish", here, REPO, *flags, "--private")
    repo = as_member.storage.repo(REPO)
    assert repo.private
    cli("publish", here, REPO, *flags, "--revision", "next")
    done = cli("publish", here, REPO, "--license", "bsd", "--create-pr")
    assert "Published: " in done.stdout
    cli("publish", "resnet_mini", REPO, code=3)
    cli("publish", "resnet_mini", REPO, "--force")
    branches = as_member.storage.repo(REPO).branches
    assert branches["next"] == repo.branches["main"] != branches["main"]
