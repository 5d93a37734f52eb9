"""The models of digits that ship with zoo: what their cards claim, and the whole way to labels."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo.errors import IntegrityError
from zoo.loading import pulling

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))
import train_digits  # noqa: E402  (it can only be imported from that folder)

SAMPLES = sorted(train_digits.SAMPLES.glob("*.png"))
SIZES = {"resnet_mini": 400_000, "lstm_mini": 1_200_000, "vit_mini": 600_000}  # bytes at most


@pytest.fixture(scope="module", params=train_digits.RECIPES.values(), ids=train_digits.RECIPES)
def recipe(request):
    return request.param


@pytest.fixture(scope="module")
def model(recipe):
    return zoo.load(recipe.architecture, offline=True)


@pytest.fixture(scope="module")
def split():
    return train_digits.split_digits()


def test_the_default_card_is_digits(recipe):
    assert zoo.info(recipe.architecture) == zoo.info(recipe.name)
    assert zoo.list_models(recipe.architecture) == [recipe.name]


def test_it_loads_whole_from_the_package(model, recipe):
    report = model.load_report
    assert (report.source, report.files) == (str(recipe.weights), ("model.safetensors",))
    assert (report.fresh, report.ignored, report.adapted) == ((), (), ())
    assert model.labels == tuple("0123456789")
    assert model.card.num_params == sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    size = (recipe.weights / "model.safetensors").stat().st_size
    assert size < SIZES[recipe.architecture]


def test_its_folder_says_what_its_card_says(model, recipe):
    card, again = model.card, zoo.load(recipe.weights).card
    for field in ("architecture", "config", "preprocessing", "labels", "license", "description"):
        assert getattr(again, field) == getattr(card, field), field


def test_changed_weights_are_refused(recipe, tmp_path, monkeypatch):
    shutil.copytree(recipe.weights, tmp_path / recipe.name)
    with (tmp_path / recipe.name / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    monkeypatch.setattr(pulling, "BUNDLED", tmp_path)
    with pytest.raises(IntegrityError, match=zoo.info(recipe.name).weights.sha256):
        zoo.load(recipe.name)


def test_the_split_holds_a_third_of_every_digit_out(split):
    training, held_out = split
    assert (len(training.labels), len(held_out.labels)) == (1198, 599)
    assert sorted([*training.numbers, *held_out.numbers]) == list(range(1797))
    assert max(abs(np.bincount(training.labels) - 2 * np.bincount(held_out.labels))) <= 2


def test_the_card_has_the_held_out_accuracy_and_it_is_no_worse_than_neighbours(
    model, recipe, split
):
    figures = train_digits.measure(model, *split)
    assert zoo.info(recipe.name).published == {"digits held-out": figures}
    assert figures["top1"] >= figures["knn"]


def test_the_samples_are_held_out_digits(split):
    _, held_out = split
    places = held_out.numbers.tolist()
    for path in SAMPLES:
        digit, number = path.stem.split("-")
        row = places.index(int(number))
        assert held_out.labels[row] == int(digit)
        assert np.array_equal(np.asarray(Image.open(path)), held_out.images[row])
    assert [path.name[0] for path in SAMPLES] == [d for d in "0123456789" for _ in range(4)]


def test_from_a_hub_it_says_the_same(model, recipe, split, hub, tmp_path):
    hub.storage.commit("acme/digits", {path.name: path for path in recipe.weights.iterdir()})
    options = {"endpoint": hub.url, "cache_dir": tmp_path / "cache"}
    fetched = zoo.load("acme/digits", **options)
    assert fetched.load_report.commit == hub.storage.repo("acme/digits").branches["main"]
    asked = len(hub.requests)
    again = zoo.load("acme/digits", **options)
    assert len(hub.requests) == asked > 0
    digits = train_digits.inputs_of(model, split[1])[:20]
    expected = model.classify(digits)
    assert fetched.classify(digits) == again.classify(digits) == expected


def test_the_demo_runs_and_draws(tmp_path):
    command = [sys.executable, SCRIPTS / "demo.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "0 requests" in done.stdout
    assert "40 of 40 held-out digits right" in done.stdout
    with Image.open(tmp_path / "demo_output" / "predictions.png") as sheet:
        assert sheet.getpixel((16, 100)) == (0x2E, 0x9E, 0x5B)
