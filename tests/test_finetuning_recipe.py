"""The recipe of fine-tuning: what it chooses where the caller leaves it open, and what it says."""

import io
import json

import numpy as np
import pytest
from synthetic_texts import bert
from test_finetuning import digits, same, values
from test_finetuning_text import sentences

import zoo
from zoo.finetuning import recipe
from zoo.finetuning.evaluation import score
from zoo.finetuning.flow import _heads
from zoo.finetuning.notes import warn_of_chance
from zoo.finetuning.recipe import Facts, untrained
from zoo.finetuning.settings import settle
from zoo.finetuning.training import _Progress

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


@pytest.mark.parametrize("family", ["resnet", "vit", "bert", "lstm", "gpt2", "awd_lstm"])
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
                raise RuntimeError("broken off")

        callback = keras.callbacks.LambdaCallback(on_epoch_begin=count)
        return zoo.finetune(
            model, train, test, epochs=4, output=tmp_path / name, callbacks=[callback]
        )

    whole = run("whole")
    for stop in (1, 3):  # with the head alone, and with all layers
        with pytest.raises(RuntimeError, match="broken off"):
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
def test_the_head_learns_as_it_does_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    model, texts = zoo.load(bert(tmp_path / "base")), sentences(20, 0)
    both = zoo.finetune(model, texts, texts, strategy="lp-ft", epochs=2)
    alone = zoo.finetune(model, texts, texts, strategy="head", epochs=1)
    assert both.history["val_loss"][:1] == alone.history["val_loss"]


def test_few_digits_are_learned_and_the_header_says_how(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr(recipe, "STEPS", 150)  # which is even less than what it is
    model, kinds = zoo.load("resnet_mini.digits"), (2, 3, 5, 9)
    result = zoo.finetune(model, digits(30, kinds), seed=1)
    assert zoo.evaluate(result.model, digits(30, kinds, offset=30)).accuracy > 0.9
    said = capsys.readouterr().err
    for part in (
        "4 (2 24, 3 24, 5 24, 9 24)",
        "96 to train, 24 to validate (a part of each class)",
        "8 x 8, taken as",
        f"lp-ft ({FEW}",
        "13 of the head alone, then 13 epochs of 12 steps of 8 examples, 312 steps in all",
        "for the head alone, then",
        "crops of 60% and more, no flips",
    ):
        assert part in said


def test_texts_have_a_header_and_chance_is_said(tmp_path, capsys):
    texts = sentences(20, 0)
    with pytest.warns(UserWarning, match=r"chance is 50.0%.*strategy='head'"):
        zoo.finetune(zoo.load(bert(tmp_path)), texts, texts, epochs=1, learning_rate=1e-9)
    said = capsys.readouterr().err
    assert "2 (cat 10, dog 10)" in said
    assert "20 to train, 20 to validate (as given)" in said
    assert "1e-09, linear after 10% warm-up" in said
    assert "\nimages" not in said


# ---------------------------------------------------------------- after a run


def evaluation(right, wrong, classes=4):
    """A model that is right in so many of each class, and so often takes it for the next."""
    labels = np.repeat(np.arange(classes), right + wrong)
    guesses = np.concatenate([[k] * right + [(k + 1) % classes] * wrong for k in range(classes)])
    return score(np.eye(classes)[guesses], labels)


@pytest.mark.parametrize("strategy", ["full", "head", "lp-ft"])
def test_at_chance_it_is_said_what_to_try(strategy):
    settings, _ = settled([48] * 4, strategy=strategy)
    with pytest.warns(UserWarning, match=r"25.0% of the 48.*chance is 25.0%") as caught:
        warn_of_chance(evaluation(3, 9), settings)
    said = str(caught[0].message)
    assert ("strategy='full'" if strategy == "head" else "strategy='head'") in said
    assert "epochs" in said
    assert ("augment='none'" in said) == (strategy != "head")


@pytest.mark.filterwarnings("error")
def test_above_chance_nothing_is_said():
    settings, _ = settled([48] * 4)
    warn_of_chance(evaluation(6, 6), settings)
    warn_of_chance(evaluation(1, 0, classes=2), settings)


def test_always_the_largest_class_is_chance():
    logits, labels = np.tile([1.0, 0.0], (40, 1)), np.repeat([0, 1], [36, 4])
    with pytest.warns(UserWarning, match="chance is 90.0%"):
        warn_of_chance(score(logits, labels, ["a", "b"]), settled([90, 10])[0])


def test_a_head_that_is_always_right_is_the_end(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    train, test = digits(4, range(10)), digits(2, range(10), 4)
    result = zoo.finetune(
        zoo.load("resnet_mini.digits"), train, test, strategy="lp-ft", epochs=4, seed=2
    )
    assert result.metrics.accuracy == 1
    assert len(result.history["loss"]) == 2


def test_all_layers_learn_the_faster_the_less_the_head_knows():
    assert recipe.adapted(1e-3, 0.75, 1.0, 4) == (1e-3, 0.75)
    assert recipe.adapted(1e-3, 0.75, 0.25, 4) == (4e-3, 1.0)
    assert recipe.adapted(1e-3, 0.75, 0.1, 4) == (4e-3, 1.0)
    rate, decay = recipe.adapted(1e-3, 0.64, 0.5 + 0.125, 4)
    assert rate == pytest.approx(2e-3)
    assert decay == pytest.approx(0.8)
    assert settled([48] * 4)[0].adapts
    for given in ({"learning_rate": 1e-3}, {"layer_decay": 0.9}, {"strategy": "full"}):
        assert not settled([48] * 4, **given)[0].adapts


@pytest.mark.parametrize("is_terminal", [True, False])
def test_an_epoch_has_a_bar_on_a_terminal(monkeypatch, is_terminal):
    stream = io.StringIO()
    stream.isatty = lambda: is_terminal
    monkeypatch.setattr("sys.stderr", stream)
    progress = _Progress(epochs=3, steps=4)
    progress.on_epoch_begin(1)
    progress.bar.mininterval = 0  # or what comes within a tenth of a second is not shown
    for batch in range(4):
        progress.on_train_batch_end(batch, {"loss": 0.125})
    progress.on_epoch_end(1, {"loss": 0.125, "val_loss": 0.5})
    shown = stream.getvalue()
    assert ("3/4" in shown and "step/s, loss=0.1250" in shown) == is_terminal
    assert "epoch 2/3  loss 0.1250  val_loss 0.5000\n" in shown
