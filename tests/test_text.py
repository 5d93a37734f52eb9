"""Text models, from a folder to the results of their verbs."""

import itertools
import json
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from synthetic_texts import MINILM, WORDS, bert

import zoo
from zoo.errors import ConfigError, InputError, OptionError, TaskError, WeightsError
from zoo.layers.building import named_weights
from zoo.preprocessing.text import TruncationWarning

LABELS = ["good", "bad", "odd"]
TEXTS = ["the cat sat on the mat.", "ada", "where in london?", "a dog, a cat, a mat, a dog."]
GOLDEN = Path(__file__).parent / "goldens" / "minilm.npz"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return bert(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def classifier(base):
    return zoo.load(base, labels=LABELS)


def shaken(model: zoo.Model, scale: float = 0.5) -> zoo.Model:
    """The model with weights far from where they began."""
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(weight + rng.normal(size=weight.shape) * scale)
    return model


# ---------------------------------------------------------------- a real model


def test_minilm_gives_what_transformers_gives():
    with np.load(GOLDEN) as golden:
        texts, expected = golden["texts"].tolist(), golden["vectors"]
    model = zoo.load(MINILM)
    with pytest.warns(TruncationWarning, match="longer than the 256 tokens"):
        vectors = model.embed(texts, batch_size=2)
    assert np.abs(vectors - expected).max() < 2e-6
    assert model.task.name == "sentence-similarity"
    assert model.load_report.ignored == ("pooler.dense.bias", "pooler.dense.weight")
    near, far = zoo.similarity(vectors[0], vectors[1:3])[0]
    assert near > 0.5 > far


def test_similarity():
    a, b = np.eye(3)[:2], np.array([[2.0, 0, 0], [1, 1, 0], [0, 0, 5]])
    np.testing.assert_allclose(zoo.similarity(a, b)[0], [1, 0.5**0.5, 0], atol=1e-6)
    np.testing.assert_allclose(zoo.similarity(a, b, kind="dot")[0], [2, 1, 0])
    assert zoo.similarity(b).shape == (3, 3)
    with pytest.raises(InputError, match=r"got \[2, 3\] and \[1, 2\]"):
        zoo.similarity(a, [1.0, 2.0])
    with pytest.raises(OptionError, match="'cosine' or 'dot'"):
        zoo.similarity(a, kind="near")


# ---------------------------------------------------------------- loading


def test_the_task_follows_the_checkpoint_and_the_caller(base, tmp_path):
    model = zoo.load(base)
    assert model.task.name == "feature-extraction"
    assert set(model.output) == {"last_hidden_state", "pooler_output"}
    assert not model.load_report.fresh
    classes = zoo.load(base, num_classes=3)
    assert classes.task.name == "text-classification"
    assert classes.load_report.fresh == ("classifier.kernel", "classifier.bias")
    tagger = zoo.load(base, task="token-classification", labels=LABELS)
    zoo.save(tagger, tmp_path)
    again = zoo.load(tmp_path)
    assert (again.task.name, again.labels) == ("token-classification", tuple(LABELS))
    assert again.load_report.fresh == again.load_report.marked == tagger.load_report.fresh
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [
        "BertForTokenClassification"
    ]
    assert zoo.load(tmp_path, num_classes=0).task.name == "feature-extraction"


@pytest.mark.parametrize(
    ("options", "error", "expected"),
    [
        ({"task": "text-classification"}, OptionError, "needs the number of classes"),
        ({"task": "text-clasification"}, OptionError, "Did you mean 'text-classification'"),
        ({"task": "sentence-similarity"}, ConfigError, "needs pooling"),
        ({"in_channels": 1}, OptionError, "in_channels is for images"),
        ({"hiden_size": 3}, OptionError, "Did you mean 'hidden_size'"),
    ],
)
def test_wishes_that_cannot_be(base, options, error, expected):
    with pytest.raises(error, match=expected):
        zoo.load(base, **options)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"hidden_act": "gelu_nwe"}, "activation 'gelu_nwe' is unknown.*Did you mean 'gelu_new'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type to 'relative_key'"),
        (
            {"add_cross_attention": True},
            "sets add_cross_attention to True, which transformers reads",
        ),
        ({"is_causal": False}, "sets is_causal to False, which transformers reads"),
        ({"architectures": ["BertForMultipleChoice"]}, "is of a BertForMultipleChoice"),
        ({"architectures": ["BertLMHeadModel"]}, "is_decoder false"),
        ({"problem_type": "ranking"}, "problem_type is 'ranking'"),
        ({"num_attention_heads": 5}, "no multiple of num_heads=5"),
    ],
)
def test_a_config_that_zoo_does_not_do(base, tmp_path, changes, expected):
    config = json.loads((base / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    (tmp_path / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes())
    with pytest.raises(ConfigError, match=expected):
        zoo.load(tmp_path)


def test_another_size_than_the_weights(base, tmp_path):
    config = json.loads((base / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    (tmp_path / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes())
    with pytest.raises(WeightsError, match=r"the file gives \(24, 40\), the model has \(24, 48\)"):
        zoo.load(tmp_path)


def test_norms_of_the_oldest_files(base, tmp_path):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(base / "model.safetensors")
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in tensors.items()
    }
    assert set(renamed) != set(tensors)
    (tmp_path / "config.json").write_bytes((base / "config.json").read_bytes())
    save_file(renamed, tmp_path / "model.safetensors")
    ids = np.arange(5)[None] + 5
    old, new = (zoo.load(folder)(ids)["pooler_output"] for folder in (tmp_path, base))
    assert np.array_equal(old, new)
    zoo.save(zoo.load(tmp_path), tmp_path / "again")
    assert set(load_file(tmp_path / "again" / "model.safetensors")) == set(renamed)


def test_a_vocabulary_of_another_model(tmp_path):
    folder = bert(tmp_path)
    words = [*WORDS, *(f"w{k}" for k in range(30))]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    with pytest.raises(ConfigError, match="has the id 54, but the network's table has 40 tokens"):
        zoo.load(folder)


def test_no_tokenizer(tmp_path):
    model = zoo.load(bert(tmp_path, vocabulary=False))
    assert model(np.ones((1, 4), int))["last_hidden_state"].shape == (1, 4, 24)
    with pytest.raises(InputError, match=r"no tokenizer: no tokenizer.json, no vocab.txt"):
        model.embed("the cat")


def test_a_vocabulary_without_its_special_tokens(tmp_path):
    folder = bert(tmp_path)
    (folder / "vocab.txt").write_text("the\ncat\n")
    with pytest.raises(
        ConfigError, match=r"lacks the special token\(s\) \[UNK\], \[SEP\], \[PAD\]"
    ):
        zoo.load(folder)


# ---------------------------------------------------------------- inputs


def test_inputs_by_name(base):
    model = zoo.load(base)
    ids = np.array([[2, 8, 10, 3]])
    plain = model({"input_ids": ids})["last_hidden_state"]
    full = {"attention_mask": np.ones_like(ids), "token_type_ids": 0 * ids}
    places = {"position_ids": np.arange(4)[None]}
    again = model({"input_ids": ids} | full | places)["last_hidden_state"]
    np.testing.assert_allclose(plain, again, atol=1e-6)
    with pytest.raises(InputError, match=r"input_idz is no input.*Did you mean 'input_ids'"):
        model({"input_idz": ids})
    with pytest.raises(InputError, match="needs input_ids; got attention_mask"):
        model({"attention_mask": ids})
    with pytest.raises(InputError, match="text of 33 tokens was given to a model of at most 32"):
        model(np.ones((1, 33), int))


def test_padding_changes_nothing(base):
    model = zoo.load(base, dtype="float64")
    together, alone = model.embed(TEXTS), [model.embed(text)[0] for text in TEXTS]
    np.testing.assert_allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], "list of texts is empty"),
        (3, "a list of these was expected; got int"),
        (["the", 4], "Text 1 is int"),
        (["fine", "\ud83d"], "Text 1 has half of a surrogate pair"),
        ([("a", "b", "c")], "Text 0 is tuple"),
    ],
)
def test_inputs_that_are_no_texts(classifier, given, expected):
    with pytest.raises(InputError, match=expected):
        classifier.classify(given)


def test_long_texts_are_cut_with_one_warning_or_refused(base):
    model, long = zoo.load(base), "the cat " * 40
    with pytest.warns(TruncationWarning, match="Text 1 is longer than the 32 tokens"):
        vectors = model.embed(["a", long, long])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.embed(long)
    assert np.array_equal(vectors[1], vectors[2])
    with pytest.raises(InputError, match="Text 1 has more than the 32 tokens"):
        model.embed(["a", long], truncate=False)


def test_order_and_batches(base):
    model = zoo.load(base)
    texts = [" ".join(["cat"] * (1 + k % 7)) for k in range(50)]
    vectors = model.embed(texts, batch_size=4)
    for k in (0, 6, 13, 49):
        np.testing.assert_allclose(vectors[k], model.embed(texts[k])[0], atol=1e-5)
    assert np.allclose(np.linalg.norm(model.embed(texts, normalize=True), axis=1), 1, atol=1e-6)
    for pooling in ("cls", "max", "lasttoken"):
        assert not np.allclose(model.embed(texts[3], pooling=pooling), vectors[3])
    with pytest.raises(ConfigError, match="pooling='middle' is not known"):
        model.embed("a", pooling="middle")


# ---------------------------------------------------------------- verbs


def test_classify_one_of_several(classifier):
    for predictions in classifier.classify(TEXTS):
        assert sum(p.score for p in predictions) == pytest.approx(1, abs=1e-5)
        scores = [p.score for p in predictions]
        assert scores == sorted(scores, reverse=True)
    logits = classifier(classifier.preprocess(TEXTS[0]))
    assert classifier.classify(TEXTS[0], top=1)[0][0].index == int(np.argmax(logits))
    assert isinstance(classifier.task.loss(), keras.losses.SparseCategoricalCrossentropy)


@pytest.mark.parametrize(
    ("problem", "score", "loss"),
    [
        ("multi_label_classification", lambda x: 1 / (1 + np.exp(-x)), "BinaryCrossentropy"),
        ("regression", lambda x: x, "MeanSquaredError"),
    ],
)
def test_classes_that_do_not_exclude_each_other_and_numbers(base, problem, score, loss):
    model = shaken(zoo.load(base, labels=LABELS, problem_type=problem))
    logits = model(model.preprocess(TEXTS[:2])).numpy()
    for row, predictions in zip(logits, model.classify(TEXTS[:2]), strict=True):
        for p in predictions:
            assert p.score == pytest.approx(score(row[p.index]), abs=1e-5)
    assert type(model.task.loss()).__name__ == loss


def test_pairs_of_texts(classifier):
    pair, apart = [classifier.preprocess(x) for x in (("a cat", "the dog"), "a cat")]
    assert pair["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 1]]
    assert not apart["token_type_ids"].any()
    assert len(classifier.classify([("a cat", "the dog"), "a cat"])) == 2


def test_entities_are_spans_of_characters(base):
    tags = ["O", "B-PER", "I-PER", "B-LOC"]
    model = shaken(zoo.load(base, task="token-classification", labels=tags))
    texts = ["who,  ada lived in london?", "the cat sat on a dogs mat. bad, good"]
    bias = model.get_layer("token_classifier").bias  # so that each tag is somewhere the best
    bias.assign(bias - model(model.preprocess(texts)).numpy().mean((0, 1)))
    for text, found in zip(texts, model.entities(texts), strict=True):
        (encoding,) = model.preprocess.encode([text])
        logits = model(model.preprocess(text)).numpy()[0, 1:-1].astype(np.float64)
        scores = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        expected = []  # label, start, end, scores of the tokens
        for row, (start, end) in zip(scores, encoding.offsets[1:-1], strict=True):
            tag = tags[row.argmax()]
            goes_on = expected and expected[-1][0] == tag[2:] and not tag.startswith("B-")
            if tag == "O" or not goes_on:
                expected.append([tag[2:], start, end, [row.max()]])
            else:
                expected[-1][2] = end
                expected[-1][3].append(row.max())
        expected = [one for one in expected if one[0]]
        assert expected  # else there is nothing to compare
        assert [[e.label, e.start, e.end] for e in found] == [one[:3] for one in expected]
        for entity, one in zip(found, expected, strict=True):
            assert entity.text == text[entity.start : entity.end]
            assert entity.score == pytest.approx(np.mean(one[3]), abs=1e-4)


def test_answers_lie_in_the_text(base):
    model = shaken(zoo.load(base, task="question-answering"))
    context = "ada lived in london. the cat sat on the mat. " * 4
    answers = model.answer("where?", context, top=3, no_answer=False, window=24, stride=6)
    assert 1 <= len(answers) <= 3
    for answer in answers:
        assert context[answer.start : answer.end] == answer.text != ""
    assert [a.score for a in answers] == sorted((a.score for a in answers), reverse=True)
    spans = sorted((a.start, a.end) for a in answers)
    assert all(one[1] <= two[0] for one, two in itertools.pairwise(spans))
    for question, text in (("", context), ("where?", " "), (["where?"], context)):
        with pytest.raises(InputError):
            model.answer(question, text)
    with pytest.raises(InputError, match="leaves no room in 8"):
        model.answer("where who a the cat dog?", context, window=8)


def windows(model, question, context, window, stride):
    """Start and end probabilities of each window's tokens, of which `[CLS]` and those of the text
    have some, and the places of the tokens."""
    found = []
    for encoding in model.task._windows(question, context, window, stride):
        ids = {"input_ids": [encoding.ids], "token_type_ids": [encoding.type_ids]}
        logits = model({k: np.array(v) for k, v in ids.items()}).numpy()[0].astype(np.float64)
        counted = np.array([part == 1 for part in encoding.sequence_ids])
        counted[0] = True
        exponents = np.exp(logits - logits.max(0)) * counted[:, None]
        found.append((exponents / exponents.sum(0), encoding.offsets))
    return found


@pytest.mark.parametrize("none", [-20.0, 0.0, 20.0])
def test_no_answer_counts_and_can_be_the_answer(base, none):
    """A score is p(start) p(end) over `[CLS]` and the text; that of no answer the least of all
    windows."""
    model = shaken(zoo.load(base, task="question-answering"))
    question, context = "who sat?", "ada lived in london. the cat sat on the mat. " * 3
    kernel = named_weights(model)["qa_outputs.kernel"]
    inputs = keras.Model(model.input, model.get_layer("qa_outputs").input)
    states, places = [], []
    for encoding in model.task._windows(question, context, 24, 6):
        tokens = model.preprocess.batch([encoding])
        states.append(np.array(inputs(dict.fromkeys(model.input) | tokens))[0])
        places.append(np.arange(len(encoding)) == 0)
    told_apart, *_ = np.linalg.lstsq(np.concatenate(states), np.concatenate(places), rcond=None)
    kernel.assign(kernel + none * told_apart[:, None])  # for [CLS], or against it
    scores, nothing = {}, []
    for p, offsets in windows(model, question, context, 24, 6):
        nothing.append(p[0, 0] * p[0, 1])
        for k, (begin, _) in enumerate(offsets):
            for last in range(k, min(k + 15, len(offsets))):
                if p[k, 0] and p[last, 1] and k:
                    span = (begin, offsets[last][1])
                    scores[span] = max(scores.get(span, 0), p[k, 0] * p[last, 1])
    best = max(scores, key=scores.get)
    (part,) = model.answer(question, context, no_answer=False, window=24, stride=6)
    assert (part.start, part.end) == best
    assert part.score == pytest.approx(scores[best], rel=1e-3)
    first, *_ = model.answer(question, context, top=5, window=24, stride=6)
    assert (min(nothing) > scores[best]) == (none > 0)
    if none > 0:
        assert (first.text, first.start, first.end) == ("", 0, 0)
        assert first.score == pytest.approx(min(nothing), rel=1e-3)
    else:
        assert first == part
    empty = [a for a in model.answer(question, context, top=99, window=24, stride=6) if not a.text]
    assert [a.score for a in empty] == pytest.approx([min(nothing)], rel=1e-3)


def test_fill(base):
    model = zoo.load(base, task="fill-mask")
    (found,) = model.fill("the [MASK] sat on the mat.", top=3)
    assert len(found) == 3
    pieces = ["the", *(f.token.removeprefix("##") for f in found), "sat on the mat."]
    assert all(piece in found[0].text for piece in (pieces[0], pieces[1], pieces[-1]))
    ids = model.preprocess("the [MASK] sat on the mat.")
    logits = model(ids).numpy()[0, 2]
    assert [f.index for f in found] == np.argsort(-logits)[:3].tolist()
    with pytest.raises(InputError, match=r"mask token '\[MASK\]' 0 times"):
        model.fill("the cat")


def test_verbs_of_other_tasks_are_named(base):
    with pytest.raises(TaskError, match="no verb 'classify'; it has embed"):
        zoo.load(base).classify("a")
    with pytest.raises(TaskError, match="no known labels"):
        zoo.load(base, num_classes=3).classify("a")
    with pytest.raises(TaskError, match="loaded with features_only"):
        zoo.load(base, features_only=True).embed("a")


# ---------------------------------------------------------------- Keras


def test_a_keras_file_keeps_all(classifier, tmp_path):
    classifier.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for found, wanted in zip(again.classify(TEXTS), classifier.classify(TEXTS), strict=True):
        assert [p.label for p in found] == [p.label for p in wanted]
        assert [p.score for p in found] == pytest.approx([p.score for p in wanted], abs=1e-6)


def test_fit(base):
    keras.utils.set_random_seed(0)  # of the fresh head, and of the order of examples
    model = zoo.load(base, labels=LABELS, drop_rate=0.0, attn_drop_rate=0.0, head_drop_rate=0.0)
    model.compile(keras.optimizers.Adam(3e-3), metrics=["accuracy"])
    x, y = model.preprocess(TEXTS), np.array([0, 1, 2, 0])
    history = model.fit(x, y, epochs=80, verbose=0).history
    assert history["accuracy"][-1] == 1
    assert history["loss"][-1] < history["loss"][0] / 3


def test_exported(classifier, tmp_path):
    classifier.export(tmp_path, verbose=False)
    served = tf.saved_model.load(tmp_path)
    x = classifier.preprocess(TEXTS)
    x["position_ids"] = np.tile(np.arange(x["input_ids"].shape[1], dtype=np.int32), (len(TEXTS), 1))
    given = {name: tf.constant(array) for name, array in x.items()}
    np.testing.assert_allclose(served.serve(given), classifier(x), atol=1e-5)


def test_bfloat16(base):
    wide, narrow = (zoo.load(base, dtype=d).embed(TEXTS) for d in ("float32", "bfloat16"))
    assert np.abs(wide - narrow).max() < 0.1 * np.abs(wide).max()
