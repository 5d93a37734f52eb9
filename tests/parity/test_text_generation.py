"""GPT-2 and causal encoders token by token, beside transformers' own generation."""

import numpy as np
import pytest
import tensorflow as tf
from reference import relative_error, torch
from text_models import KINDS, VOCABULARY, run

import zoo
from zoo.tasks.decoding import Decoder
from zoo.tasks.sampling import Sampling

NEW = 200
PROMPTS = np.random.default_rng(0).integers(3, VOCABULARY, (2, 7))
MASK = np.ones((2, 7), int)
MASK[0, :3] = 0  # padded on the left


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A model that does not repeat itself soon, and its reference in float64."""
    folder = tmp_path_factory.mktemp("theirs")
    reference = KINDS["gpt2"].make(
        "LMHeadModel", n_positions=300, eos_token_id=None, tie_word_embeddings=False
    )
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            parameter.mul_(4.0 if "wpe" in name or "attn" in name else 1.5)
    reference.save_pretrained(folder)
    return zoo.load(folder, dtype="float64"), reference.double()


def decoded(model, prompts, mask, count: int, sampling=None) -> np.ndarray:
    decoder = Decoder(model, len(prompts), prompts.shape[1] + count, most=300)
    logits = decoder.read(prompts, mask)
    texts = [list(row[kept > 0]) for row, kept in zip(prompts, mask, strict=True)]
    rng, draws = np.random.default_rng(0), []
    for _ in range(count):
        rows = zip(logits, texts, strict=True)
        tokens = [(sampling or Sampling(temperature=0)).draw(row, rng, text) for row, text in rows]
        draws.append(tokens)
        for text, token in zip(texts, tokens, strict=True):
            text.append(token)
        logits = decoder.read(np.array(tokens)[:, None])
    return np.array(draws).T


def test_greedy_generation_is_equal_token_for_token(pair):
    model, reference = pair
    options = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}
    theirs = reference.generate(
        torch.tensor(PROMPTS), attention_mask=torch.tensor(MASK), **options
    ).numpy()
    ours = decoded(model, PROMPTS, MASK, NEW)
    assert np.array_equal(ours, theirs[:, 7:])
    assert len(np.unique(ours)) > 20  # or the comparison would say little


def test_with_a_penalty_for_repetition(pair):
    model, reference = pair
    options = {"max_new_tokens": 60, "do_sample": False, "pad_token_id": 0}
    theirs = reference.generate(
        torch.tensor(PROMPTS[1:]), repetition_penalty=1.7, **options
    ).numpy()
    sampling = Sampling(temperature=0, repetition_penalty=1.7)
    assert np.array_equal(decoded(model, PROMPTS[1:], MASK[1:], 60, sampling), theirs[:, 7:])


def test_the_cache_changes_nothing(pair):
    model, _ = pair
    whole = np.random.default_rng(1).integers(3, VOCABULARY, (2, 40))
    mask = np.ones((2, 40), int)
    mask[0, :4] = 0
    places = np.maximum(np.cumsum(mask, 1) - 1, 0)
    arrays = {"input_ids": whole, "attention_mask": mask, "position_ids": places}
    plain = model({name: tf.constant(array, tf.int32) for name, array in arrays.items()}).numpy()
    decoder = Decoder(model, 2, 40, most=300)
    logits = decoder.read(whole[:, :10], mask[:, :10])
    for k in range(10, 40):
        assert relative_error(logits, plain[:, k - 1]) < 1e-9
        logits = decoder.read(whole[:, k : k + 1])


@pytest.mark.parametrize(("kind", "head"), [("bert", "LMHeadModel"), ("roberta", "ForCausalLM")])
def test_causal_encoders(kind, head, tmp_path):
    reference = KINDS[kind].make(head, is_decoder=True, eos_token_id=None)
    reference.save_pretrained(tmp_path)
    # not by their `generate`, which counts RoBERTa's places from 0, as its own forward does not
    theirs = PROMPTS[1:]
    for _ in range(20):
        logits = run(reference, {"input_ids": theirs})["logits"]
        theirs = np.concatenate([theirs, logits[:, -1:].argmax(-1)], axis=1)
    model = zoo.load(tmp_path, dtype="float64")
    assert model.task.name == "text-generation"
    ours = decoded(model, PROMPTS[1:], MASK[1:], 20)
    assert np.array_equal(ours, theirs[:, 7:])
