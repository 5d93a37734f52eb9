"""Attention: the plain path is the formula, and blocks change neither it nor its gradient."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from zoo.layers.kernels import attention

BATCH, WIDTH, OUT = 2, 6, 3
T, S = 13, 23  # no multiples of the blocks below
MASKS = {
    "none": None,
    "padding": (BATCH, 1, 1, S),
    "full": (BATCH, 4, T, S),
    "by head": (4, 1, S),
    "by query": (BATCH, 1, T, 1),
}


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(attention, "QUERY_BLOCK", 8)
    monkeypatch.setattr(attention, "KEY_BLOCK", 5)
    attention._traced.cache_clear()
    yield
    attention._traced.cache_clear()


def tensors(t=T, s=S, heads=4, groups=2, dtype="float64"):
    """Query, key, value and what the outputs are weighed with."""
    rng = np.random.default_rng(0)
    shapes = ((heads, t, WIDTH), (groups, s, WIDTH), (groups, s, OUT), (heads, t, OUT))
    return [tf.constant(rng.normal(size=(BATCH, *shape)), dtype) for shape in shapes]


def mask_of(kind):
    shape = MASKS[kind]
    return None if shape is None else tf.constant(np.random.default_rng(1).random(shape) < 0.6)


def with_gradients(attend):
    """The outputs and the gradients of query, key and value."""

    def run(query, key, value, upstream, **options):
        with tf.GradientTape() as tape:
            tape.watch((query, key, value))
            outputs = attend(query, key, value, **options)
        return outputs, *tape.gradient(outputs, (query, key, value), upstream)

    return run


def by_formula(query, key, value, mask=True, bias=0.0, causal=False, scale=None):
    """In numpy, with keys and values repeated: weights and outputs."""
    query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
    repeats = query.shape[1] // key.shape[1]
    key, value = (np.repeat(x, repeats, axis=1) for x in (key, value))
    scale = WIDTH**-0.5 if scale is None else scale
    logits = np.einsum("nhtd,nhsd->nhts", query, key) * scale + bias
    readable = np.broadcast_to(mask, logits.shape)
    if causal:
        t, s = logits.shape[2:]
        readable = readable & np.tri(t, s, s - t, dtype=bool)
    weights = np.exp(logits) * readable
    weights /= np.maximum(weights.sum(-1, keepdims=True), 1e-300)
    return weights, weights @ value


def any_size(x):
    """For a graph that knows heads and widths alone; of a mask, nothing but its rank."""
    if x.dtype == tf.bool:
        return tf.TensorSpec([None] * x.shape.rank, x.dtype)
    return tf.TensorSpec((None, x.shape[1], None, x.shape[3]), x.dtype)


def assert_same(ours, expected, bounds=(1e-12, 1e-11, 1e-11, 1e-11)):
    for x, y, bound in zip(ours, expected, bounds, strict=True):
        assert x.shape == y.shape
        np.testing.assert_allclose(x, y, rtol=bound, atol=bound)


# ---------------------------------------------------------------- plain


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", MASKS)
def test_plain_is_the_formula(kind, causal):
    query, key, value, _ = tensors()
    mask = mask_of(kind)
    bias = np.random.default_rng(2).normal(size=(4, T, S))
    options = {"mask": mask, "bias": bias, "causal": causal, "scale": 0.7}
    weights, outputs = by_formula(
        query, key, value, True if mask is None else mask.numpy(), bias, causal, 0.7
    )
    ours = attention.plain(query, key, value, **options)
    np.testing.assert_allclose(ours, outputs, rtol=1e-12, atol=1e-14)
    ours = attention.attention_probabilities(query, key, **options)
    np.testing.assert_allclose(ours, weights, rtol=1e-12, atol=1e-14)


def test_a_bias_has_a_gradient_and_takes_the_plain_path(monkeypatch):
    monkeypatch.setattr(attention, "_shortest_for_blocks", lambda: 1)
    query, key, value, upstream = tensors()
    bias = tf.Variable(np.random.default_rng(2).normal(size=(1, 4, T, S)))

    def loss():
        return tf.reduce_sum(attention.attend(query, key, value, bias=bias) * upstream)

    with tf.GradientTape() as tape:
        before = loss()
    slope = tape.gradient(before, bias)[0, 1, 2, 3]
    bias[0, 1, 2, 3].assign(bias[0, 1, 2, 3] + 1e-6)
    np.testing.assert_allclose((loss() - before) / 1e-6, slope, rtol=1e-4, atol=1e-8)


# ---------------------------------------------------------------- blocks


WAYS = [
    *(("static", kind, False) for kind in MASKS),
    *(("any size", kind, True) for kind in MASKS),
    ("eager", "padding", True),
    ("eager", "full", True),
]


@pytest.mark.parametrize(("way", "kind", "causal"), WAYS)
def test_blocks_change_nothing(way, kind, causal, small_blocks):
    x, options = tensors(), {"mask": mask_of(kind), "causal": causal}
    given = [*x, options["mask"]] if options["mask"] is not None else x

    def run(*given):
        mask = given[4] if len(given) == 5 else None
        return with_gradients(attention.blockwise)(*given[:4], mask=mask, causal=causal)

    if way != "eager":
        signature = [any_size(tensor) for tensor in given] if way == "any size" else None
        run = tf.function(run, input_signature=signature, autograph=False)
    assert_same(run(*given), with_gradients(attention.plain)(*x, **options))


@pytest.mark.parametrize("heads", [2, 4])
def test_lengths_that_fit_the_blocks_or_not(heads, small_blocks):
    for t, s in ((8, 5), (16, 20), (1, 1), (7, 23), (23, 7), (3, 0), (0, 3)):
        x = tensors(t, s, heads)
        for causal in (False, True):
            ours = with_gradients(attention.blockwise)(*x, causal=causal)
            assert_same(ours, with_gradients(attention.plain)(*x, causal=causal))


@pytest.mark.parametrize(("kind", "causal"), [("padding", True), ("full", False)])
def test_blocks_under_xla(kind, causal, small_blocks):
    x, options = tensors(), {"mask": mask_of(kind), "causal": causal}
    run = tf.function(
        lambda *x: with_gradients(attention.blockwise)(*x, **options),
        jit_compile=True,
        autograph=False,
    )
    assert_same(run(*x), with_gradients(attention.plain)(*x, **options))


def test_real_blocks_in_float32():
    shape = (1, 2, attention.QUERY_BLOCK + 77, 16)
    rng = np.random.default_rng(0)
    x = [tf.constant(rng.normal(size=shape), tf.float64) for _ in range(4)]
    exact = with_gradients(attention.plain)(*x)
    run = tf.function(with_gradients(attention.blockwise), autograph=False)
    for ours, y in zip(run(*(tf.cast(a, tf.float32) for a in x)), exact, strict=True):
        assert tf.norm(tf.cast(ours, y.dtype) - y) < 1e-6 * tf.norm(y)


def test_the_second_gradient_is_that_of_the_plain_path():
    x = tensors(t=5, s=7)

    def second(way):
        with tf.GradientTape() as outer:
            outer.watch(x)
            grads = with_gradients(way)(*x, causal=True)[1:]
            slope = tf.add_n([tf.reduce_sum(grad**2) for grad in grads])
        return outer.gradient(slope, x)

    expected = second(attention.plain)
    for run in (second, tf.function(second, autograph=False)):
        assert_same(run(attention.blockwise), expected, [1e-11] * 4)


# ---------------------------------------------------------------- both


@pytest.mark.parametrize("way", [attention.plain, attention.blockwise])
def test_queries_that_may_read_no_key_get_zeros(way):
    x = tensors(t=5, s=3)  # causal: the first two have no key before them
    mask = np.ones((BATCH, 1, 1, 3), bool)
    mask[1] = False
    outputs, *grads = with_gradients(way)(*x, mask=tf.constant(mask), causal=True)
    outputs = outputs.numpy()
    assert not outputs[:, :, :2].any()
    assert not outputs[1].any()
    assert outputs[0, :, 2:].all()
    for grad in grads:
        assert np.isfinite(grad).all()
        assert not grad[1].numpy().any()


@pytest.mark.parametrize("way", [attention.plain, attention.blockwise])
def test_nan_is_not_hidden(way):
    query, key, value, _ = tensors()
    query = tf.tensor_scatter_nd_update(query, [[0, 0, 4, 0]], [float("nan")])
    outputs = way(query, key, value).numpy()
    assert np.isnan(outputs[0, 0, 4]).all()
    assert np.isnan(outputs).sum() == OUT


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("way", [attention.plain, attention.blockwise])
def test_half_precision_costs_what_rounding_the_output_costs(way, dtype):
    query, key, value, _ = tensors(s=1024, dtype=dtype)
    _, exact = by_formula(*(tf.cast(x, tf.float64) for x in (query, key, value)))
    floor = np.linalg.norm(tf.cast(tf.cast(exact, dtype), tf.float64) - exact)
    outputs = way(query, key, value)
    assert outputs.dtype == query.dtype
    assert np.linalg.norm(tf.cast(outputs, tf.float64) - exact) < 1.05 * floor


@pytest.mark.parametrize("length", [3, 9])
def test_unknown_lengths_are_looked_at_when_they_run(length, monkeypatch, small_blocks):
    monkeypatch.setattr(attention, "_shortest_for_blocks", lambda: 5)
    x = tensors(t=length, s=length)
    signature = [any_size(tensor) for tensor in x]
    run = tf.function(with_gradients(attention.attend), input_signature=signature, autograph=False)
    assert_same(run(*x), with_gradients(attention.plain)(*x))
    choice = tf.function(attention._chooses_blocks)(tf.constant(length), tf.constant(length))
    assert bool(choice) == (length >= 5)


def test_the_choice_follows_the_shorter_length(monkeypatch):
    taken = []
    for name in ("plain", "blockwise"):
        monkeypatch.setattr(attention, name, lambda *_, name=name, **__: taken.append(name))
    least = attention._shortest_for_blocks()
    for t, s in ((least, least), (least - 1, 10 * least), (10 * least, least - 1)):
        attention.attend(tf.zeros((1, 1, t, 1)), tf.zeros((1, 1, s, 1)), tf.zeros((1, 1, s, 1)))
    assert taken == ["blockwise", "plain", "plain"]


_MEMORY = """
import tensorflow as tf
from zoo.layers.kernels.attention import attend

def status(field):
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines[field].split()[0]) * 1024

def call(tokens):
    made = (tf.raw_ops.RandomStandardNormal(shape=(1, 12, tokens, 64), dtype=tf.float32)
            for _ in range(3))
    return run(*made)

run = tf.function(attend, input_signature=[tf.TensorSpec((1, 12, None, 64))] * 3, autograph=False)
call(64)
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
outputs = call(8192)
print((status("VmHWM") - before) / (4 * 12 * 8192 * 64 * 4))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_that_of_inputs_and_outputs():
    # oneDNN, which TensorFlow takes by itself on processors with AVX-512 alone, has buffers of its
    # own: 25 MB here, 33 MB for twice the length, so that they are not what is measured
    environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": "0"}
    command = [sys.executable, "-c", _MEMORY]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert 1 <= float(done.stdout) < 1.2
