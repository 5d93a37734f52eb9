"""What was never trained stays marked: in the report, in files, on the page, at the gate."""

import copy
import json
import pickle

import keras
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from synthetic import as_trained

import zoo
from zoo.errors import FileFormatError, PublishError
from zoo.layers.building import learned_weights
from zoo.publishing import publish
from zoo.saving.readme import read_front_matter
from zoo.weights.files import UNTRAINED, open_checkpoint

X = np.random.default_rng(0).normal(size=(8, 32, 32, 1)).astype(np.float32)
Y = np.arange(8)
HEAD = ("fc.kernel", "fc.bias")
IMAGES = [np.full((32, 32), 30 * k, np.uint8) for k in range(8)]


@pytest.fixture(scope="module")
def random():
    """All weights random, by the name of a card with a licence, figures and a description."""
    keras.utils.set_random_seed(0)
    return zoo.load("resnet_mini.digits", pretrained=False)


@pytest.fixture(scope="module")
def fresh_head():
    return zoo.load("resnet_mini", num_classes=4)


def mark(path):
    with safe_open(path / "model.safetensors", "np") as file:
        return json.loads(file.metadata().get(UNTRAINED, "[]"))


def reloaded(model, how, folder):
    if how == "folder":
        return zoo.load(zoo.save(model, folder / "m"))
    if how == "shards":
        return zoo.load(zoo.save(model, folder / "m", max_shard_size=100_000))
    if how == "own file":
        zoo.save(model, folder / "m")
        return zoo.load("resnet_mini", weights=folder / "m" / "model.safetensors")
    if how == "keras file":
        model.save(folder / "m.keras")
        return keras.models.load_model(folder / "m.keras")
    return pickle.loads(pickle.dumps(model)) if how == "pickle" else copy.deepcopy(model)


WAYS = ["folder", "shards", "own file", "keras file", "pickle", "deepcopy"]


@pytest.mark.parametrize("how", WAYS)
def test_random_weights_are_so_after_a_reload(random, tmp_path, how):
    names = set(learned_weights(random))
    assert set(random.load_report.fresh) == names
    again = reloaded(random, how, tmp_path)
    assert set(again.load_report.fresh) == names
    assert "fresh: conv1.0.kernel" in str(again.load_report)


def test_a_fresh_head_is_so_after_a_reload(fresh_head, tmp_path):
    assert fresh_head.load_report.fresh == HEAD
    folder = zoo.save(fresh_head, tmp_path / "m")
    assert mark(folder) == ["fc.bias", "fc.weight"]
    again = zoo.load(folder)
    assert again.load_report.fresh == again.load_report.marked == HEAD
    assert zoo.load(folder, num_classes=0).load_report.fresh == ()
    assert mark(zoo.save(again, tmp_path / "n")) == ["fc.bias", "fc.weight"]


def test_what_was_trained_has_no_mark(tmp_path):
    model = zoo.load("resnet_mini")
    assert model.load_report.fresh == ()
    with safe_open(zoo.save(model, tmp_path / "m") / "model.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}


def test_fit_makes_it_trained(tmp_path):
    model = zoo.load("resnet_mini", pretrained=False)
    model.compile("sgd")
    model.fit(X, Y, verbose=0)
    assert model.load_report.fresh == ()
    for how in ("folder", "keras file"):
        assert reloaded(model, how, tmp_path).load_report.fresh == ()


def test_training_takes_the_mark_of_a_file_off(fresh_head, tmp_path):
    model = zoo.load(zoo.save(fresh_head, tmp_path / "m"))
    assert model.load_report.fresh == HEAD
    model.get_layer("fc").bias.assign_add([0.1, 0, 0, 0])  # by whatever means
    assert model.load_report.fresh == ()
    assert mark(zoo.save(model, tmp_path / "n")) == []


def test_what_is_frozen_stays_untrained(tmp_path):
    model = zoo.load("resnet_mini", pretrained=False)
    for layer in model.layers:
        layer.trainable = layer.name == "fc"
    model.compile("sgd")
    model.fit(X, Y, verbose=0)
    assert set(model.load_report.fresh) == set(learned_weights(model)) - set(HEAD)
    again = zoo.load(zoo.save(model, tmp_path / "m"))
    assert set(again.load_report.fresh) == set(model.load_report.fresh)


def test_running_statistics_are_no_training(random):
    model = copy.deepcopy(random)
    model(X, training=True)
    left = {n for n in learned_weights(model) if "moving" in n} ^ set(learned_weights(model))
    assert set(model.load_report.fresh) == left


@pytest.mark.filterwarnings("ignore:The model has learned nothing that shows")
def test_a_fine_tuned_head_on_random_layers(random):
    result = zoo.finetune(random, (IMAGES, ["a", "b"] * 4), strategy="head", epochs=1)
    assert set(result.model.fresh) == set(learned_weights(random)) - set(HEAD)


def test_a_model_of_its_config_alone_is_random(tmp_path):
    trained = zoo.load("resnet_mini")
    model = keras.models.model_from_json(trained.to_json())
    kernels = {n for n in learned_weights(model) if n.endswith("kernel")}
    assert kernels <= set(model.load_report.fresh)
    with pytest.raises(PublishError, match="were never trained"):
        publish(model, tmp_path / "to", license="mit")
    model.set_weights(trained.get_weights())
    assert model.load_report.fresh == ()
    trained.save(tmp_path / "m.keras")
    assert keras.models.load_model(tmp_path / "m.keras").load_report.fresh == ()


def test_random_weights_claim_nothing_of_the_card(random, tmp_path):
    stated = zoo.info("resnet_mini.digits")
    assert stated.license
    assert stated.published
    assert stated.description
    card = random.card
    assert card.name == "resnet_mini"
    assert (card.weights, card.license, card.description, card.published) == (None, None, None, {})
    folder = zoo.save(random, tmp_path / "m")
    page = (folder / "README.md").read_text()
    front, _ = read_front_matter(page)
    assert front.license is None
    assert front.tags == ["tfzoo", "keras", "resnet_mini", "untrained"]
    assert "| Not trained | all of the 72 weights are random: none was ever trained |" in page
    assert stated.description not in page
    config = json.loads((folder / "config.json").read_text())["pretrained_cfg"]
    assert not {"tag", "license", "description", "origin_url", "paper_ids"} & set(config)
    assert zoo.load(folder).card.license is None


def test_timms_tag_and_licence(tmp_path):
    name = "test_resnet.r160_in1k"
    folder = zoo.save(zoo.load(name, pretrained=False), tmp_path / "m")
    text = (folder / "config.json").read_text() + (folder / "README.md").read_text()
    assert "r160_in1k" not in text
    assert "apache" not in text.lower()


def test_the_page_names_what_is_not_trained(fresh_head, tmp_path):
    page = (zoo.save(fresh_head, tmp_path / "m") / "README.md").read_text()
    assert "| Not trained | 2 of 72 weights were never trained: fc.kernel, fc.bias |" in page
    assert zoo.info("resnet_mini").description not in page
    trained = as_trained(copy.deepcopy(fresh_head))
    page = (zoo.save(trained, tmp_path / "m") / "README.md").read_text()
    assert "Not trained" not in page
    assert read_front_matter(page)[0].tags == ["tfzoo", "keras", "resnet_mini"]


@pytest.mark.parametrize("from_folder", [False, True])
def test_the_gate(random, tmp_path, from_folder):
    source = zoo.save(random, tmp_path / "m") if from_folder else random
    with pytest.raises(PublishError, match="none was ever trained") as caught:
        publish(source, tmp_path / "to", license="mit")
    assert [check.name for check in caught.value.report.failures] == ["training"]
    assert not (tmp_path / "to").exists()
    done = publish(source, tmp_path / "to", license="mit", untrained=True, max_shard_size=100_000)
    assert done.report.passed
    again = zoo.load(tmp_path / "to")
    assert set(again.load_report.fresh) == set(learned_weights(random))
    assert "| Not trained | all" in (tmp_path / "to" / "README.md").read_text()
    with pytest.raises(PublishError, match="none was ever trained"):
        publish(tmp_path / "to", tmp_path / "further")


def test_the_gate_of_the_command_line(fresh_head, tmp_path, cli):
    source, target = zoo.save(fresh_head, tmp_path / "m"), str(tmp_path / "to")
    refused = cli("publish", source, target, "--license", "mit", code=3)
    assert "fc.kernel, fc.bias: train them, or untrained=True (--untrained)" in refused.output
    cli("publish", source, target, "--license", "mit", "--untrained")
    assert zoo.load(tmp_path / "to").load_report.fresh == HEAD


def test_tensors_keep_their_bits(random, tmp_path):
    folder = zoo.save(random, tmp_path / "m")
    again = zoo.save(zoo.load(folder), tmp_path / "n")
    assert mark(again) == mark(folder)
    before, after = (load_file(path / "model.safetensors") for path in (folder, again))
    assert {n: t.tobytes() for n, t in after.items()} == {n: t.tobytes() for n, t in before.items()}


@pytest.mark.parametrize("text", ["x", "{}", "[1]", "null", "[" * 100_000])
def test_marks_that_cannot_be_read(tmp_path, text):
    save_file({"a": np.zeros(1)}, tmp_path / "m.safetensors", {UNTRAINED: text})
    with pytest.raises(FileFormatError, match="no list of names of tensors"):
        open_checkpoint(tmp_path / "m.safetensors")


def test_marks_of_tensors_that_are_not_there(fresh_head, tmp_path):
    folder = zoo.save(fresh_head, tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors, folder / "model.safetensors", {UNTRAINED: '["head.weight", "fc.bias"]'})
    assert zoo.load(folder).load_report.fresh == ("fc.bias",)
