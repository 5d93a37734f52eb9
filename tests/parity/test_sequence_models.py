"""AWD-LSTM and the LSTM networks against torch, live: the whole way from a file to outputs."""

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
from reference import relative_error, torch
from sequence_models import AWDLSTM, Network

import zoo
from zoo.architectures.lstm import LSTMConfig
from zoo.errors import WeightsError
from zoo.layers.building import named_weights
from zoo.registry import registry

SIZES = {"vocab_size": 50, "emb_sz": 12, "n_hid": 20, "n_layers": 3}
STEPS, LENGTHS = 45, (45, 1, 33)


def state_of(module):
    return {k: np.ascontiguousarray(v.numpy()) for k, v in module.state_dict().items()}


def write(tensors, tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file(tensors, path)
    return path


def check_gradients(model, x, logits, module, tensors):
    """The gradients of a fixed random scalar, through the weight map, to 1e-8."""
    direction = np.random.default_rng(3).normal(size=tuple(logits.shape))
    (logits * torch.tensor(direction)).sum().backward()
    named = dict(module.named_parameters())
    theirs = {k: named[n].grad.numpy() for k, n in tensors.items()}
    weights = named_weights(model)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(tf.constant(x), training=False) * direction)
    ours = tape.gradient(loss, {k: v.value for k, v in weights.items()})
    ours = {k: np.asarray(tf.convert_to_tensor(g)) for k, g in ours.items()}
    family = registry.import_family(model.record.card.family)
    exported = family.formats.table(model.record.layout).export(ours)
    errors = {k: relative_error(exported[k], theirs[k]) for k in theirs}
    assert max(errors.values()) < 1e-8, errors


def renamed(state, layout):
    """A state dict of ours under the names that fastai saves."""
    if layout != "fastai":
        return state
    own = {f"{'1' if k.startswith('decoder') else '0'}.{k}": v for k, v in state.items()}
    dropped = {
        k.replace("weight_hh_l0_raw", "module.weight_hh_l0"): v * 0.5
        for k, v in own.items()
        if k.endswith("_raw")
    }
    return own | dropped | {"0.encoder_dp.emb.weight": own["0.encoder.weight"]}


@pytest.mark.parametrize("layout", ["awd_lstm", "salesforce", "fastai"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "own decoder"])
def test_awd_lstm(layout, tied, tmp_path):
    torch.manual_seed(0)
    module = AWDLSTM(**SIZES, tie_weights=tied, inside=layout == "salesforce").double()
    state = renamed(state_of(module), layout)
    path = write(state, tmp_path)
    options = SIZES | {"tie_weights": tied, "dtype": "float64"}
    model = zoo.load("awd_lstm", weights=path, **options)
    assert model.record.layout == layout
    tokens = np.random.default_rng(0).integers(50, size=(3, STEPS))
    logits = module(torch.tensor(tokens))
    assert relative_error(model(tokens), logits.detach()) < 1e-9
    names = {k: k.removeprefix("0.").removeprefix("1.") for k in state}
    learned = dict(module.named_parameters())
    check_gradients(model, tokens, logits, module, {k: n for k, n in names.items() if n in learned})

    saved = safetensors.numpy.load_file(zoo.save(model, tmp_path / "saved") / "model.safetensors")
    kept = {k: v for k, v in state.items() if not k.endswith("module.weight_hh_l0")}
    assert saved.keys() == kept.keys()
    assert all(np.array_equal(saved[k], v) and saved[k].dtype == v.dtype for k, v in kept.items())


def test_a_decoder_of_its_own_is_no_tied_one(tmp_path):
    path = write(state_of(AWDLSTM(**SIZES | {"n_hid": 12}, tie_weights=False)), tmp_path)
    with pytest.raises(WeightsError, match="tie_weights=False"):
        zoo.load("awd_lstm", weights=path, **SIZES | {"n_hid": 12})


KINDS = {
    "classifier": {"features": 5, "padding_value": 0.0},
    "mean, both directions": {"features": 5, "pool": "mean", "bidirectional": True},
    "max, GRU": {"features": 5, "pool": "max", "cell": "gru", "padding_value": -9.0},
    "last, both directions": {
        "features": 5,
        "bidirectional": True,
        "num_layers": 2,
        "padding_value": 0.0,
    },
    "tokens, projected": {"vocab_size": 30, "padding_idx": 0, "proj_size": 6, "num_layers": 2},
    "tagger": {
        "head": "tagger",
        "vocab_size": 30,
        "padding_idx": 0,
        "bidirectional": True,
        "num_layers": 2,
        "num_classes": 7,
    },
    "forecaster": {"head": "forecaster", "features": 2, "horizon": 6, "padding_value": 0.0},
    "forecaster, plain": {"head": "forecaster", "features": 2, "scale": False, "cell": "gru"},
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_lstm_networks(kind, tmp_path):
    torch.manual_seed(0)
    options = {"hidden_size": 11, "embedding_dim": 9, "num_classes": 4} | kind
    config = LSTMConfig(**options)
    module = Network(config).double()
    state = state_of(module)
    head = {"classifier": "lstm_classifier", "tagger": "lstm_tagger"}
    name = head.get(config.head, "lstm_forecaster")
    if name != "lstm_tagger":
        options = {"vocab_size": None, "padding_idx": None} | options
    model = zoo.load(name, weights=write(state, tmp_path), dtype="float64", **options)
    rng = np.random.default_rng(0)
    padding = config.padding_value if config.vocab_size is None else config.padding_idx
    lengths = (STEPS,) * 3 if padding is None else LENGTHS
    if config.vocab_size is None:
        x = rng.normal(size=(3, STEPS, config.features)) + 2.0
    else:
        x = rng.integers(1, 30, size=(3, STEPS))
    for row, length in zip(x, lengths, strict=True):
        row[length:] = 0 if padding is None else padding
    y = module(torch.tensor(x), lengths)
    # torch gives the head's bias where a tagger's steps are padding; so do we
    assert relative_error(model(x), y.detach()) < 1e-9
    check_gradients(model, x, y, module, {k: k for k in state})
    saved = safetensors.numpy.load_file(zoo.save(model, tmp_path / "saved") / "model.safetensors")
    assert saved.keys() == state.keys()
    assert all(np.array_equal(saved[k], v) for k, v in state.items())


def test_a_missing_weight_is_an_error(tmp_path):
    module = Network(LSTMConfig(features=5, hidden_size=11))
    state = state_of(module)
    del state["rnn.weight_hh_l0"]
    path = write(state, tmp_path)
    with pytest.raises(WeightsError, match=r"rnn\.weight_hh_l0"):
        zoo.load("lstm_classifier", weights=path, features=5, hidden_size=11)
