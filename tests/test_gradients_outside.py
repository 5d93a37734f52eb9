"""Gradients from outside of graphs of unknown sizes, and under XLA, are those of the plain path."""

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
TEXT |= {"intermediate_size": 16, "dtype": "float64"}
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
    "bert": (lambda: zoo.load("bert", pretrained=False, **TEXT), "text"),
    "gpt2": (lambda: zoo.load("gpt2", pretrained=False, **TEXT), "text"),
    "vit": (
        lambda: zoo.load(
            "vit_tiny_patch16_224", pretrained=False, dynamic_img_size=True, dtype="float64", **VIT
        ),
        "image",
    ),
}


def _inputs(kind):
    rng = np.random.default_rng(0)
    if kind == "image":
        return rng.normal(size=(2, 40, 24, 3))
    ids = rng.integers(5, 40, (2, 9)).astype(np.int32)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def _any(x):
    return tf.TensorSpec([None] * (x.ndim - 1) + [3 if x.ndim == 4 else None], x.dtype)


def _slopes(function, variables, x):
    with tf.GradientTape() as tape:
        outputs = tf.nest.flatten(function(x))[0]
        loss = tf.reduce_sum(tf.square(outputs))
    options = {"unconnected_gradients": tf.UnconnectedGradients.ZERO}
    grads = tape.gradient(loss, variables, **options)
    return np.concatenate([np.ravel(tf.convert_to_tensor(g)) for g in grads])


def assert_close(ours, expected):
    assert np.linalg.norm(ours - expected) < 1e-10 * np.linalg.norm(expected)


@pytest.mark.parametrize("name", MODELS)
def test_of_a_model_of_unknown_sizes(name):
    make, kind = MODELS[name]
    keras.utils.set_random_seed(0)
    model, x = make(), _inputs(kind)
    variables = [v.value for v in model.trainable_variables]
    expected = _slopes(model, variables, x)
    signature = [tf.nest.map_structure(_any, x)]
    graph = tf.function(lambda x: model(x), input_signature=signature, autograph=False)
    assert_close(_slopes(graph, variables, x), expected)
    compiled = tf.function(
        lambda x: [tf.cast(y, tf.float64) for y in _graph_slopes(model, variables, x)],
        input_signature=signature,
        autograph=False,
        jit_compile=True,
    )
    assert_close(np.concatenate([np.ravel(g) for g in compiled(x)]), expected)


def _graph_slopes(model, variables, x):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(tf.nest.flatten(model(x))[0]))
    options = {"unconnected_gradients": tf.UnconnectedGradients.ZERO}
    return tape.gradient(loss, variables, **options)


def test_of_an_exported_model(tmp_path):
    keras.utils.set_random_seed(0)
    make, kind = MODELS["vit"]
    model, x = make(), _inputs(kind)
    variables = [v.value for v in model.trainable_variables]
    expected = _slopes(model, variables, x)
    model.export(tmp_path / "saved", verbose=False)
    again = tf.saved_model.load(tmp_path / "saved")
    same = {v.name: v for v in again.variables}
    assert_close(_slopes(again.serve, [same[v.name] for v in variables], x), expected)
    layer = keras.layers.TFSMLayer(tmp_path / "saved", call_endpoint="serve")
    images = tf.constant(x)
    np.testing.assert_allclose(slope(layer, images), slope(model, images), rtol=1e-9, atol=1e-12)


def test_fit_under_xla_with_unknown_height_and_width():
    model = zoo.load(
        "vit_tiny_patch16_224", pretrained=False, num_classes=3, dynamic_img_size=True, **VIT
    )
    model.compile("sgd", jit_compile=True)
    x = np.random.default_rng(0).normal(size=(4, 40, 24, 3)).astype(np.float32)
    history = model.fit(x, np.array([0, 1, 2, 0]), batch_size=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
