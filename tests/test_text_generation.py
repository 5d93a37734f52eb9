"""Texts that go on."""

import math

import numpy as np
import pytest
from synthetic_texts import gpt2

import zoo
from zoo.errors import InputError, OptionError
from zoo.tasks.generation import Writer
from zoo.tasks.sampling import GenerationOptions

PROMPTS = ["the cat", "a", "in london, "]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    model = zoo.load(gpt2(tmp_path_factory.mktemp("gpt2")))
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:  # so that it does not say one thing for ever
        weight.assign(weight + rng.normal(size=weight.shape) * 0.3)
    return model


def test_one_prompt_or_many(model):
    options = {"max_new_tokens": 20, "temperature": 0}
    together = model.generate(PROMPTS, **options)
    assert together == [model.generate(prompt, **options) for prompt in PROMPTS]
    assert together == model.generate(PROMPTS, batch_size=1, **options)
    assert len(set(together)) == 3


def test_a_seed_gives_the_same_again(model):
    options = {"max_new_tokens": 16, "top_k": 20, "top_p": 0.9}
    assert model.generate(PROMPTS, seed=1, **options) == model.generate(PROMPTS, seed=1, **options)
    assert model.generate(PROMPTS, seed=1, **options) != model.generate(PROMPTS, seed=2, **options)


def test_under_xla_the_same(model):
    options = {"max_new_tokens": 12, "temperature": 0}
    plain = model.generate(PROMPTS, **options), model.score(PROMPTS[0])
    model.jit_verbs = True
    try:
        assert model.generate(PROMPTS, **options) == plain[0]
        assert model.score(PROMPTS[0]) == pytest.approx(plain[1], rel=1e-5)
    finally:
        model.jit_verbs = False


def test_a_stream_gives_the_same_text_in_whole_characters(model):
    pieces = list(model.stream("the cat", max_new_tokens=24, temperature=0))
    assert "".join(pieces) == model.generate("the cat", max_new_tokens=24, temperature=0)
    assert len(pieces) > 3
    with pytest.raises(InputError, match="takes one text; got list"):
        model.stream(PROMPTS)


def test_characters_of_several_tokens_come_whole(model):
    writer_ids = model.preprocess.encode(["naïve 日本 🎉"])[0].ids
    writer = Writer(model.preprocess, np.array([], int), GenerationOptions())
    pieces = [
        writer.add(token, ends=False, last=k == len(writer_ids) - 1)
        for k, token in enumerate(writer_ids)
    ]
    assert "".join(pieces) == "naïve 日本 🎉"
    assert not any("\ufffd" in piece for piece in pieces)


def test_texts_that_end_it(model):
    whole = model.generate("the cat", max_new_tokens=24, temperature=0)
    stop = whole[5:8]
    cut = model.generate("the cat", max_new_tokens=24, temperature=0, stop=["never", stop])
    assert cut == whole[: whole.index(stop)]
    assert "".join(model.stream("the cat", max_new_tokens=24, temperature=0, stop=stop)) == cut


def test_the_token_that_ends_a_text(tmp_path):
    model = zoo.load(gpt2(tmp_path, tied=False))
    kernel = np.zeros(model.get_layer("decoder").kernel.shape)
    kernel[:, 256] = 1
    norm = model.get_layer("norm")
    norm.gamma.assign(np.zeros(norm.gamma.shape))
    norm.beta.assign(np.ones(norm.beta.shape))
    model.get_layer("decoder").kernel.assign(kernel)
    assert model.generate(PROMPTS, max_new_tokens=9, temperature=0) == ["", "", ""]


def test_repetition_costs(model):
    plain, punished = (
        model.generate("the the the", max_new_tokens=30, temperature=0, repetition_penalty=penalty)
        for penalty in (1.0, 5.0)
    )
    assert len(set(punished)) > len(set(plain))


def test_scores_are_bits_per_token(model):
    score, other = model.score(["the cat sat", "on the mat"])
    assert score > 0
    assert other != score
    ids = np.array([model.preprocess.encode(["the cat sat"])[0].ids])
    logits = model(ids).numpy()[0].astype(np.float64)
    given = [
        row[token] - math.log(np.exp(row - row.max()).sum()) - row.max()
        for row, token in zip(logits[:-1], ids[0, 1:], strict=True)
    ]
    assert score == pytest.approx(-np.mean(given) / math.log(2), rel=1e-4)
    with pytest.raises(InputError, match="fewer than two tokens"):
        model.score("a")


@pytest.mark.parametrize(
    ("prompts", "options", "error", "expected"),
    [
        ([], {}, InputError, "list of texts is empty"),
        ("", {}, InputError, "Prompt 0 is empty"),
        ("a" * 60, {"max_new_tokens": 10}, InputError, "has 60 tokens and max_new_tokens is 10"),
        ("a" * 80, {}, InputError, "more than the 64 tokens"),
        ("a", {"max_new_tokens": -1}, OptionError, "must be 0 or more"),
        ("a", {"temperature": -1}, OptionError, "temperature is -1; a number, 0 or more, expected"),
        ("a", {"top_k": 0}, OptionError, "top_k must be at least 1"),
        ("a", {"top_p": 1.5}, OptionError, "top_p must be above 0"),
        ("a", {"repetition_penalty": 0}, OptionError, "repetition_penalty must be positive"),
        ("a", {"batch_size": 0}, zoo.errors.ZooError, "batch_size must be at least 1"),
    ],
)
def test_options_out_of_range(model, prompts, options, error, expected):
    with pytest.raises(error, match=expected):
        model.generate(prompts, **options)


def test_nothing_to_add(model):
    assert model.generate(PROMPTS, max_new_tokens=0) == ["", "", ""]
