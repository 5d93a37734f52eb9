"""How the tests of the command line run it: in this process, or as a user does."""

import json
import os
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner
from hub_fixtures import WEIGHTS
from synthetic import as_trained

from zoo.cli import main

CARD = "test_resnet.r160_in1k"
REPO = f"timm/{CARD}"
CONFIG = json.dumps({"architecture": "test_resnet", "num_classes": 1000}).encode()
FILES = {"config.json": CONFIG, "model.safetensors": WEIGHTS}


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Runs the command line in this process, in the empty folder `tmp_path / "here"`.

    Its caches are below `tmp_path`. The result has `exit_code`, `stdout`, `stderr`.
    """
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")  # which `finetune` would set for all tests

    def run(*arguments, code=0, **options):
        result = CliRunner().invoke(main, list(map(str, arguments)), prog_name="zoo", **options)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture
def own_hub(hub, monkeypatch):
    """The `hub`, asked by default, with `FILES` as `REPO`."""
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    hub.storage.commit(REPO, FILES)
    return hub


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The folder of a small model with three classes, and the model."""
    import keras

    import zoo

    keras.utils.set_random_seed(7)
    folder = tmp_path_factory.mktemp("tiny") / "model"
    model = zoo.load("test_resnet", pretrained=False, labels=["cat", "dog", "owl"])
    zoo.save(as_trained(model), folder)
    return folder, zoo.load(folder)


def head(hub):
    """The newest commit of `REPO`."""
    return hub.storage.repo(REPO).branches["main"]


def start(*arguments, **environment):
    """The command line in a process of its own; each argument a string."""
    return subprocess.Popen(
        [sys.executable, "-m", "zoo", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        # a shell that runs the tests in the background ignores Ctrl-C, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
