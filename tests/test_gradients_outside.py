"""Gradients from outside of graphs of unknown sizes, and under XLA, are those of the plain path."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from zoo.layers import activation, normalization
from zoo.layers.kernels import attention, convolution
from zoo.layers.kernels.pooling import max_pool
from zoo.layers.recurrent import LSTM

TEXT = {"vocab_size": 40, "max_positions": 32, "hidden_size": 8, "num_heads": 2, "num_layers": 1}
TEXT |= {"intermediate_size": 16}
VIT = {"embed_dim": 8, "depth": 1, "num_heads": 2, "patch_size": 8, "img_size": (32, 32)}


def _conv(gradient):
    kernel = tf.constant(np.random.default_rng(3).normal(size=(3, 3, 2, 2)), tf.float32)
    options = {"strides": 2, "padding": "VALID"}
    return lambda x: convolution._conv2d(x, kernel, options, gradient)


def _layer(layer, shape):
    layer.build(shape)
    return layer


def _over_time(layer):
    return lambda x: layer(tf.reshape(x, (tf.shape(x)[0], -1, 2)))


# what has a gradient of its own, as a function of maps [n, h, w, 2]
KERNELS = {
    "attention": lambda: lambda x: attention.attend(x, x, x),
    "attention in blocks": lambda: lambda x: attention.blockwise(x, x, x, causal=True),
    "gelu": lambda: activation.gelu,
    "silu": lambda: activation.silu,
    "layer norm": lambda: _layer(
        normalization.LayerNorm(epsilon=1e-5, dtype="float32"), (None, None, None, 2)
    ),
    "convolution by products": lambda: _conv(convolution._matrix_gradient),
    "convolution, plain": lambda: _conv(convolution._plain_gradient),
    "max pool": lambda: lambda x: max_pool(x, 3, 2, 1),
    "lstm": lambda: _over_time(_layer(LSTM(3, dtype="float64"), (None, None, 2))),
}
PLACES = {
    "function": lambda f, x, n: f(x),
    "cond": lambda f, x, n: tf.cond(n > 0, lambda: f(x), lambda: 0 * f(x)),
    "while": lambda f, x, n: tf.while_loop(
        lambda i, _: i < n, lambda i, y: (i + 1, y + f(x)), (0, 0 * f(x))
    )[1],
    "map": lambda f, x, n: tf.map_fn(lambda row: f(row[None])[0], x),
}


def slope(function, x):
    """The gradient of the outputs' squares."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = function(x)
        loss = tf.reduce_sum(tf.square(outputs))
    return tape.gradient(loss, x)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_of_a_kernel(kernel, place):
    function = KERNELS[kernel]()
    heads = "attention" in kernel
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 2 if heads else 9, 7, 2)))
    single = kernel.startswith(("layer norm", "conv"))  # which float64 takes the plain way of
    x = tf.cast(x, tf.float32) if single else x
    signature = [tf.TensorSpec((None, 2 if heads else None, None, 2), x.dtype)]
    signature.append(tf.TensorSpec((), tf.int32))
    graph = tf.function(
        lambda x, n: PLACES[place](function, x, n), input_signature=signature, autograph=False
    )
    bound = 1e-5 if single else 1e-11
    ours = slope(lambda x: graph(x, tf.constant(1)), x)
    np.testing.assert_allclose(ours, slope(function, x), rtol=bound, atol=bound)


MODELS = {
    "bert": ("text", "bert", TEXT),
    "gpt2": ("text", "gpt2", TEXT),
    "vit": ("image", "vit_tiny_patch16_224", {"dynamic_img_size": True, **VIT}),
    "resnet": ("image", "resnet10t", {"channels": (8, 8, 8, 16), "stem_width": 8}),
    "lstm": ("series", "lstm_classifier", {"features": 3, "hidden_size": 5, "num_layers": 2}),
}
KINDS = {name: kind for name, (kind, *_) in MODELS.items()}


def _model(name):
    """One with weights that tell every variable from every other, in float64."""
    _, architecture, options = MODELS[name]
    model = zoo.load(architecture, pretrained=False, num_classes=3, **options, dtype="float64")
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(variable + rng.uniform(-0.05, 0.05, variable.shape))
    return model


def _inputs(kind):
    rng = np.random.default_rng(0)
    if kind == "text":
        ids = rng.integers(5, 40, (2, 9)).astype(np.int32)
        places = np.tile(np.arange(9, dtype=np.int32), (2, 1))
        return {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": places}
    return rng.normal(size=(2, 40, 24, 3) if kind == "image" else (2, 37, 3))


def _any(x):
    return tf.TensorSpec([None] * (x.ndim - 1) + [None if x.ndim == 2 else 3], x.dtype)


def _slopes(function, variables, x):
    """The gradient of the outputs' squares by each variable, as one tensor."""
    with tf.GradientTape() as tape:
        outputs = tf.nest.flatten(function(x))
        loss = tf.add_n([tf.reduce_sum(tf.square(y)) for y in outputs])
    options = {"unconnected_gradients": tf.UnconnectedGradients.ZERO}
    grads = tape.gradient(loss, variables, **options)
    return tf.concat([tf.reshape(tf.convert_to_tensor(g), [-1]) for g in grads], 0)


def assert_close(ours, expected):
    assert ours.dtype == expected.dtype == tf.float64
    assert np.linalg.norm(ours - expected) < 1e-10 * np.linalg.norm(expected)


@pytest.mark.parametrize("name", MODELS)
def test_of_a_model_of_unknown_sizes(name):
    model, x = _model(name), _inputs(KINDS[name])
    variables = [v.value for v in model.trainable_variables]
    expected = _slopes(model, variables, x)
    graph = functools.partial(
        tf.function, input_signature=[tf.nest.map_structure(_any, x)], autograph=False
    )
    outside = graph(lambda x: model(x))
    assert_close(_slopes(outside, variables, x), expected)
    inside = graph(lambda x: _slopes(model, variables, x), jit_compile=True)
    assert_close(inside(x), expected)


@pytest.mark.parametrize("name", ["bert", "vit", "resnet", "lstm"])
def test_of_an_exported_model(name, tmp_path):
    model, x = _model(name), _inputs(KINDS[name])
    if name == "bert":  # an exported model wants all of its inputs
        x["token_type_ids"] = np.zeros_like(x["input_ids"])
    variables = [v.value for v in model.trainable_variables]
    expected = _slopes(model, variables, x)
    model.export(tmp_path / "saved", verbose=False)
    again = tf.saved_model.load(tmp_path / "saved")
    assert_close(_slopes(again.serve, _twins(variables, again.variables), x), expected)
    layer = keras.layers.TFSMLayer(tmp_path / "saved", call_endpoint="serve", dtype="float64")
    weights = [v.value for v in layer.trainable_variables]
    assert_close(_slopes(layer, _twins(variables, weights), x), expected)
    if name == "lstm":  # also where XLA compiles what was read
        under_xla = tf.function(lambda x: again.serve(x), jit_compile=True)
        np.testing.assert_allclose(under_xla(x), model(x), rtol=1e-12)
    if name != "bert":
        images = tf.constant(x)
        np.testing.assert_allclose(slope(layer, images), slope(model, images), atol=1e-12)


def _twins(variables, others):
    """For each variable that one of the others which has its values."""
    twins = [[w for w in others if w.shape == v.shape and np.array_equal(w, v)] for v in variables]
    assert all(len(found) == 1 for found in twins)
    return [found[0] for found in twins]


def test_fit_under_xla_with_unknown_height_and_width():
    model = zoo.load(
        "vit_tiny_patch16_224", pretrained=False, num_classes=3, dynamic_img_size=True, **VIT
    )
    model.compile("sgd", jit_compile=True)
    x = np.random.default_rng(0).normal(size=(4, 40, 24, 3)).astype(np.float32)
    history = model.fit(x, np.array([0, 1, 2, 0]), batch_size=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize("kernel", ["attention in blocks", "gelu", "silu", "lstm"])
def test_second_gradients_inside_are_the_change_of_the_first(kernel):
    function, rng = KERNELS[kernel](), np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(2, 2, 4, 2)))
    along = tf.constant(rng.normal(size=x.shape))

    def first(x):
        return tf.reduce_sum(tf.sin(slope(function, x)))

    def second(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = first(x)
        return tape.gradient(loss, x)

    step = 1e-5
    expected = (first(x + step * along) - first(x - step * along)) / (2 * step)
    for run in (second, tf.function(second, autograph=False)):
        np.testing.assert_allclose(tf.reduce_sum(run(x) * along), expected, rtol=1e-6)
