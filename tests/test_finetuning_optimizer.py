"""The optimizer of fine-tuning: its formula, schedules, groups of weights, and where it runs."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.architectures.base import LayerGroups
from zoo.errors import OptionError, TaskError
from zoo.finetuning.groups import layer_ids, optimizer_for, parameter_groups, stages
from zoo.finetuning.optimizer import AdamW, Warmup, schedule
from zoo.layers.building import named_weights
from zoo.layers.kernels import adam
from zoo.registry import registry

LSTM = {"features": 3, "hidden_size": 8, "num_layers": 2, "num_classes": 4}
RESNET = {"layers": (1, 2, 1, 1), "channels": (8, 8, 16, 16), "num_classes": 4}
VIT = {"depth": 2, "embed_dim": 24, "num_heads": 2, "img_size": (32, 32), "num_classes": 4}
NETWORKS = {"lstm_classifier": LSTM, "resnet18": RESNET, "vit_tiny_patch16_224": VIT}
LOSS = keras.losses.CategoricalCrossentropy(from_logits=True)
SHALLOW = {  # where depth is not what is looked at
    "lstm_classifier": {"num_layers": 1},
    "resnet18": {"layers": (1, 1), "channels": (8, 8)},
    "vit_tiny_patch16_224": {"depth": 1},
}


def load(name, **options):
    keras.utils.set_random_seed(0)
    return zoo.load(name, pretrained=False, **NETWORKS[name] | options)


def batch(name, count=8):
    rng = np.random.default_rng(0)
    shape = (6, 3) if name == "lstm_classifier" else (32, 32, 3)
    x = rng.normal(size=(count, *shape)).astype("float32")
    return x, rng.dirichlet(np.ones(4), count).astype("float32")


# ---------------------------------------------------------------- the formula

OPTIONS = {"beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-3, "weight_decay": 0.3}
FACTORS, DECAYS = [0.5, 2.0], [True, False]


def by_formula(weight, gradients, rate, decay):
    """Equation by equation, in numpy and float64."""
    m = v = np.zeros_like(weight)
    b1, b2 = OPTIONS["beta_1"], OPTIONS["beta_2"]
    for t, g in enumerate(gradients, 1):
        weight = weight - rate * decay * weight
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        root = np.sqrt(v / (1 - b2**t)) + OPTIONS["epsilon"]
        weight = weight - rate * m / (1 - b1**t) / root
    return weight


def two_variables(dtype="float64"):
    rng = np.random.default_rng(0)
    values = [rng.normal(size=shape) for shape in ((5, 3), (4,))]
    gradients = [[rng.normal(size=v.shape) for v in values] for _ in range(4)]
    return [keras.Variable(v, dtype=dtype) for v in values], values, gradients


@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-13), ("float32", 1e-6)])
def test_every_variable_has_its_rate_and_decay(dtype, bound):
    variables, values, gradients = two_variables(dtype)
    optimizer = AdamW(0.125, factors=FACTORS, decays=DECAYS, **OPTIONS)
    for step in gradients:
        optimizer.apply([tf.constant(g, dtype) for g in step], variables)
    for k, variable in enumerate(variables):
        decay = OPTIONS["weight_decay"] * DECAYS[k]
        expected = by_formula(values[k], [g[k] for g in gradients], 0.125 * FACTORS[k], decay)
        assert np.abs(np.array(variable) - expected).max() < bound


def test_without_groups_all_have_the_same_rate_and_decay():
    variables, values, gradients = two_variables()
    optimizer = AdamW(0.125, **OPTIONS)
    optimizer.apply([tf.constant(g) for g in gradients[0]], variables)
    for variable, value, gradient in zip(variables, values, gradients[0], strict=True):
        expected = by_formula(value, [gradient], 0.125, OPTIONS["weight_decay"])
        assert np.abs(np.array(variable) - expected).max() < 1e-14


def test_the_plain_step_is_the_kernel_s():
    (weight, _), _, gradients = two_variables()
    steps = {}
    for kind in ("kernel", "plain"):
        w, m, v = (keras.Variable(x, dtype="float64") for x in (weight, weight * 0, weight * 0))
        for gradient, _ in gradients:
            numbers = {"size": 0.1, "epsilon": 1e-3, "beta_1": 0.8, "beta_2": 0.99}
            if kind == "kernel":
                adam.adam_step(w.value, m, v, tf.constant(gradient), **numbers)
            else:
                adam._plain(w, m, v, tf.constant(gradient), *numbers.values())
        steps[kind] = np.array(w)
    assert np.abs(steps["kernel"] - steps["plain"]).max() < 1e-14


def test_rows_without_a_gradient_move_on():
    """As PyTorch's dense gradient of an embedding has it: moments decay, and move the weight."""
    dense, sparse = (keras.Variable(np.ones((4, 2)), dtype="float64") for _ in range(2))
    for variable, is_sparse in ((dense, False), (sparse, True)):
        optimizer = AdamW(0.125, weight_decay=0.5)
        for row in (1, 3, 1):
            gradient = tf.IndexedSlices(tf.ones((1, 2), "float64"), tf.constant([row]), (4, 2))
            given = gradient if is_sparse else tf.convert_to_tensor(gradient)
            optimizer.apply([given], [variable])
    np.testing.assert_array_equal(np.array(dense), np.array(sparse))
    assert np.all(np.array(dense)[[0, 2]] == (1 - 0.125 * 0.5) ** 3)


def test_clipping_comes_before_the_moments():
    variables, values, gradients = two_variables()
    optimizer = AdamW(0.125, global_clipnorm=0.5, **OPTIONS)
    optimizer.apply([tf.constant(g) for g in gradients[0]], variables)
    norm = np.sqrt(sum(np.sum(g**2) for g in gradients[0]))
    clipped = [g * 0.5 / norm for g in gradients[0]]
    for variable, value, gradient in zip(variables, values, clipped, strict=True):
        expected = by_formula(value, [gradient], 0.125, OPTIONS["weight_decay"])
        assert np.abs(np.array(variable) - expected).max() < 1e-14


def test_groups_of_other_variables_are_an_error():
    variables, _, _ = two_variables()
    with pytest.raises(OptionError, match="factors are of 3 variables"):
        AdamW(0.1, factors=[1.0] * 3).build(variables)


# ---------------------------------------------------------------- schedules


def rates(kind, steps=10, warmup=4, **options):
    made = schedule(kind, 0.5, steps, warmup, **options)
    return np.array([float(made(k)) for k in range(steps + 2)])


def test_schedules():
    rise = 0.5 * np.arange(4) / 4
    time = np.minimum(np.arange(8) / 6, 1)
    expected = {
        "cosine": 0.25 * (1 + np.cos(np.pi * time)),
        "linear": 0.5 * (1 - time),
        "constant": np.full(8, 0.5),
    }
    for kind, after in expected.items():
        np.testing.assert_allclose(rates(kind), [*rise, *after], rtol=1e-6, atol=1e-8)
    start = 0.05 + 0.45 * np.arange(4) / 4
    np.testing.assert_allclose(rates("linear", start=0.1)[:4], start, rtol=1e-6)
    np.testing.assert_allclose(rates("constant", warmup=0), 0.5)


def test_a_schedule_lives_in_the_optimizer_s_config():
    optimizer = AdamW(schedule("cosine", 0.5, 10, 4), factors=[1.0], decays=[False])
    config = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))
    assert isinstance(again._learning_rate, Warmup)
    for step in range(10):
        assert float(again._learning_rate(step)) == float(optimizer._learning_rate(step))
    assert (again.factors, again.decays) == ((1.0,), (False,))


def test_no_such_schedule_names_the_nearest():
    with pytest.raises(OptionError, match="Did you mean 'cosine'"):
        schedule("cosin", 0.5, 10)


def test_the_first_step_takes_the_first_rate():
    variables, values, gradients = two_variables()
    optimizer = AdamW(schedule("linear", 0.5, 10, 4), **OPTIONS)
    optimizer.apply([tf.constant(g) for g in gradients[0]], variables)
    for variable, value in zip(variables, values, strict=True):
        np.testing.assert_array_equal(np.array(variable), value)  # a rate of 0


# ---------------------------------------------------------------- groups


def test_layers_of_a_resnet():
    model = load("resnet18")
    ids = layer_ids(model)
    expected = {
        "conv1.kernel": 0,
        "bn1.gamma": 0,
        "layer1.0.conv1.kernel": 1,
        "layer2.0.bn2.moving_mean": 2,
        "layer2.1.bn2.beta": 3,
        "layer4.0.conv2.kernel": 5,
        "fc.bias": 6,
    }
    assert {name: ids[name] for name in expected} == expected
    assert stages(model) == [
        ["conv1", "bn1"],
        ["layer1.0"],
        ["layer2.0", "layer2.1"],
        ["layer3.0"],
        ["layer4.0"],
        ["fc"],
    ]


def test_ten_blocks_come_after_nine():
    ids = layer_ids(load("vit_tiny_patch16_224", depth=12))
    assert [ids[f"blocks.{k}.attn.qkv.kernel"] for k in range(12)] == list(range(1, 13))
    assert (ids["norm.gamma"], ids["head.bias"]) == (12, 13)
    assert {ids["embeddings.cls_token"], ids["patch_embed.proj.kernel"]} == {0}


def test_layers_of_recurrent_networks():
    ids = layer_ids(load("lstm_classifier", vocab_size=9, bidirectional=True))
    expected = {
        "encoder.embeddings": 0,
        "rnn.weight_ih_l0": 1,
        "rnn.bias_hh_l1_reverse": 2,
        "decoder.kernel": 3,
    }
    assert {name: ids[name] for name in expected} == expected
    model = zoo.load("awd_lstm", pretrained=False, vocab_size=20, emb_sz=6, n_hid=7)
    assert stages(model) == [["encoder"], ["rnns.0"], ["rnns.1"], ["rnns.2"], ["decoder"]]


def test_a_layer_of_several_depths_stands_at_the_first():
    assert stages(load("lstm_classifier")) == [["rnn"], ["decoder"]]


def test_factors_fall_towards_the_input():
    model = load("vit_tiny_patch16_224")
    factors, decays = parameter_groups(model, 0.5)
    names = {id(v): name for name, v in named_weights(model).items()}
    ordered = [names[id(v)] for v in model.trainable_variables]
    factor, decay = (dict(zip(ordered, values, strict=True)) for values in (factors, decays))
    assert factor["head.kernel"] == 1.0
    assert factor["norm.gamma"] == factor["blocks.1.mlp.fc1.kernel"] == 0.5
    assert factor["embeddings.pos_embed"] == 0.125
    held = ("patch_embed.proj.kernel", "blocks.0.attn.qkv.kernel", "head.kernel")
    free = ("embeddings.pos_embed", "embeddings.cls_token", "head.bias", "norm.gamma")
    assert [decay[name] for name in (*held, *free)] == [True] * 3 + [False] * 4
    assert set(parameter_groups(model)[0]) == {1.0}


def test_frozen_layers_have_no_part():
    model = load("resnet18")
    for layer in model.layers:
        layer.trainable = layer.name in ("layer4.0", "fc")
    optimizer = optimizer_for(model, 0.1, layer_decay=0.5)
    assert len(optimizer.factors) == len(model.trainable_variables) == 11
    assert set(optimizer.factors) == {0.5, 1.0}  # counted over the whole network
    model.compile(optimizer, LOSS)
    before = {name: np.array(v) for name, v in named_weights(model).items()}
    for _ in range(2):  # the first moves no more than the branch's last norm, which starts at 0
        model.train_on_batch(*batch("resnet18"))
    for name, variable in named_weights(model).items():
        moved = not np.array_equal(np.array(variable), before[name])
        assert moved == name.startswith(("layer4.0.", "fc.")), name


def test_a_family_without_groups_is_one_layer_below_its_head(monkeypatch):
    family = registry.import_family("resnet")
    monkeypatch.setattr(
        registry, "import_family", lambda _: _replaced(family, groups=LayerGroups())
    )
    model = load("resnet18")
    ids = layer_ids(model)
    assert {name for name, k in ids.items() if k} == {"fc.kernel", "fc.bias"}
    assert stages(model)[-1] == ["fc"]
    monkeypatch.setattr(
        registry, "import_family", lambda _: _replaced(family, groups=LayerGroups(), heads=())
    )
    assert set(layer_ids(model).values()) == {0}


def _replaced(family, **changes):
    import dataclasses

    return dataclasses.replace(family, **changes)


def test_a_model_without_a_card_has_no_layers():
    with pytest.raises(TaskError, match="no card"):
        layer_ids(keras.models.clone_model(load("lstm_classifier")))


# ---------------------------------------------------------------- in training


@pytest.mark.parametrize("name", NETWORKS)
def test_training_goes_on_after_a_reload(name, tmp_path):
    """Bit for bit, with a schedule, groups and moments on the way."""
    x, y = batch(name)
    rate, alone = schedule("cosine", 1e-2, 6, 2), load(name, **SHALLOW[name])
    alone.compile(optimizer_for(alone, rate, layer_decay=0.5), LOSS)
    alone.fit(x, y, batch_size=4, epochs=1, shuffle=False, verbose=0)
    alone.save(tmp_path / "half.keras")
    runs = []
    for model in (alone, keras.models.load_model(tmp_path / "half.keras")):
        model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
        runs.append({name: np.array(v) for name, v in named_weights(model).items()})
        assert int(model.optimizer.iterations) == 6
    assert runs[0].keys() == runs[1].keys()
    for weight, value in runs[0].items():
        np.testing.assert_array_equal(value, runs[1][weight], err_msg=weight)


@pytest.mark.parametrize("name", NETWORKS)
def test_half_precision_keeps_whole_weights(name):
    model = load(name, dtype="mixed_bfloat16", **SHALLOW[name])
    model.compile(optimizer_for(model, 1e-2), LOSS)
    x, y = batch(name)
    first = model.train_on_batch(x, y)
    for _ in range(5):
        last = model.train_on_batch(x, y)
    assert last < first
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    assert all(m.dtype == "float32" for m in model.optimizer._momentums)
