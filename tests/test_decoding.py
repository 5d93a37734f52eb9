"""What layers keep of a sequence: piece by piece is the same as at once, wherever it runs."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import zoo
from zoo.layers.attention import Attention, attended, heads_first, heads_last
from zoo.layers.decoding import DecodingLayer
from zoo.layers.linear import Dense
from zoo.layers.recurrent import GRU
from zoo.tasks.decoding import Decoder, decoding_graph

N, T, WIDTH, MEMORY = 2, 11, 8, 5
OLD = Path(__file__).parent / "goldens" / "before_caches.keras"


class Rotated(Attention):
    """With rotary positions (Su et al., arXiv:2104.09864)."""

    def queries_keys_values(self, inputs, places=None):
        query, key, value = super().queries_keys_values(inputs)
        places = ops.arange(ops.shape(inputs)[1])[None] if places is None else places
        angle = ops.cast(places, inputs.dtype)[:, None, :, None] / [1.0, 30.0]
        cos, sin = ops.cos(angle), ops.sin(angle)

        def turned(x):
            a, b = ops.split(x, 2, axis=-1)
            return ops.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

        return turned(query), turned(key), value


class Cross(DecodingLayer):
    """Attention to another sequence, whose keys and values are kept from the first call on."""

    def build(self, input_shape):
        self.q = self.child(Dense, WIDTH, name="q")
        self.kv = self.child(Dense, 2 * WIDTH, name="kv")
        for layer in (self.q, self.kv):
            layer.build(input_shape)
        self.built = True

    def cache_spec(self, n, length):
        none = keras.KerasTensor((n, 2, 0, WIDTH // 2), dtype=self.compute_dtype)
        return {"key": none, "value": none}

    def call(self, x, places=None, mask=None, cache=None, memory=None):
        if memory is not None:
            key, value = (heads_first(a, 2) for a in ops.split(self.kv(memory), 2, axis=-1))
        else:
            key, value = cache["key"], cache["value"]
        x = x + heads_last(attended(heads_first(self.q(x), 2), key, value))
        return x if cache is None else (x, {"key": key, "value": value})

    def compute_output_shape(self, input_shape, *_, **__):
        return input_shape


class Block(DecodingLayer):
    """Attention to what came before, and to another sequence: a cache of caches."""

    def build(self, input_shape):
        self.own = self.child(Rotated, 2, causal=True, window=4, name="own")
        self.cross = self.child(Cross, name="cross")
        self.own.build(input_shape)
        self.cross.build(input_shape)
        self.built = True

    def cache_spec(self, n, length):
        return {k: getattr(self, k).cache_spec(n, length) for k in ("own", "cross")}

    def call(self, x, places=None, mask=None, cache=None, memory=None):
        kept = cache or {"own": None, "cross": None}
        y, own = self.own.decode(x, places, mask, kept["own"])
        x, cross = self.cross.decode(x + y, places, mask, kept["cross"], memory=memory)
        return x if cache is None else (x, {"own": own, "cross": cross})

    def compute_output_shape(self, input_shape, *_, **__):
        return input_shape


def empty(layer, length=16):
    return keras.tree.map_structure(
        lambda t: tf.zeros(t.shape, t.dtype), layer.cache_spec(N, length)
    )


def texts():
    return np.random.default_rng(0).normal(size=(N, T, WIDTH))


def made(kind):
    keras.utils.set_random_seed(0)
    layer = kind()
    layer.build((None, None, WIDTH))
    return layer


KINDS = {
    "all tokens": lambda: Attention(2, causal=True, dtype="float64"),
    "grouped, both ways": lambda: Attention(
        4, kv_heads=2, qk_norm=True, causal=True, dtype="float64"
    ),
    "a window": lambda: Attention(2, causal=True, window=3, dtype="float64"),
    "rotary": lambda: Rotated(2, causal=True, dtype="float64"),
    "rotary, a window": lambda: Rotated(2, causal=True, window=5, dtype="float64"),
    "a state": lambda: GRU(WIDTH, 2, dtype="float64"),
}


# steps of recurrent layers stand before their padding
@pytest.mark.parametrize(
    ("kind", "side"),
    [(k, s) for k in KINDS for s in ("left", "right") if (k, s) != ("a state", "left")],
)
def test_piece_by_piece_is_the_same_as_at_once(kind, side):
    layer, x = made(KINDS[kind]), texts()
    whole = [
        np.asarray(layer(row[None, :length])) for row, length in zip(x, (T, T - 3), strict=True)
    ]
    # the second text begins with two tokens, the first with five
    first, mask = np.zeros((N, 5, WIDTH)), np.zeros((N, 5), "int32")
    kept = {"left": slice(3, 5), "right": slice(0, 2)}[side]
    first[0], first[1, kept] = x[0, :5], x[1, :2]
    mask[0], mask[1, kept] = 1, 1
    places = np.maximum(np.cumsum(mask, 1) - 1, 0)
    y, cache = layer(first, places=places, mask=mask, cache=empty(layer))
    np.testing.assert_allclose(y[0], whole[0][0, :5], rtol=1e-9)
    np.testing.assert_allclose(y[1, kept], whole[1][0, :2], rtol=1e-9)
    seen = np.array([[5], [2]])
    for count in (1, 1, 3, 1):
        piece = np.stack([row[k : k + count] for row, (k,) in zip(x, seen, strict=True)])
        before = keras.tree.map_structure(np.array, cache)
        y, new = layer(piece, places=seen + np.arange(count), cache=cache)
        for own, (k,), expected in zip(np.asarray(y), seen, whole, strict=True):
            np.testing.assert_allclose(own, expected[0, k : k + count], rtol=1e-9)
        keras.tree.map_structure(np.testing.assert_array_equal, before, cache)  # not in place
        cache, seen = new, seen + count


def test_what_a_layer_keeps_is_what_it_says():
    window = made(KINDS["a window"])
    assert {k: t.shape for k, t in window.cache_spec(N, 16).items()} == {
        "key": (N, 2, 3, 4),
        "value": (N, 2, 3, 4),
    }
    assert window.cache_spec(N, 2)["key"].shape == (N, 2, 2, 4)
    assert made(KINDS["all tokens"]).cache_spec(None, None)["key"].shape == (None, 2, None, 4)
    assert {k: t.shape for k, t in made(KINDS["a state"]).cache_spec(N, 16).items()} == {
        "hidden": (N, 2, WIDTH)
    }


def test_a_padded_token_alone_changes_nothing():
    layer = made(KINDS["all tokens"])
    _, cache = layer(texts(), places=np.arange(T)[None].repeat(N, 0), cache=empty(layer))
    last, mask = np.full((N, 1), T), np.array([[1], [0]])
    _, after = layer(texts()[:, :1], places=last, mask=mask, cache=cache)
    assert not np.array_equal(after["key"][0], cache["key"][0])
    np.testing.assert_array_equal(after["key"][1], cache["key"][1])


def test_a_graph_and_a_loop_with_another_sequence_and_a_window():
    block, x = made(lambda: Block(dtype="float64")), tf.constant(texts())
    memory = tf.constant(np.random.default_rng(1).normal(size=(N, MEMORY, WIDTH)))
    whole = block(x, memory=memory)
    tokens, other = (
        keras.Input((None, WIDTH), dtype="float64"),
        keras.Input((None, WIDTH), dtype="float64"),
    )
    places = keras.Input((None,), dtype="int32")
    spec = block.cache_spec(None, None)
    cache = keras.tree.map_structure(
        lambda t: keras.Input(batch_shape=t.shape, dtype=t.dtype), spec
    )
    step = made(lambda: Block(dtype="float64", name="again"))
    begin = keras.Model(
        [tokens, places, other, cache], step(tokens, places=places, memory=other, cache=cache)
    )
    step.set_weights(block.get_weights())
    first = tf.range(6)[None] + tf.zeros((N, 1), tf.int32)
    y, kept = begin([x[:, :6], first, memory, empty(block)])
    np.testing.assert_allclose(y, whole[:, :6], rtol=1e-9)

    @tf.function(autograph=False)
    def loop(cache):
        def body(k, cache, found):
            y, cache = block(x[:, k : k + 1], places=tf.fill((N, 1), k), cache=cache)
            return k + 1, cache, found.write(k - 6, y[:, 0])

        found = tf.TensorArray(tf.float64, T - 6)
        _, cache, found = tf.while_loop(lambda k, *_: k < T, body, (6, cache, found))
        return tf.transpose(found.stack(), (1, 0, 2))

    np.testing.assert_allclose(loop(kept), whole[:, 6:], rtol=1e-9)


def test_a_model_gets_a_second_graph_over_the_same_layers():
    options = {"vocab_size": 30, "emb_sz": 6, "n_hid": 7, "n_layers": 2}
    model = zoo.load("awd_lstm", pretrained=False, **options)
    graph = decoding_graph(model, every=True)
    assert {id(w) for w in graph.weights} == {id(w) for w in model.weights}
    assert {name: set(cache) for name, cache in graph.input["cache"].items()} == {
        f"rnns.{k}": {"hidden", "cell"} for k in range(2)
    }
    ids = np.array([[3, 1, 4, 1, 5]])
    decoder = Decoder(model, 1, every=True)
    found = np.concatenate([decoder.read(ids[:, :3]), decoder.read(ids[:, 3:])], axis=1)
    np.testing.assert_allclose(found, model(ids), rtol=1e-4, atol=1e-6)


def test_a_file_of_before_the_caches_loads():
    model = keras.models.load_model(OLD)
    ids = np.array([[1, 2, 3, 0], [4, 5, 6, 7]], np.int32)
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 1]], np.int32)
    logits = model({"input_ids": ids, "attention_mask": mask})
    expected = [[-0.0154904, -1.8032093, -0.3980014], [0.0869491, -1.6410536, -0.0874496]]
    np.testing.assert_allclose(logits[:, 2, :3], expected, rtol=1e-4, atol=1e-6)
    assert b"attention_mask" in zipfile.ZipFile(OLD).read("config.json")


@dataclass(frozen=True)
class Widths:
    """Of a block, to show that a config can be a layer's field."""

    outer: tuple[int, ...] = (1,)
    inner: int = 2


@keras.saving.register_keras_serializable("tests")  # not among zoo's own
class Configured(DecodingLayer):
    config: Widths

    def call(self, inputs):
        return inputs * self.config.inner

    def compute_output_shape(self, input_shape):
        return input_shape


def test_names_with_dots_and_configs_as_fields_survive_a_file(tmp_path):
    x = keras.Input((3,))
    config = Widths(outer=(4, 5), inner=3)
    model = keras.Model(x, Configured(config, name="blocks.0.part")(x))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.get_layer("blocks.0.part").config == config
    np.testing.assert_array_equal(again(np.ones((1, 3))), model(np.ones((1, 3))))
