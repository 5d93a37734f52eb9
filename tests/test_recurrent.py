"""Recurrent layers: the compiled loop equals the plain one, in whatever pieces it runs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.layers.building import build_uninitialized, named_weights
from zoo.layers.embedding import Bias, Embedding
from zoo.layers.kernels import recurrent as kernels
from zoo.layers.recurrent import GRU, LSTM
from zoo.layers.sequence import SequencePool, SeriesScale, SeriesUnscale, StepMask
from zoo.weights.mapping import RECURRENT_ROWS, WeightMap

STEPS, BATCH, INPUTS = kernels.BLOCK + 9, 3, 5
LENGTHS = (STEPS, 1, kernels.BLOCK)
KINDS = {
    "lstm": lambda **kw: LSTM(6, **kw),
    "lstm, two layers": lambda **kw: LSTM(6, 2, **kw),
    "lstm, both directions": lambda **kw: LSTM(6, 2, bidirectional=True, **kw),
    "lstm, projected": lambda **kw: LSTM(6, 2, proj_size=4, **kw),
    "lstm, no bias": lambda **kw: LSTM(6, bias=False, **kw),
    "gru": lambda **kw: GRU(6, 2, **kw),
    "gru, both directions": lambda **kw: GRU(6, bidirectional=True, **kw),
}


def sequences(dtype="float64"):
    return np.random.default_rng(0).normal(size=(BATCH, STEPS, INPUTS)).astype(dtype)


def start(layer, count=BATCH):
    return {k: tf.zeros(s.shape, s.dtype) for k, s in layer.cache_spec(count, None).items()}


def arrays(x):
    return [np.asarray(t) for t in keras.tree.flatten(x)]


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def layer(request):
    keras.utils.set_random_seed(0)
    layer = request.param(dtype="float64", name="rnn")
    layer.build((None, None, INPUTS))
    return layer


@pytest.mark.parametrize("way", ["plain", "of Keras"])
def test_all_ways_give_the_same(layer, way, monkeypatch):
    mask = tf.sequence_mask(LENGTHS, STEPS)
    compiled = arrays(layer(sequences(), mask=mask, cache=start(layer)))
    monkeypatch.setattr(kernels, "has_loops", lambda: way == "of Keras")
    monkeypatch.setattr(kernels, "has_cudnn", lambda: way == "of Keras")
    others = arrays(layer(sequences(), mask=mask, cache=start(layer)))
    for ours, expected in zip(compiled, others, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-14)


def test_padding_is_not_read_and_gives_zeros(layer):
    x = sequences()
    mask = tf.sequence_mask(LENGTHS, STEPS)
    y, *state = arrays(layer(x, mask=mask, cache=start(layer)))
    for row, length in enumerate(LENGTHS):
        alone, *own = arrays(layer(x[row : row + 1, :length], cache=start(layer, 1)))
        np.testing.assert_allclose(y[row, :length], alone[0], rtol=1e-12, atol=1e-14)
        assert not y[row, length:].any()
        for part, expected in zip(state, own, strict=True):
            np.testing.assert_allclose(part[row], expected[0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("cuts", [(1, 2), (kernels.BLOCK,), tuple(range(1, STEPS))])
def test_piece_by_piece_is_the_same_as_at_once(cuts):
    layer = LSTM(6, 2, dtype="float64")
    layer.build((None, None, INPUTS))
    whole, *final = arrays(layer(sequences(), cache=start(layer)))
    state, pieces = start(layer), []
    run = tf.function(lambda x, s: layer(x, cache=s))
    for piece in np.split(sequences(), cuts, axis=1):
        out, state = run(tf.constant(piece), state)
        pieces.append(np.asarray(out))
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, rtol=1e-12, atol=1e-14)
    for part, expected in zip(arrays(state), final, strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-12, atol=1e-14)


def test_a_traced_function_takes_any_size(layer):
    signature = [tf.TensorSpec((None, None, INPUTS), tf.float64)]
    run = tf.function(lambda x: layer(x), input_signature=signature)
    for shape in ((1, 1), (2, kernels.BLOCK), (BATCH, STEPS)):
        x = sequences()[: shape[0], : shape[1]]
        np.testing.assert_allclose(run(x), layer(x), rtol=1e-12, atol=1e-14)
    assert run(np.zeros((2, 0, INPUTS))).shape[:2] == (2, 0)


def test_gradients_do_not_depend_on_the_blocks(monkeypatch):
    layer = LSTM(6, 2, dtype="float64")
    x = tf.constant(sequences())

    @tf.function(autograph=False)
    def gradients():
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x, mask=tf.sequence_mask(LENGTHS, STEPS)) ** 2)
        return tape.gradient(loss, [x, *(v.value for v in layer.trainable_variables)])

    layer.build(x.shape)
    several = arrays(gradients())
    monkeypatch.setattr(kernels, "BLOCK", STEPS)
    gradients = tf.function(gradients.python_function, autograph=False)
    for ours, expected in zip(several, arrays(gradients()), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-12)


def test_config_dtype_and_shapes(layer):
    again = type(layer).from_config(layer.get_config())
    again.build((None, None, INPUTS))
    assert [(v.name, v.shape) for v in again.weights] == [(v.name, v.shape) for v in layer.weights]
    y, state = layer(sequences(), cache=start(layer))
    shape = layer.compute_output_shape((BATCH, STEPS, INPUTS))
    assert (tuple(y.shape), y.dtype) == (shape, tf.float64)
    spec = layer.cache_spec(BATCH, None)
    assert {k: s.shape for k, s in state.items()} == {k: s.shape for k, s in spec.items()}


def test_building_traces_no_graph_and_needs_no_initialisation(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the loop was traced")

    monkeypatch.setattr(kernels, "run", refuse)

    def build():
        inputs = keras.Input((None, INPUTS))
        return keras.Model(inputs, LSTM(6, 2, bidirectional=True, name="rnn")(inputs))

    model = build_uninitialized(build)
    assert all(weight._value is None for weight in named_weights(model).values())


def test_the_map_keeps_every_weight_as_it_is(layer):
    rng = np.random.default_rng(1)
    weights = {f"rnn.{v.name}": rng.normal(size=v.shape) for v in layer.weights}
    table = WeightMap(RECURRENT_ROWS)
    tensors = table.export(weights)
    assert tensors.keys() == weights.keys()
    shapes = {k: v.shape for k, v in weights.items()}
    values = table.resolve(tensors, shapes).values
    assert all(np.array_equal(values[k], v) for k, v in weights.items())


def test_dropout_acts_in_training_alone():
    layer = LSTM(6, 2, dropout=0.5, weight_dropout=0.5, seed=1)
    x = sequences("float32")
    assert np.array_equal(layer(x), layer(x, training=False))
    assert not np.allclose(layer(x, training=True), layer(x, training=True))
    plain = LSTM(6, 2)
    plain.build(x.shape)
    plain.set_weights(layer.get_weights()[: len(plain.weights)])
    np.testing.assert_allclose(plain(x), layer(x), rtol=1e-6)


@pytest.mark.parametrize("options", [{"proj_size": 6}, {"proj_size": 9}])
def test_a_projection_that_cannot_be(options):
    with pytest.raises(ValueError, match="proj_size"):
        LSTM(6, **options)
    with pytest.raises(ValueError, match="proj_size"):
        GRU(6, proj_size=2)


# ---------------------------------------------------------------- around them


def test_an_embedding_and_its_way_back():
    layer = Embedding(7, 4, tied=True, padding_idx=2, dtype="float64")
    vectors = layer(np.array([[0, 2, 6]]))
    assert not np.asarray(vectors)[0, 1].any()
    logits = layer(vectors, reverse=True)
    matrix = np.asarray(layer.matrix)
    np.testing.assert_allclose(logits[0], matrix[[0, 2, 6]] @ matrix.T, rtol=1e-12)
    assert logits.shape == layer.compute_output_shape((1, 3, 4), reverse=True)
    assert [w.name for w in layer.weights] == ["tied_embeddings"]


def test_token_dropout_drops_a_token_everywhere():
    layer = Embedding(50, 4, dropout=0.5, seed=0)
    tokens = np.arange(50)[None].repeat(2, 0)
    dropped, whole = np.asarray(layer(tokens, training=True)), np.asarray(layer(tokens))
    gone = ~dropped[0].any(-1)
    assert 5 < gone.sum() < 45
    assert np.array_equal(dropped[0], dropped[1])
    np.testing.assert_allclose(dropped[0][~gone], 2 * whole[0][~gone], rtol=1e-6)


def test_a_bias_adds():
    layer = Bias()
    layer.build((None, 3))
    layer.bias.assign([1.0, 2.0, 3.0])
    np.testing.assert_allclose(layer(np.ones((2, 3), "float32")), [[2, 3, 4]] * 2)


def test_step_masks():
    tokens = np.array([[3, 1, 0, 0], [1, 2, 3, 4]])
    assert np.array_equal(StepMask(0)(tokens), tokens != 0)
    series = np.array([[[1.0, 0], [0, 0]], [[0, 0], [0, 2]]])
    assert np.array_equal(StepMask(0.0)(series), [[True, False], [False, True]])


@pytest.mark.parametrize("kind", ["last", "mean", "max"])
def test_pools_read_the_steps_of_each_sequence(kind):
    x = np.random.default_rng(0).normal(size=(2, 5, 4))
    mask = tf.sequence_mask([5, 3], 5)
    pool = SequencePool(kind, 2, dtype="float64")
    pooled = np.asarray(pool(x, step_mask=mask))
    expected = {
        "last": [[*x[0, 4, :2], *x[0, 0, 2:]], [*x[1, 2, :2], *x[1, 0, 2:]]],
        "mean": [x[0].mean(0), x[1, :3].mean(0)],
        "max": [x[0].max(0), x[1, :3].max(0)],
    }
    np.testing.assert_allclose(pooled, expected[kind], rtol=1e-12)
    np.testing.assert_allclose(pool(x[1:, :3])[0], pooled[1], rtol=1e-12)


def test_a_series_is_scaled_and_scaled_back():
    x = np.random.default_rng(0).normal(size=(2, 9, 3)) * 40 + 7
    mask = tf.sequence_mask([9, 4], 9)
    scaled, scale = SeriesScale(dtype="float64")(x, step_mask=mask)
    np.testing.assert_allclose(scaled[1, :4].numpy().mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled[1, :4].numpy().std(0), 1, rtol=1e-6)
    assert not np.asarray(scaled)[1, 4:].any()
    back = SeriesUnscale(dtype="float64")(scaled[:, :, :1], scale)
    np.testing.assert_allclose(back[0, :, 0], x[0, :, 0], rtol=1e-12)
