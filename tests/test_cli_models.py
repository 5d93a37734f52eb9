"""`zoo predict`, `embed` and `save`, on a small model in a folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo.cli.images import SUFFIXES, Images
from zoo.errors import InputError


@pytest.fixture
def photos(tmp_path):
    """A folder with three images, one broken, and other things."""
    folder = tmp_path / "photos"
    (folder / "more.png").mkdir(parents=True)
    noise = np.random.default_rng(3)
    for name in ("b.png", "a.PNG", "c.jpg"):
        Image.fromarray(noise.integers(0, 256, (70, 90, 3), np.uint8)).save(folder / name)
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image, by its name")
    return folder


def good(photos):
    return [str(photos / name) for name in ("a.PNG", "b.png", "c.jpg")]


def test_predict_as_json(cli, tiny, photos):
    folder, model = tiny
    result = cli("predict", folder, *good(photos), "--json", "--top", 2)
    assert result.stderr == ""
    expected = model.classify(good(photos), top=2)
    assert json.loads(result.stdout) == [
        {
            "image": image,
            "predictions": [
                {"label": p.label, "index": p.index, "score": p.score} for p in predictions
            ],
        }
        for image, predictions in zip(good(photos), expected, strict=True)
    ]


def test_predict_prints_a_table_for_each_image(cli, tiny, photos):
    folder, model = tiny
    image = good(photos)[0]
    lines = cli("predict", folder, image).stdout.splitlines()
    (predictions,) = model.classify(image)
    assert lines[:2] == [image, "   score  index  label"]
    assert [line.split() for line in lines[2:-1]] == [
        [f"{100 * p.score:.2f}", "%", str(p.index), p.label] for p in predictions
    ]
    assert lines[-1] == ""


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_predict_goes_on_after_broken_images(cli, tiny, photos, batch_size):
    arguments = [photos, photos / "nowhere.png", "--json", "--batch-size", batch_size]
    result = cli("predict", tiny[0], *arguments, code=1)
    assert [entry["image"] for entry in json.loads(result.stdout)] == good(photos)
    missing, broken = result.stderr.splitlines()
    assert missing == f"Skipped: {photos / 'nowhere.png'} is not there."
    assert broken.startswith(f"Skipped: The image, '{photos / 'broken.png'}', is no image that")


def test_predict_of_nothing_but_missing_images_loads_no_model(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # so that its weights cannot be had
    (tmp_path / "empty").mkdir()
    result = cli("predict", "resnet50", "a.png", tmp_path / "empty", "--json", code=1)
    assert result.stdout == "[]\n"
    assert result.stderr == (
        "Skipped: a.png is not there.\n"
        f"Skipped: The folder {tmp_path / 'empty'} has no image in it ({', '.join(SUFFIXES)}).\n"
    )


def test_predict_with_labels_of_a_file(cli, tiny, photos):
    Path("labels.txt").write_text("cát\ndog\n鳥\n", "utf-8")
    image = good(photos)[0]
    result = cli("predict", tiny[0], image, "--labels", "labels.txt", "--json")
    (entry,) = json.loads(result.stdout)
    assert {p["index"]: p["label"] for p in entry["predictions"]} == {0: "cát", 1: "dog", 2: "鳥"}

    Path("labels.txt").write_text("one\ntwo\n")
    wrong = cli("predict", tiny[0], image, "--labels", "labels.txt", code=1)
    assert "labels.txt names 2 classes, and the head of" in wrong.stderr
    assert "there is no such file" in cli(
        "predict", tiny[0], image, "--labels", "nowhere.txt", code=1
    ).stderr  # fmt: skip
    Path("labels.txt").write_bytes(b"\xff\xfe\xfd")
    broken = cli("predict", tiny[0], image, "--labels", "labels.txt", code=1)
    assert "cannot be read as a text of one class per line" in broken.stderr


def test_predict_with_other_weights_and_dtype(cli, tiny, photos, tmp_path):
    folder, model = tiny
    image = good(photos)[0]
    usual = cli("predict", folder, image, "--json").stdout
    weights = tmp_path / "copy.safetensors"
    weights.write_bytes((folder / "model.safetensors").read_bytes())
    assert cli("predict", folder, image, "--json", "--weights", weights).stdout == usual
    assert cli("predict", folder, image, "--json", "--dtype", "auto").stdout == usual
    wider = json.loads(cli("predict", folder, image, "--json", "--dtype", "bfloat16").stdout)
    scores = [p["score"] for p in wider[0]["predictions"]]
    np.testing.assert_allclose(scores, [p.score for p in model.classify(image)[0]], rtol=0.02)
    assert scores != [p["score"] for p in json.loads(usual)[0]["predictions"]]
    assert "'float7' is no Keras dtype" in cli(
        "predict", folder, image, "--dtype", "float7", code=1
    ).stderr  # fmt: skip


def test_predict_on_a_terminal_of_its_own_says_nothing_else(tiny, photos):
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-m", "zoo", "predict", tiny[0], good(photos)[0], "--json"]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (run.returncode, run.stderr) == (0, "")
    assert json.loads(run.stdout)[0]["image"] == good(photos)[0]


def test_a_file_name_that_is_no_text(cli, tiny, photos):
    name = os.fsdecode(b"caf\xe9.png")
    Path(name).write_bytes(Path(good(photos)[0]).read_bytes())
    assert cli("predict", tiny[0], name).stdout.startswith("caf�.png\n")
    (entry,) = json.loads(cli("predict", tiny[0], name, "--json").stdout)
    assert entry["image"] == name


def test_embed_to_a_file(cli, tiny, photos):
    folder, model = tiny
    result = cli("embed", folder, *good(photos), "--out", "v.npy")
    assert result.stdout == "v.npy: float32 [3, 96]\n"
    vectors = np.load("v.npy")
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, model.embed(good(photos)))
    assert os.listdir() == ["v.npy"]  # noqa: PTH208
    as_json = cli("embed", folder, *good(photos), "--out", "v.npy", "--json").stdout
    assert json.loads(as_json) == {
        "file": "v.npy",
        "shape": [3, 96],
        "dtype": "float32",
        "inputs": good(photos),
    }


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_embed_to_json(cli, tiny, photos, option):
    folder, model = tiny
    entries = json.loads(cli("embed", folder, photos, *option, code=1).stdout)
    assert [entry["input"] for entry in entries] == good(photos)
    found = np.array([entry["embedding"] for entry in entries], np.float32)
    np.testing.assert_allclose(found, model.embed(good(photos)), rtol=1e-5, atol=1e-6)


def test_embed_writes_no_rows_that_are_not_those_of_the_inputs(cli, tiny, photos, monkeypatch):
    Path("v.npy").write_bytes(b"from before")
    result = cli("embed", tiny[0], photos, "--out", "v.npy", code=1)
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1] == (
        "Error: 1 of the inputs cannot be read; v.npy was not written."
    )
    assert Path("v.npy").read_bytes() == b"from before"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    early = cli("embed", "resnet50", "a.png", good(photos)[0], "--out", "v.npy", code=1)
    assert "v.npy was not written" in early.stderr  # and the weights were not asked for


def test_embed_into_a_folder_that_cannot_be_written(cli, photos):
    Path("locked").mkdir(mode=0o555)
    if os.access("locked", os.W_OK):
        pytest.skip("this user may write anywhere")
    result = cli("embed", "no_such_model", good(photos)[0], "--out", "locked/v.npy", code=2)
    assert "locked/v.npy is no file in a folder" in result.stderr


def test_save(cli, tiny):
    folder, _ = tiny
    result = cli("save", folder, "out")
    assert result.stdout == f"{folder} is in out\n"
    before = (folder / "model.safetensors").read_bytes()
    assert Path("out/model.safetensors").read_bytes() == before
    assert zoo.load("./out").labels == ("cat", "dog", "owl")


def test_save_leaves_a_folder_with_files_alone(cli, tiny):
    Path("out").mkdir()
    Path("out/mine.txt").write_text("mine")
    Path("out/config.json").write_text("mine")
    result = cli("save", tiny[0], "out", code=1)
    assert "out has files in it, and was left as it is." in result.stderr
    assert "--force" in result.stderr
    assert sorted(os.listdir("out")) == ["config.json", "mine.txt"]  # noqa: PTH208
    forced = json.loads(cli("save", tiny[0], "out", "--force", "--json").stdout)
    assert forced == {
        "folder": "out",
        "files": ["out/model.safetensors", "out/config.json", "out/README.md"],
    }
    assert Path("out/mine.txt").read_text() == "mine"
    assert json.loads(Path("out/config.json").read_text())["architecture"] == "test_resnet"


def test_images_one_failure_costs_its_batch_alone(photos, capsys):
    calls = []

    def verb(batch):
        calls.append([Path(name).name for name in batch])
        if str(photos / "b.png") in batch:
            raise InputError("b is bad.")
        return [name.upper() for name in batch]

    images = Images([*good(photos)[1:], "https://127.0.0.1/d.jpg", good(photos)[0]])
    results = list(images.through(verb, 2))
    assert calls == [["b.png", "c.jpg"], ["b.png"], ["c.jpg"], ["d.jpg", "a.PNG"]]
    assert results == [
        (name, name.upper())
        for name in (good(photos)[2], "https://127.0.0.1/d.jpg", good(photos)[0])
    ]
    assert images.failed == 1
    assert capsys.readouterr().err == "Skipped: b is bad.\n"
