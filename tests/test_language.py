"""Language models: what they generate, how they foresee, and the one that ships with zoo."""

import json
import lzma
import sys
from pathlib import Path

import numpy as np
import pytest

import zoo
from zoo.errors import InputError, OptionError, TaskError
from zoo.tasks.decoding import Decoder
from zoo.tasks.generation import Until
from zoo.tasks.sampling import Sampling

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))
import train_pydoc  # noqa: E402  (it can only be imported from that folder)

NAME = train_pydoc.NAME


@pytest.fixture(scope="module")
def model():
    return zoo.load(NAME, offline=True)


def test_it_loads_whole_from_the_package(model):
    report, card = model.load_report, model.card
    assert (report.fresh, report.ignored, report.dtype) == ((), (), "float16")
    assert card.num_params == sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    assert (train_pydoc.WEIGHTS / "model.safetensors").stat().st_size < 2_000_000
    assert zoo.load(train_pydoc.WEIGHTS).card.preprocessing == card.preprocessing


def test_the_card_has_the_held_out_figures_and_xz_needs_more(model):
    text = train_pydoc.HELD_OUT.read_text("utf-8")
    figures = model.card.published[train_pydoc.TEST]
    assert figures["characters"] == len(text) > 50_000
    assert figures["bits_per_character"] == pytest.approx(model.score(text), abs=2e-4)
    packed = 8 * len(lzma.compress(text.encode(), preset=9)) / len(text)
    assert figures["xz"] == pytest.approx(packed, abs=0.02)  # releases of xz differ a little
    assert figures["bits_per_character"] < packed


def test_a_score_is_that_of_the_logits(model):
    text = "Return the number of items."
    ids = model.preprocess(text)
    logits = np.asarray(model(ids), np.float64)[0]
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -logits[np.arange(ids.shape[1] - 1), ids[0, 1:]].mean() / np.log(2)
    assert model.score(text) == pytest.approx(expected, rel=1e-4)
    assert model.score([text, text[:9]])[0] == model.score(text)


def test_greedy_text_is_the_most_probable_one(model):
    text = "Return "
    expected = text
    for _ in range(20):
        ids = model.preprocess(expected)
        expected += model.preprocess.decode([np.asarray(model(ids))[0, -1].argmax()])
    assert text + model.generate(text, max_new_tokens=20, temperature=0) == expected


def test_the_stateful_pass_is_the_model(model):
    ids = model.preprocess("Return the number of items in the list.")
    decoder = Decoder(model, 1, every=True)
    pieces = [decoder.read(piece) for piece in np.split(ids, [1, 2, 20], axis=1)]
    np.testing.assert_allclose(np.concatenate(pieces, 1), model(ids), rtol=1e-3, atol=1e-4)


def test_seeds_prompts_and_pieces(model):
    one = model.generate("Return ", max_new_tokens=30, seed=1)
    assert isinstance(one, str)
    assert one == model.generate(["Return ", "Raise "], max_new_tokens=30, seed=1)[0]
    assert one != model.generate("Return ", max_new_tokens=30, seed=2)
    pieces = list(model.stream("Return ", max_new_tokens=30, seed=np.random.SeedSequence(1)))
    assert len(pieces) == 30
    assert model.generate("Return ", max_new_tokens=0) == ""
    sentence = model.generate("Return the ", max_new_tokens=300, temperature=0.3, stop=".", seed=0)
    assert sentence
    assert "." not in sentence


def test_texts_that_end_the_generation_may_lie_across_pieces():
    def end(*pieces, stops):
        text = Until(stops)
        return "".join([text.take(piece) for piece in pieces if not text.ended] + [text.rest()])

    assert end("ab", "cd", "ef", stops=("cde",)) == "ab"
    assert end("ab", "cd", "xf", stops=("cde",)) == "abcdxf"
    assert end("ab", "cd", stops=()) == "abcd"
    assert end("aab", "x", stops=("ab", "aa")) == ""


def test_sampling_draws_from_what_it_may():
    rng = np.random.default_rng(0)
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05]))

    def drawn(**options):
        return {Sampling(**options).draw(logits, rng) for _ in range(300)}

    assert drawn() == {0, 1, 2, 3}
    assert drawn(temperature=0) == {0}
    assert drawn(top_k=2) == {0, 1}
    assert drawn(top_p=0.6) == {0, 1}
    assert drawn(top_p=0.4) == {0}
    counts = np.bincount([Sampling().draw(logits, rng) for _ in range(4000)], minlength=4)
    np.testing.assert_allclose(counts / 4000, np.exp(logits), atol=0.03)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 1.5}, "top_p"),
        ({"max_new_tokens": -1}, "max_new_tokens"),
    ],
)
def test_options_out_of_range(model, options, expected):
    with pytest.raises(OptionError, match=expected):
        model.generate("a", **options)


def test_what_it_cannot_read_is_refused(model):
    with pytest.raises(InputError, match="is empty"):
        model.generate("")
    with pytest.raises(InputError, match="'é' as token 1"):
        model.generate("né")
    with pytest.raises(InputError, match="at least two"):
        model.score("a")
    with pytest.raises(TaskError, match="it has generate, stream, score"):
        model.classify("a")


def test_an_architecture_of_that_name_with_fresh_weights():
    fresh = zoo.load("awd_lstm", pretrained=False, vocab_size=20, emb_sz=4, n_hid=6)
    assert fresh(np.array([[1, 2, 3]])).shape == (1, 3, 20)
    assert fresh.task.name == "text-generation"
    logits = fresh(np.array([[1, 2, 3]]), training=True)
    assert not np.allclose(logits, fresh(np.array([[1, 2, 3]]), training=True))


def test_generate_on_the_command_line(cli):
    options = ("--max-new-tokens", 12, "--seed", 3)
    shown = cli("generate", NAME, "Return ", "Raise ", *options)
    data = cli("generate", NAME, "Return ", "Raise ", *options, "--json")
    pairs = json.loads(data.stdout)
    assert [pair["prompt"] for pair in pairs] == ["Return ", "Raise "]
    assert f"Return {pairs[0]['text']}" in shown.stdout
    wrong = cli("generate", "lstm_mini.digits", "a", code=1)
    assert "it has classify, embed" in wrong.stderr
