"""Sequences: what goes in, what the tasks say of it, and what is refused."""

import contextlib
import dataclasses
import json

import keras
import numpy as np
import pytest
import safetensors.numpy
import synthetic
import synthetic_sequences

import zoo
from zoo.errors import ConfigError, InputError, OptionError, PublishError, TaskError
from zoo.preprocessing.sequence import SequencePreprocessor
from zoo.preprocessing.spec import SequenceSpec
from zoo.registry.card import from_data, to_data
from zoo.tasks.sequence import Entity, QuantileLoss

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")
GOLDEN = synthetic.read_golden("sequences.json")
LETTERS = SequenceSpec(vocabulary=("_", "a", "b", "c", "?"), unknown="?", padding="_")
WORDS = SequenceSpec(vocabulary=("<pad>", "Ada", "met", "Bob", "Lovelace"), level="word")
PAIRS = SequenceSpec(features=2, mean=(1.0, 2.0), std=(2.0, 4.0), padding_value=0.0)


def test_texts_become_ids():
    prepare = SequencePreprocessor(LETTERS)
    assert prepare("abc").tolist() == [[1, 2, 3]]
    assert prepare(["a", "cbx"]).tolist() == [[1, 0, 0], [3, 2, 4]]
    assert prepare([["c", "a"]]).tolist() == [[3, 1]]
    assert prepare([]).shape == (0, 0)
    assert prepare("abc").dtype == np.int32
    assert prepare.decode([3, 1, 2]) == "cab"
    words = SequencePreprocessor(WORDS)
    assert words("Ada  met\nBob").tolist() == [[1, 2, 3]]
    assert words.tokens("Ada  met")[1] == ("met", (5, 8))
    assert words.decode([1, 2, 3]) == "Ada met Bob"


def test_series_are_normalised_and_padded():
    prepare = SequencePreprocessor(PAIRS)
    one = np.array([[3.0, 6.0], [1.0, 2.0]])
    assert prepare(one).tolist() == [[[1.0, 1.0], [0.0, 0.0]]]
    assert prepare(np.stack([one, one])).shape == (2, 2, 2)
    batch = prepare([one, one[:1]])
    assert batch.dtype == np.float32
    assert batch[1].tolist() == [[1.0, 1.0], [0.0, 0.0]]
    single = SequencePreprocessor(SequenceSpec(features=1))
    assert single([1.0, 2.0]).shape == single(np.arange(2)).shape == (1, 2, 1)
    assert single([[1.0, 2.0], [3.0, 4.0]]).shape == (2, 2, 1)


@pytest.mark.parametrize(
    ("spec", "x", "expected"),
    [
        (LETTERS, "", "is empty"),
        (LETTERS, ["ab", ""], "Sequence 1 is empty"),
        (LETTERS, 3, "got int"),
        (LETTERS, [b"ab"], "is bytes"),
        (dataclasses.replace(LETTERS, unknown=None), "abd", "has 'd' as token 2"),
        (dataclasses.replace(LETTERS, padding=None), ["a", "ab"], "from 1 to 2 steps"),
        (dataclasses.replace(LETTERS, length=2), "abc", "has 3 steps; this model takes 2"),
        (WORDS, "Ada mett", "Did you mean 'met'"),
        (PAIRS, np.zeros((0, 2)), "is empty"),
        (PAIRS, np.full((3, 2), np.nan), "first in step 0"),
        (PAIRS, np.array([[1.0, np.inf]]), "NaN or an infinite"),
        (PAIRS, np.zeros((4, 3)), r"shape \[4, 3\]; \[steps, 2\]"),
        (PAIRS, ["text"], "no array of numbers"),
    ],
)
def test_what_is_no_sequence_is_refused(spec, x, expected):
    with pytest.raises(InputError, match=expected):
        SequencePreprocessor(spec)(x)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "either a vocabulary"),
        ({"vocabulary": ("a",), "features": 1}, "either a vocabulary"),
        ({"vocabulary": ("a",), "unknown": "b"}, "unknown is 'b'"),
        ({"features": 3, "mean": (0.0, 1.0)}, "mean has 2 values"),
        ({"features": 1, "std": (0.0,)}, "divides by it"),
        ({"vocabulary": ("a",), "level": "wort"}, "Did you mean 'word'"),
    ],
)
def test_specs_that_cannot_be(options, expected):
    with pytest.raises(ConfigError, match=expected):
        SequenceSpec(**options)


@pytest.mark.parametrize("spec", [LETTERS, WORDS, PAIRS])
def test_a_spec_survives_json(spec):
    card = dataclasses.replace(zoo.info("lstm_mini.digits"), preprocessing=spec)
    data = json.loads(json.dumps(to_data(card)))
    assert data["preprocessing"]["kind"] == "sequence"
    assert from_data(type(card), data).preprocessing == spec
    rng = np.random.default_rng(0)
    assert spec.noise(rng).shape[0] == 2
    assert dict(spec.facts())["Input"] == spec.summary


def test_an_unknown_kind_of_preprocessing_is_an_error():
    data = to_data(zoo.info("lstm_mini.digits"))
    data["preprocessing"]["kind"] = "sequens"
    with pytest.raises(ConfigError, match="Did you mean 'sequence'"):
        from_data(type(zoo.info("lstm_mini.digits")), data)


# ---------------------------------------------------------------- tasks


@pytest.fixture
def tagger():
    """A tagger whose logits are set by hand: each word has one tag."""
    labels = ["O", "B-PER", "I-PER"]
    options = {"vocab_size": 5, "hidden_size": 4, "bidirectional": False}
    model = zoo.load("lstm_tagger", pretrained=False, labels=labels, **options)
    card = dataclasses.replace(
        model.record.card, preprocessing=dataclasses.replace(WORDS, padding="<pad>")
    )
    model.attach(dataclasses.replace(model.record, card=card))
    return model


def test_entities_are_spans_of_the_text(tagger, monkeypatch):
    tags = {"Ada": 1, "Lovelace": 2, "met": 0, "Bob": 1, "<pad>": 2}
    rows = 9.0 * np.eye(3, dtype=np.float32)[[tags[word] for word in WORDS.vocabulary]]
    monkeypatch.setattr(
        "zoo.tasks.classification.compiled", lambda *_: lambda ids: rows[np.asarray(ids)]
    )
    text = "Ada Lovelace  met Bob Bob"
    [found] = tagger.entities(text)
    score = pytest.approx(np.exp(9) / (np.exp(9) + 2), rel=1e-6)
    person = {"label": "PER", "score": score}
    assert found == [
        Entity(start=0, end=12, text="Ada Lovelace", **person),
        Entity(start=18, end=21, text="Bob", **person),
        Entity(start=22, end=25, text="Bob", **person),
    ]
    first, second = tagger.entities([["met", "Bob"], "met"])
    assert [(e.start, e.end, e.text) for e in first] == [(1, 2, "Bob")]
    assert second == []


def test_a_tagger_with_no_labels_says_so():
    model = zoo.load("lstm_tagger", pretrained=False)
    with pytest.raises(TaskError, match="no known labels"):
        model.entities("a")


def test_forecasts_follow_the_scale_of_the_series():
    keras.utils.set_random_seed(0)
    model = zoo.load("lstm_forecaster", pretrained=False, horizon=4, quantiles=(0.1, 0.9))
    series = np.sin(np.arange(50))
    near = model.forecast(series)
    assert near.shape == (1, 4, 2)
    assert (np.diff(near, axis=-1) >= 0).all()
    far = model.forecast(1000 + 50 * series)
    np.testing.assert_allclose(far, 1000 + 50 * near, rtol=1e-4)


def test_a_forecaster_learns_in_plain_fit():
    keras.utils.set_random_seed(0)
    model = zoo.load("lstm_forecaster", pretrained=False, hidden_size=16, horizon=2)
    phases = np.random.default_rng(0).uniform(0, 6, size=(256, 1))
    waves = np.sin(phases + np.arange(26) / 2).astype("float32")
    model.compile(keras.optimizers.Adam(1e-2))
    assert isinstance(model.loss, QuantileLoss)
    history = model.fit(waves[:, :24, None], waves[:, 24:], epochs=8, verbose=0).history["loss"]
    assert history[-1] < 0.35 * history[0]


def test_the_pinball_loss():
    loss = QuantileLoss((0.1, 0.5))
    y, q = np.array([[2.0]]), np.array([[[1.0, 4.0]]])
    assert float(loss(y, q)) == pytest.approx((0.1 * 1 + 0.5 * 2) / 2)
    assert QuantileLoss.from_config(loss.get_config()).quantiles == (0.1, 0.5)


def test_a_classifier_reads_sequences_and_forgets_padding():
    model = zoo.load(
        "lstm_classifier", pretrained=False, features=3, padding_value=0.0, labels=["x", "y"]
    )
    rng = np.random.default_rng(0)
    long, short = rng.normal(size=(9, 3)), rng.normal(size=(4, 3))
    together = model.classify([long, short], top=2)
    assert [len(p) for p in together] == [2, 2]
    [alone] = model.classify(short, top=2)
    assert alone[0].score == pytest.approx(together[1][0].score, rel=1e-5)
    assert model.embed([long, short]).shape == (2, 128)
    bare = zoo.load("lstm_classifier", pretrained=False, features=3, num_classes=0)
    assert bare.task.name == "sequence-feature-extraction"
    assert bare.embed(long).shape == (1, 128)


@pytest.mark.parametrize(
    ("options", "error", "expected"),
    [
        ({"in_channels": 1}, OptionError, "in_channels is for images"),
        ({"input_size": 32}, OptionError, "input_size is for images"),
        ({"features_only": True}, OptionError, "no feature maps"),
        ({"hiden_size": 3}, OptionError, "Did you mean 'hidden_size'"),
        ({"head": "taggr"}, ConfigError, "Did you mean 'tagger'"),
        ({"cell": "rnn"}, ConfigError, "known are 'lstm', 'gru'"),
        ({"head": "forecaster", "quantiles": (0.5, 1.5)}, ConfigError, "between 0 and 1"),
        ({"head": "forecaster", "vocab_size": 9}, ConfigError, "reads numbers"),
        ({"head": "tagger", "num_classes": 0}, ConfigError, "num_classes=0"),
    ],
)
def test_wishes_that_cannot_be(options, error, expected):
    with pytest.raises(error, match=expected):
        zoo.load("lstm_classifier", pretrained=False, **options)


def test_a_saved_network_comes_back_whole(tmp_path):
    model = zoo.load("lstm_classifier", pretrained=False, features=3, labels=["x", "y"])
    again = zoo.load(zoo.save(model, tmp_path / "net"))
    x = np.random.default_rng(0).normal(size=(2, 7, 3)).astype("float32")
    assert np.array_equal(model(x), again(x))
    assert (again.labels, again.task.name) == (("x", "y"), "sequence-classification")
    assert again.card.preprocessing == model.card.preprocessing
    model.save(tmp_path / "net.keras")
    reloaded = keras.models.load_model(tmp_path / "net.keras")
    assert np.array_equal(model(x), reloaded(x))
    assert reloaded.classify(x[0]) == model.classify(x[0])


def test_a_config_of_ours_that_is_wrong_names_the_file(tmp_path):
    model = zoo.load("lstm_classifier", pretrained=False)
    path = zoo.save(model, tmp_path / "net") / "config.json"
    config = json.loads(path.read_text())
    for wrong, expected in (
        ({"tfzoo": {**config["tfzoo"], "licence": "mit"}}, "Did you mean 'license'"),
        ({"tfzoo": {**config["tfzoo"], "architecture": "lstm_clasifier"}}, "lstm_classifier"),
        ({"tfzoo": 3}, "should hold an object"),
    ):
        path.write_text(json.dumps(config | wrong))
        with pytest.raises(ConfigError, match=expected) as raised:
            zoo.load(tmp_path / "net")
        assert "config.json" in str(raised.value)


def test_it_publishes_through_the_gate(hub, tmp_path):
    model = zoo.load("lstm_classifier", pretrained=False, features=3, labels=["x", "y"])
    options = {"endpoint": hub.url, "token": "hf_token_of_ada"}
    zoo.publish(model, "ada/net", license="mit", untrained=True, **options)
    again = zoo.load("ada/net", cache_dir=tmp_path, **options)
    x = np.ones((1, 4, 3), "float32")
    assert np.array_equal(model(x), again(x))
    assert again.card.license == "mit"


# ---------------------------------------------------------------- the reference's outputs


@pytest.mark.parametrize("name", synthetic_sequences.CASES)
def test_outputs_are_the_references(name, tmp_path):
    golden, case = GOLDEN["cases"][name], synthetic_sequences.CASES[name]
    shapes = {k: tuple(v) for k, v in golden["tensors"].items()}
    tensors = synthetic_sequences.tensors(shapes)
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(tensors, path)
    model = zoo.load(case.architecture, weights=path, dtype="float64", **case.options)
    ours, theirs = np.asarray(model(case.inputs())), np.array(golden["outputs"])
    assert ours.shape == theirs.shape
    assert np.linalg.norm(ours - theirs) < 1e-9 * np.linalg.norm(theirs)


# ---------------------------------------------------------------- models with no preprocessing

BARE = {
    "tagger": ("lstm_tagger", {"labels": ["O", "B-PER"]}, "entities"),
    "language model": ("awd_lstm", {"vocab_size": 20, "emb_sz": 4, "n_hid": 6}, "generate"),
    "ResNet of its own size": ("test_resnet", {"input_size": 96}, "embed"),
}


@pytest.mark.parametrize(("name", "options", "verb"), BARE.values(), ids=BARE)
def test_verbs_say_that_there_is_no_preprocessing(name, options, verb):
    model = zoo.load(name, pretrained=False, **options)
    model.attach(bare(model.record))
    with pytest.raises(TaskError, match="has no preprocessing on its card"):
        getattr(model, verb)("a")


@pytest.mark.parametrize(("name", "options", "verb"), BARE.values(), ids=BARE)
def test_a_model_with_no_preprocessing_reloads_in_the_gate(name, options, verb, tmp_path):
    model = zoo.load(name, pretrained=False, **options)
    model.attach(bare(model.record))
    reports = []
    with contextlib.suppress(PublishError):  # a config says 224 pixels where a card says nothing
        zoo.publish(model, tmp_path / "out", license="mit", show=reports.append)
    reload = next(check for check in reports[0].checks if check.name == "strict reload")
    assert reload.passed, reload.found


def bare(record):
    return dataclasses.replace(record, card=dataclasses.replace(record.card, preprocessing=None))
