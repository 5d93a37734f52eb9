"""Fine-tuning of text classifiers."""

import csv

import numpy as np
import pytest
from synthetic_texts import bert, gpt2

import zoo
from zoo.errors import InputError, TaskError
from zoo.preprocessing.text import TextPreprocessor

RECIPE = {"epochs": 30, "batch_size": 8, "learning_rate": 3e-3, "seed": 3}


def sentences(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Texts about cats and about dogs, of different lengths."""
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for k in range(count):
        words = rng.choice(["the", "a", "sat", "on", "mat", "in", "london"], rng.integers(1, 9))
        kind = ("cat", "dog")[k % 2]
        texts.append(" ".join([*words, kind, *words[:2]]))
        labels.append(kind)
    return texts, labels


# runs of an epoch or two, that learn little and say so
pytestmark = pytest.mark.filterwarnings("ignore:The model has learned nothing that shows")

TRAIN, TEST = sentences(32, 0), sentences(16, 1)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return zoo.load(bert(tmp_path_factory.mktemp("base")))


def test_a_base_model_becomes_a_classifier_that_can_be_loaded(base, tmp_path):
    result = zoo.finetune(base, TRAIN, TEST, output=tmp_path / "run", **RECIPE)
    assert result.metrics.accuracy == 1
    assert result.model.task.name == "text-classification"
    again = zoo.load(tmp_path / "run")
    assert again.labels == ("cat", "dog")
    assert [row[0].label for row in again.classify(TEST[0])] == TEST[1]
    assert zoo.evaluate(again, TEST).accuracy == 1
    done = zoo.finetune(base, TRAIN, TEST, output=tmp_path / "run", **RECIPE)
    assert done.history == result.history  # it was done before


def test_tables_and_files_of_texts(base, tmp_path):
    with (tmp_path / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(*TRAIN, strict=True)])
    for number, (text, label) in enumerate(zip(*TEST, strict=True)):
        (tmp_path / "test" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "test" / label / f"{number}.txt").write_text(text)
    options = RECIPE | {"epochs": 1}
    result = zoo.finetune(base, tmp_path / "train.csv", tmp_path / "test", **options)
    assert result.metrics.examples == 16
    assert result.model.labels == ("cat", "dog")


@pytest.mark.parametrize("strategy", ["head", "gradual"])
def test_strategies(base, strategy, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    encode, calls = TextPreprocessor.encode, []
    monkeypatch.setattr(
        TextPreprocessor, "encode", lambda *args: calls.append(len(args[1])) or encode(*args)
    )
    result = zoo.finetune(base, TRAIN, TEST, strategy=strategy, **RECIPE | {"epochs": 3})
    # once, whatever the epochs; one by one before the run, and in batches of 8 after it
    assert [count for count in calls if count > 8] == [32, 16]
    assert sum(calls) == 2 * (32 + 16) + 16
    assert len(result.history["loss"]) == 3
    before, after = (m.get_layer("embeddings").get_weights()[0] for m in (base, result.model))
    assert np.array_equal(before, after) == (strategy == "head")


def test_a_language_model_becomes_a_classifier(tmp_path):
    model = zoo.load(gpt2(tmp_path), labels=["cat", "dog"])
    result = zoo.finetune(model, TRAIN, TEST, **RECIPE | {"epochs": 2})
    assert result.model.task.name == "text-classification"


def test_the_same_seed_gives_the_same_weights(base):
    options = RECIPE | {"epochs": 2}
    one, two = (zoo.finetune(base, TRAIN, TEST, **options).model for _ in range(2))
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        assert np.array_equal(a, b)


def test_what_cannot_be(base):
    tagger = zoo.load(base.load_report.source, task="token-classification", labels=["a", "b"])
    with pytest.raises(TaskError, match="does token-classification"):
        zoo.finetune(tagger, TRAIN, TEST)
    with pytest.raises(InputError, match="of one class, 'cat'"):
        zoo.finetune(base, (["a", "b"], ["cat", "cat"]), TEST)
