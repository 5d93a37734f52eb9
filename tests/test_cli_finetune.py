"""`zoo finetune`, `zoo evaluate` and `zoo predict --batch` as a user of the shell meets them."""

import csv
import json
import os

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from sklearn.datasets import load_digits

from zoo.cli import main
from zoo.cli.models import use_onednn

MODEL = "resnet_mini.digits"

pytestmark = pytest.mark.filterwarnings("default")  # that of the broken file


def run(*arguments):
    """Exit code, standard output and standard error of a command, run in this process."""
    command, environment = list(map(str, arguments)), {"TF_ENABLE_ONEDNN_OPTS": "0"}
    result = CliRunner().invoke(main, command, prog_name="zoo", env=environment)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def flowers(tmp_path_factory):
    """Folders `train` and `test` of three kinds of digits, one file of which is broken."""
    folder = tmp_path_factory.mktemp("data")
    digits = load_digits()
    for part, places in {"train": slice(0, 8), "test": slice(8, 12)}.items():
        for kind in (5, 6, 7):
            for row in np.flatnonzero(digits.target == kind)[places]:
                path = folder / part / f"kind{kind}" / f"{row}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.uint8(digits.images[row] * 255 / 16)).save(path)
    (folder / "train" / "kind5" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    return folder


@pytest.fixture(scope="module")
def tuned(flowers):
    """The folder of a run."""
    code, out, err = run(
        "finetune", MODEL, "--data", flowers / "train", "--validation", flowers / "test",
        "--epochs", 3, "--augment", "none", "--learning-rate", 2e-3, "--output", flowers / "run1",
    )  # fmt: skip
    assert code == 0, err
    assert "1 of 25 examples cannot be read" in err
    assert "broken.png" in err
    assert err.count("val_accuracy") == 3
    assert "24 to train, 12 to validate (as given)" in err
    assert "full (one learning rate was given, for all layers)" in err
    assert "3 epochs of 3 steps of 8 examples" in err
    assert "macro F1" in out
    assert "its model is in" in out
    return flowers / "run1"


def test_a_run_leaves_a_model_that_other_verbs_take(tuned, flowers):
    code, out, _ = run("evaluate", tuned, "--data", flowers / "test", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["examples"] == 12
    assert found["accuracy"] == json.loads((tuned / "metrics.json").read_text())["accuracy"]
    code, out, _ = run("publish", tuned, flowers / "published", "--license", "cc-by-4.0")
    assert code == 0, out
    assert (flowers / "published" / "model.safetensors").read_bytes() == (
        tuned / "model.safetensors"
    ).read_bytes()


def test_a_finished_run_is_shown_again(tuned, flowers):
    arguments = (
        "finetune", MODEL, "--data", flowers / "train", "--validation", flowers / "test",
        "--augment", "none", "--learning-rate", 2e-3, "--output", tuned,
    )  # fmt: skip
    code, out, err = run(*arguments, "--epochs", 3, "--json")
    assert code == 0
    assert len(json.loads(out)["history"]["val_loss"]) == 3
    assert "val_accuracy" not in err
    code, _, err = run(*arguments, "--epochs", 5)
    assert code == 1
    assert "settings.epochs was 3, is 5" in err
    assert "--restart" in err


def test_a_confusion_matrix_is_drawn(tuned, flowers):
    code, _, err = run(
        "evaluate", tuned, "--data", flowers / "test", "--plot", flowers / "confusion.png"
    )
    assert code == 0, err
    with Image.open(flowers / "confusion.png") as picture:
        assert min(picture.size) > 300


def test_a_folder_of_pictures_becomes_a_table(tuned, flowers):
    out = flowers / "predictions.csv"
    code, said, err = run(
        "predict", tuned, "--batch", flowers / "train" / "kind5", "--out", out, "--top", 2
    )
    assert code == 1
    assert "broken.png" in err
    assert "8 images" in said
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == ["1", "2"] * 8
    assert {row["label"] for row in rows} <= {"kind5", "kind6", "kind7"}
    assert all(
        float(a["score"]) >= float(b["score"]) for a, b in zip(rows[::2], rows[1::2], strict=True)
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("predict", MODEL), "Missing argument 'INPUT...', or --batch"),
        (("predict", MODEL, "--out", "x.csv", "a.png"), "--batch and --out go together"),
        (("finetune", MODEL, "--data", "nowhere", "--output", "x"), "'nowhere' does not exist"),
        (("finetune", MODEL, "--output", "x"), "Missing option '--data'"),
        (("evaluate", MODEL, "--data", ".", "--plot", "no/such.png"), "may be written"),
    ],
)
def test_wrong_arguments(arguments, said):
    code, _, err = run(*arguments)
    assert code == 2
    assert said in err


def test_a_model_that_is_no_classifier(flowers):
    code, _, err = run(
        "finetune", "lstm_lm_mini.pydoc", "--data", flowers / "train", "--output", flowers / "no"
    )
    assert code == 1
    assert not (flowers / "no").exists()
    assert "does text-generation" in err


def test_onednn_is_on_unless_the_environment_says_otherwise(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    use_onednn()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0"
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    use_onednn()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1"
