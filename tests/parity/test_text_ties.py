"""Tied weights of language models: files with one name, with both, and with different values."""

import numpy as np
import pytest
import tensorflow as tf
from reference import relative_error, torch
from safetensors.torch import load_file, save_file, save_model
from text_models import KINDS, batch, run

import zoo
from zoo.layers.building import named_weights


def other_values(tensors, ties, part):
    """The file with heads that have values of their own, under names that end with `part`."""
    names = [name for name in ties if name.endswith(part)]
    own = {name: torch.randn_like(tensors[name]) for name in names}
    kept = {k: v for k, v in tensors.items() if k not in ties or k in names}
    return kept | own


CHANGES = {
    "heads alone": lambda t, ties: {k: v for k, v in t.items() if k not in ties.values()},
    "both, equal": lambda t, ties: t,
    "another matrix": lambda t, ties: other_values(t, ties, "weight"),
    "another bias": lambda t, ties: other_values(t, ties, "bias"),
    "another head": lambda t, ties: other_values(t, ties, ("weight", "bias")),
}


def logits(model, arrays):
    return model({name: tf.constant(array, tf.int32) for name, array in arrays.items()})


ONE_BIAS = ("distilbert", "electra", "gpt2")
CASES = [
    (kind, change)
    for kind in KINDS
    for change in (*CHANGES, "save_model")
    if not (kind in ONE_BIAS and change == "another bias")
]


@pytest.mark.parametrize(("kind", "change"), CASES)
def test_names_of_tied_weights(kind, change, tmp_path):
    reference = KINDS[kind].make(KINDS[kind].language)
    ties = type(reference)._tied_weights_keys
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    reference.save_pretrained(theirs)
    if change == "save_model":
        save_model(reference, str(theirs / "model.safetensors"))
    else:
        state = {name: tensor.clone() for name, tensor in reference.state_dict().items()}
        changed = CHANGES[change](state, ties)
        save_file(changed, theirs / "model.safetensors", metadata={"format": "pt"})
    arrays = batch(kind, types=0)
    expected = run(type(reference).from_pretrained(theirs).eval(), arrays)["logits"]
    model = zoo.load(theirs, dtype="float64")
    assert relative_error(logits(model, arrays), expected) < 1e-9
    assert not model.load_report.fresh

    zoo.save(model, ours)
    again = run(type(reference).from_pretrained(ours).eval(), arrays)["logits"]
    assert relative_error(again, expected) < 1e-12
    before, after = (load_file(folder / "model.safetensors") for folder in (theirs, ours))
    assert set(before) - set(after) == set(model.load_report.ignored)
    assert all(torch.equal(after[name], before[name]) for name in set(before) & set(after))
    if change in ("heads alone", "both, equal", "save_model"):
        assert set(after) == set(before)
    if change in ("another matrix", "another head"):
        assert "tied=False" in str(model.load_report)


def test_a_head_that_is_left_out_changes_nothing(tmp_path):
    """Of a file with another head, a network without it reads the table of tokens."""
    reference = KINDS["gpt2"].make("LMHeadModel")
    reference.save_pretrained(tmp_path)
    state = dict(reference.state_dict()) | {"lm_head.weight": torch.randn(60, 24)}
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model = zoo.load(tmp_path, num_classes=2)
    assert "lm_head.weight" in model.load_report.ignored
    table = named_weights(model)["embeddings.word_embeddings.embeddings"]
    assert np.array_equal(table, state["transformer.wte.weight"])


def test_no_tie_in_the_config_is_no_tie(tmp_path):
    reference = KINDS["gpt2"].make("LMHeadModel", tie_word_embeddings=False)
    reference.save_pretrained(tmp_path)
    state = dict(reference.state_dict())
    for name in ("lm_head.weight", "transformer.wte.weight"):
        kept = {k: v for k, v in state.items() if k != name}
        save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(zoo.errors.WeightsError, match=name):
            zoo.load(tmp_path)
