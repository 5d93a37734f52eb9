"""The recipe of fine-tuning: what it chooses where the caller leaves it open, and what it says."""

import json

import numpy as np
import pytest
from synthetic_texts import bert
from test_finetuning import digits, same, values
from test_finetuning_text import sentences

import zoo
from zoo.finetuning import recipe
from zoo.finetuning.flow import _heads
from zoo.finetuning.recipe import Facts, untrained
from zoo.finetuning.settings import settle

OPEN = dict.fromkeys(
    (
        "strategy", "epochs", "batch_size", "learning_rate", "layer_decay", "weight_decay",
        "warmup", "schedule", "label_smoothing", "mixup", "cutmix", "augment", "random_erasing",
        "class_weights", "ema", "dtype", "early_stopping", "distribute",
    )
)  # fmt: skip
FEW = "few examples"
NOT_CHANCE = pytest.mark.filterwarnings("ignore:The model has learned nothing that shows")


def settled(per_class, *, family="resnet", images=True, fresh=False, **wishes):
    counts = np.array(per_class)
    facts = Facts(
        family=family,
        images=images,
        counts=counts,
        steps=lambda size: max(1, int(counts.sum()) // size),
        untrained=fresh,
    )
    classes = [str(k) for k in range(len(counts))]
    return settle(facts, classes=classes, **OPEN | {"seed": 0} | wishes)


# ---------------------------------------------------------------- what is chosen


@pytest.mark.parametrize(
    ("examples", "size"),
    [(3, 3), (8, 8), (40, 8), (127, 8), (128, 16), (192, 16), (256, 32), (10**6, 32), (None, 32)],
)
def test_smaller_batches_for_fewer_examples(examples, size):
    assert recipe.batch_size(examples) == size


@pytest.mark.parametrize("family", ["resnet", "vit", "bert", "lstm", "gpt2", "convnext"])
def test_few_examples_train_the_head_first_and_for_enough_steps(family):
    settings, reasons = settled([48] * 4, family=family, images=family not in ("bert", "gpt2"))
    assert settings.strategy == "lp-ft"
    assert FEW in reasons["strategy"]
    steps = 192 // settings.batch_size
    alone, after = settings.head_epochs, settings.epochs - settings.head_epochs
    assert min(alone, after) * steps >= recipe.STEPS
    assert settings.head_learning_rate >= settings.learning_rate


def test_many_examples_are_trained_on_as_they_were():
    settings, reasons = settled([1000] * 4)
    assert (settings.strategy, settings.epochs, settings.batch_size) == ("full", 10, 32)
    assert settings.head_epochs == 0
    assert settings.head_learning_rate is None
    assert "many" in reasons["strategy"]


def test_fresh_layers_train_all_alike_and_for_longer():
    settings, reasons = settled([48] * 4, fresh=True)
    trained, _ = settled([48] * 4, strategy="full")
    assert settings.strategy == "full"
    assert "never been trained" in reasons["strategy"]
    assert settings.layer_decay == 1
    assert settings.epochs > trained.epochs
    assert settings.learning_rate > trained.learning_rate


@pytest.mark.parametrize("per_class", [[1, 1], [2, 2, 2], [5, 200], [12] * 20])
def test_no_data_are_too_small(per_class):
    settings, _ = settled(per_class)
    assert 1 <= settings.batch_size <= sum(per_class)
    assert 0 < settings.head_epochs < settings.epochs <= 2 * recipe.MOST_EPOCHS


def test_nothing_is_flipped_unless_asked_for():
    for per_class in ([48] * 4, [5000] * 4):
        assert settled(per_class)[0].augment.flip == 0
        assert settled(per_class)[0].augment.crop[0] >= 0.5
        assert settled(per_class, augment="light")[0].augment.flip == 0.5
    assert not settled([48] * 4, strategy="head")[0].augment.changes_inputs
    assert not settled([48] * 4, family="bert", images=False)[0].augment.changes_inputs


@pytest.mark.parametrize(
    "given",
    [
        {"strategy": "full"},
        {"strategy": "head"},
        {"strategy": "gradual"},
        {"epochs": 7},
        {"epochs": 1},
        {"batch_size": 30},
        {"learning_rate": 0.1},
        {"layer_decay": 0.5},
        {"weight_decay": 0.3},
        {"warmup": 0.4},
        {"schedule": "constant"},
    ],
)
@pytest.mark.parametrize("fresh", [False, True])
def test_what_is_given_wins(given, fresh):
    settings, reasons = settled([48] * 4, fresh=fresh, **given)
    assert {name: getattr(settings, name) for name in given} == given
    assert not reasons.keys() & given.keys()


def test_a_given_learning_rate_is_one_for_all_layers():
    assert settled([48] * 4, learning_rate=1e-3)[0].strategy == "full"
    both, _ = settled([48] * 4, learning_rate=1e-3, strategy="lp-ft")
    assert both.learning_rate == 1e-3 < both.head_learning_rate


def test_given_epochs_are_shared_between_the_head_and_all_layers():
    assert settled([48] * 4, epochs=7)[0].head_epochs == 3
    assert settled([48] * 4, epochs=1)[0].head_epochs == 0


# ---------------------------------------------------------------- what was trained


@pytest.mark.parametrize("name", ["resnet_mini.digits", "vit_mini.digits", "lstm_mini.digits"])
def test_what_has_been_trained_is_told_from_what_has_not(name):
    model, fresh = zoo.load(name), zoo.load(name.partition(".")[0], pretrained=False)
    assert not untrained(model, _heads(model))
    assert untrained(fresh, _heads(fresh))


def test_random_weights_from_a_file_are_known(tmp_path):
    fresh = zoo.load("resnet_mini", pretrained=False)
    zoo.save(fresh, tmp_path / "a")
    saved = zoo.load(tmp_path / "a")
    text = zoo.load(bert(tmp_path / "b"))  # made by an initializer, and read from a file
    for model in (saved, text):
        assert untrained(model, _heads(model))


# ---------------------------------------------------------------- a run


class Break(Exception):
    """What ends a run in the middle."""


@NOT_CHANCE
def test_a_run_of_both_parts_goes_on_bit_for_bit(tmp_path, monkeypatch):
    import keras

    monkeypatch.setenv("HF_HOME", str(tmp_path))
    model = zoo.load("resnet_mini.digits")
    train, test = digits(8), digits(6, offset=8)
    begun = []

    def run(name, stop=None):
        def count(epoch, logs):
            begun.append(epoch)
            if epoch == stop:
                raise Break

        callback = keras.callbacks.LambdaCallback(on_epoch_begin=count)
        return zoo.finetune(
            model, train, test, epochs=4, output=tmp_path / name, callbacks=[callback]
        )

    whole = run("whole")
    for stop in (1, 3):  # with the head alone, and with all layers
        with pytest.raises(Break):
            run("broken", stop)
    broken = run("broken")
    assert begun == [0, 1, 2, 3, 0, 1, 1, 2, 3, 3]
    assert same(values(whole.model), values(broken.model))
    assert whole.history == broken.history
    kept = json.loads((tmp_path / "whole" / "run.json").read_text())
    assert kept["identity"]["settings"]["strategy"] == "lp-ft"
    assert kept["identity"]["settings"]["head_epochs"] == 2
    assert FEW in kept["recipe"]["strategy"]


@NOT_CHANCE
def test_the_head_is_the_same_as_that_of_head_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    model = zoo.load("lstm_mini.digits")
    both = zoo.finetune(model, digits(8), digits(6, offset=8), epochs=4)
    alone = zoo.finetune(model, digits(8), digits(6, offset=8), epochs=2, strategy="head")
    assert both.history["val_loss"][:2] == alone.history["val_loss"]


def test_defaults_learn_few_digits(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    model = zoo.load("resnet_mini.digits")
    result = zoo.finetune(model, digits(20, (2, 3, 5, 9)), seed=1)
    others = digits(30, (2, 3, 5, 9), offset=20)
    assert zoo.evaluate(result.model, others).accuracy > 0.95
    said = capsys.readouterr().err
    for part in (
        "4 (2 16, 3 16, 5 16, 9 16)",
        "64 to train, 16 to validate (a part of each class)",
        "8 x 8, taken as",
        f"lp-ft ({FEW}",
        "steps of 8 examples",
        "for the head alone, then",
        "crops of 60% and more, no flips",
    ):
        assert part in said


def test_chance_is_said(tmp_path, monkeypatch):
    model = zoo.load("lstm_mini", pretrained=False)
    with pytest.warns(UserWarning, match=r"chance is 20.0%.*strategy='head'"):
        zoo.finetune(model, digits(8), digits(6, offset=8), epochs=1, learning_rate=1e-9)


def test_the_header_of_texts(tmp_path, capsys):
    texts = sentences(20, 0)
    with pytest.warns(UserWarning, match="learned nothing that shows"):
        zoo.finetune(zoo.load(bert(tmp_path)), texts, texts, epochs=1, learning_rate=1e-9)
    said = capsys.readouterr().err
    assert "2 (cat 10, dog 10)" in said
    assert "20 to train, 20 to validate (as given)" in said
    assert "1e-09, linear after 10% warm-up" in said
    assert "x" not in said.split("classes")[1].split("strategy")[0].replace("examples", "")
