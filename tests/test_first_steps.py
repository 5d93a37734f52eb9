"""What goes wrong in the first hour is said at once, and with what to do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_fixtures import CONFIG
from hub_fixtures import MEMBER, OUTSIDER, READER, TOKENS

import zoo
from zoo.errors import AccessError, UnknownNameError
from zoo.extras import EXTRAS, require
from zoo.hub import HubServer, Storage, User
from zoo.registry.registry import hint

# A process in which TensorFlow and Keras cannot be imported, and so are not waited for.
WITHOUT = """
import json, sys, zoo
sys.modules |= {"tensorflow": None, "keras": None}
from click.testing import CliRunner
from zoo.cli import main
results = [CliRunner().invoke(main, words, prog_name="zoo") for words in json.load(sys.stdin)]
print(json.dumps([[r.exit_code, r.output, repr(r.exception)] for r in results]))
"""


def light(*commands, **environment):
    """What the command line says to each of some commands, all of which fail without TensorFlow."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | environment,
    )
    results = json.loads(done.stdout)
    for code, output, exception in results:
        assert code in (1, 2), output
        assert exception.startswith("SystemExit"), exception
    return [output for _, output, _ in results]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The working folder: an image, a class folder of it, and a model's folder that is empty."""
    monkeypatch.chdir(tmp_path)
    digits = sorted((Path(zoo.__file__).parent / "bundled" / "digits").glob("*.png"))
    for name in ("x.png", "data/a/1.png", "data/b/2.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(digits[0].read_bytes())
    Path("run3").mkdir()
    return tmp_path


VERBS = [
    ("predict", "NAME", "x.png"),
    ("embed", "NAME", "x.png"),
    ("explain", "NAME", "x.png", "--out", "y.png"),
    ("generate", "NAME", "Once"),
    ("evaluate", "NAME", "--data", "data"),
    ("finetune", "NAME", "--data", "data", "--output", "run1"),
    ("publish", "NAME", "acme/net", "--token", "t"),
    ("publish", "NAME", "./net"),
    ("save", "NAME", "./net"),
    ("info", "NAME"),
    ("pull", "NAME"),
    ("lock", "NAME"),
]


NAMES = {
    "resnt50": "There is no model 'resnt50'. Did you mean 'resnet50'",
    "run3": "There is a folder ./run3",
    "./nowhere": "No folder nowhere.",
    "acme/net": "Check the network",
    "runs/run3": "There is a folder ./runs/run3",
}


def test_wrong_names_are_said_without_tensorflow(place):
    (place / "runs" / "run3").mkdir(parents=True)
    before = sorted(place.rglob("*"))
    commands = [
        [name if word == "NAME" else word for word in verb]
        for name in NAMES
        for verb in VERBS
        if (verb[0], name) != ("lock", "./nowhere")  # which takes no folders
    ]
    said = light(*commands, HF_ENDPOINT="http://127.0.0.1:9")
    for command, output in zip(commands, said, strict=True):
        assert next(NAMES[word] for word in command if word in NAMES) in output, command
    assert sorted(place.rglob("*")) == before  # nothing empty is left behind


@pytest.mark.parametrize("call", [zoo.load, zoo.pull])
def test_python_says_that_there_is_such_a_folder(place, call):
    with pytest.raises(UnknownNameError, match=r"There is a folder \./run3"):
        call("run3")


def test_publish_takes_names_as_load_does(place):
    with pytest.raises(UnknownNameError, match=r"There is a folder \./run3"):
        zoo.publish("run3", "./net")
    done = zoo.publish("resnet_mini.digits", "./net")
    assert {"config.json", "model.safetensors", "README.md"} <= {
        file.name for file in done.report.files
    }
    assert zoo.load("./net").labels == zoo.load("resnet_mini").labels


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("convnext_tiny", "timm has 'convnext_tiny', which zoo does not have yet"),
        ("convnext_tiny.in12k", "timm has 'convnext_tiny'"),
        ("convnxt_tiny", "timm has 'convnext_tiny'"),
        ("regnety_032", "timm has 'regnety_032'"),
        ("resnt50", "Did you mean 'resnet50'"),
        ("resnet5O", "Did you mean 'resnet50'"),
        ("bert-bas-uncased", "Did you mean 'bert-base-uncased'"),
        ("minilm", "all-minilm-l6-v2"),
        ("test_resnt.r160_in1k", "Did you mean 'test_resnet.r160_in1k'"),
    ],
)
def test_hints(name, said):
    assert said in hint(name)


@pytest.mark.parametrize("name", ["convnext_tiny", "llama", "yolov8n", "qwen", ""])
def test_nothing_unlike_is_proposed(name):
    assert "resnet" not in hint(name)


def test_a_model_of_texts_is_pointed_to_its_verb(place):
    [error] = light(["predict", "lstm_lm_mini.pydoc", "Return the"])
    assert "`zoo generate` goes on with a text" in error


def test_folders_in_folders_are_named(cli, place, tiny):
    os.chdir(place)
    (place / "data" / "empty").mkdir()
    refused = cli("predict", tiny[0], "data", code=1)
    assert "The folder data has no image in it" in refused.stderr
    assert "There are more in its folders a, b: give these, such as data/*/." in refused.stderr
    (place / "data" / "own.png").write_bytes(Path("x.png").read_bytes())
    noted = cli("predict", tiny[0], "data", "--top", 1)
    assert noted.stdout.count("data/own.png") == 1
    assert "Of data, its own files are taken alone. There are more in its" in noted.stderr


def test_a_table_of_no_image_is_not_written(cli, tiny):
    Path("photos").mkdir()
    Path("photos/broken.png").write_bytes(b"no image")
    refused = cli("predict", tiny[0], "--batch", "photos", "--out", "p.csv", code=1)
    assert "None of the images of photos can be read; p.csv was not written." in refused.stderr
    assert not Path("p.csv").exists()


# ---------------------------------------------------------------- the right to write


def test_how_a_token_is_given(hub, place):
    command = ["publish", "resnet_mini", "acme/net"]
    [error] = light([*command, "--endpoint", hub.url], HF_TOKEN=MEMBER)
    assert f"set HF_ENDPOINT={hub.url} beside HF_TOKEN" in error
    assert "--token" in error
    assert "HF_TOKEN is set, but not for this hub" in error
    assert hub.requests == []
    [own] = light(command, HF_ENDPOINT=hub.url)
    assert "set HF_TOKEN, log in with `hf auth login`, or give token= (--token)" in own


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("nobody's", "does not know the token that was sent"),
        (READER, "The token of 'eve' at http://[^ ]+ may read, and to publish acme/net takes one"),
        (OUTSIDER, "is of 'dan', who may not publish for 'acme'; it may for dan"),
    ],
)
def test_the_right_to_write_is_asked_for_first(hub, token, said):
    with pytest.raises(AccessError, match=said):
        zoo.publish("resnet_mini.digits", "acme/net", endpoint=hub.url, token=token)
    assert [request.path for request in hub.requests] == ["/api/whoami-v2"]


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the hub's client
def test_a_token_for_all_owners(tmp_path):
    tokens = TOKENS | {"all": User(name="zoo", orgs=("*",), role="write")}
    with HubServer(Storage(tmp_path / "hub"), tokens=tokens) as hub:
        done = zoo.publish("resnet_mini.digits", "acme/net", endpoint=hub.url, token="all")
        assert done.commit


def test_a_dry_run_needs_no_token(hub):
    done = zoo.publish("resnet_mini.digits", "acme/net", endpoint=hub.url, dry_run=True)
    assert done.report.passed


# ---------------------------------------------------------------- what is on this machine


def test_bundled_models():
    names = zoo.list_models(bundled=True)
    assert "resnet_mini.digits" in names
    assert all(zoo.info(name).weights.bundled for name in names)


def test_cached_models(own_hub, cli):
    bundled = zoo.list_models(bundled=True)
    assert zoo.list_models(cached=True) == bundled
    cli("pull", "test_resnet")
    assert zoo.list_models(cached=True) == sorted([*bundled, "test_resnet.r160_in1k"])
    assert zoo.list_models("test_*", cached=True) == ["test_resnet.r160_in1k"]
    assert "test_resnet.r160_in1k" in cli("list", "--cached").stdout
    assert "test_resnet.r160_in1k" not in cli("list", "--bundled").stdout


# ---------------------------------------------------------------- extras


def test_every_extra_of_the_code_is_one_of_the_package():
    import tomllib

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    for extra, distributions in EXTRAS.items():
        needed = {text.partition(">")[0] for text in project["optional-dependencies"][extra]}
        assert needed == set(distributions)


def test_what_is_missing_is_named(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"A picture needs matplotlib.*`pip install matplotlib`"):
        require("plots", "A picture")


# ---------------------------------------------------------------- the card of a repo


def test_info_of_a_repo_names_its_weights(own_hub, cli, tiny):
    commit = own_hub.storage.repo("timm/test_resnet.r160_in1k").branches["main"]
    said = cli("info", "timm/test_resnet.r160_in1k").stdout
    assert f"model.safetensors, timm/test_resnet.r160_in1k@{commit}" in said
    card = json.loads(cli("info", "timm/test_resnet.r160_in1k", "--json").stdout)
    assert card["weights"]["file"] == "model.safetensors"
    assert not any(r.path.endswith("model.safetensors") for r in own_hub.requests)
    assert f"model.safetensors, {tiny[0]}" in cli("info", tiny[0]).stdout


def test_info_of_a_repo_with_pickles_alone_says_so(own_hub, cli):
    own_hub.storage.commit("acme/old", {"config.json": CONFIG, "pytorch_model.bin": b"x"})
    result = cli("info", "acme/old")
    assert "none published" in result.stdout
    assert "has no safetensors weights, only pytorch_model.bin" in result.stderr
