"""Attention layers, for vision and text alike."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from zoo.layers.base import Layer, Shape, build_chain, register, run_chain
from zoo.layers.decoding import Cache, DecodingLayer, remember
from zoo.layers.kernels.attention import attend, attention_probabilities
from zoo.layers.linear import Dense
from zoo.layers.normalization import RMSNorm, norm_type

_recorder = threading.local()


@contextmanager
def recording() -> Iterator[list[Any]]:
    """Collects the weights `[n, heads, t, s]` of every attention that runs in the block.

    Fast paths never hold these weights; they are computed for the list alone.
    """
    before = getattr(_recorder, "maps", None)
    maps: list[Any] = []
    _recorder.maps = maps
    try:
        yield maps
    finally:
        _recorder.maps = before


def is_recording() -> bool:
    """Whether this thread collects attention weights."""
    return getattr(_recorder, "maps", None) is not None


def heads_first(x: Any, heads: int) -> Any:
    """`[n, t, heads * d] -> [n, heads, t, d]`."""
    n, t = ops.shape(x)[:2]
    return ops.transpose(ops.reshape(x, (n, t, heads, x.shape[-1] // heads)), (0, 2, 1, 3))


def heads_last(x: Any) -> Any:
    """`[n, heads, t, d] -> [n, t, heads * d]`."""
    n, heads, t, d = ops.shape(x)
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (n, t, heads * d))


def readable(mask: Any) -> Any:
    """A mask of tokens `[n, t]`, of ones and zeros, as attention takes it: bool `[n, 1, 1, t]`."""
    return None if mask is None else ops.cast(mask, "bool")[:, None, None, :]


def attended(
    query: Any,
    key: Any,
    value: Any,
    *,
    mask: Any = None,
    bias: Any = None,
    causal: bool = False,
    scale: float | None = None,
    drop: keras.layers.Dropout | None = None,
    training: bool | None = None,
) -> Any:
    """`attend`, with dropout of the weights in training, and seen by `recording`.

    Args:
        query, key, value: `[n, heads, t, d]`, `[n, groups, s, d]`, `[n, groups, s, e]`.
        drop: dropout of the weights; it needs all of them at once.
        mask, bias, causal, scale: see `attend`.

    Returns:
        `[n, heads, t, e]`.
    """
    options = {"mask": mask, "bias": bias, "causal": causal, "scale": scale}
    drop = drop if training else None
    if drop is None and not is_recording():
        return attend(query, key, value, **options)
    weights = attention_probabilities(query, key, **options)
    if is_recording():
        _recorder.maps.append(weights)
    if drop is not None:
        weights = drop(weights, training=True)
    return weighted(weights, value)


def weighted(weights: Any, value: Any) -> Any:
    """Sums of values by weights: `[n, h, t, s]` and `[n, g, s, e]` to `[n, h, t, e]`."""
    n, h, t, s = ops.shape(weights)
    g = value.shape[1]
    grouped = ops.reshape(weights, (n, g, (h // g) * t, s))
    return ops.reshape(ops.matmul(grouped, value), (n, h, t, value.shape[-1]))


class _SelfAttention(Layer):
    """What the kinds of self-attention share: the map to queries, keys and values, and the way out.

    Args:
        heads: number of query heads.
        qkv_bias, proj_bias: whether the maps have a bias.
        qk_norm: whether each query and key is normalised.
        scale_norm: whether the result is normalised before the last map.
        norm: the norm's name; `norm_eps` is its epsilon.
        attn_drop, proj_drop: dropout rates, of the weights and of the output.
    """

    heads: int
    qkv_bias: bool = True
    proj_bias: bool = True
    qk_norm: bool = False
    scale_norm: bool = False
    norm_layer: str = "layernorm"
    norm_eps: float = 1e-6
    attn_drop: float = 0.0
    proj_drop: float = 0.0
    attention_maps, signed_attention = 1, False

    def make_norm(self, name: str) -> keras.layers.Layer:
        return self.child(norm_type(self.norm_layer), epsilon=self.norm_eps, name=name)

    def build_maps(self, input_shape: Shape, qkv: int, head: int, result: int) -> None:
        """The children: `qkv` features out of the first map, heads of `head` features each.

        Args:
            result: features of the heads' results together.
        """
        width = input_shape[-1]
        self.qkv = self.child(Dense, qkv, use_bias=self.qkv_bias, name="qkv")
        self.qkv.build(input_shape)
        if self.qk_norm:
            self.q_norm, self.k_norm = self.make_norm("q_norm"), self.make_norm("k_norm")
            for norm in (self.q_norm, self.k_norm):
                norm.build((None, None, None, head))
        self.weights_drop = self.drop_layer(self.attn_drop, "attn_drop")
        self.proj = self.child(Dense, width, use_bias=self.proj_bias, name="proj")
        norm = self.make_norm("norm") if self.scale_norm else None
        self.tail = [norm, self.proj, self.drop_layer(self.proj_drop, "proj_drop")]
        build_chain((*input_shape[:-1], result), *self.tail)
        self.built = True

    def normalized(self, query: Any, key: Any) -> tuple[Any, Any]:
        return (self.q_norm(query), self.k_norm(key)) if self.qk_norm else (query, key)

    def compute_output_shape(self, input_shape: Shape, **kwargs: Any) -> Shape:
        return input_shape


@register
class Attention(DecodingLayer, _SelfAttention):
    """Multi-head self-attention (Vaswani et al., arXiv:1706.03762), `[n, t, c] -> [n, t, c]`.

    Args:
        kv_heads: heads of keys and values, each read by `heads / kv_heads` queries (Ainslie et
            al., arXiv:2305.13245); None is as many.
        head_dim: features per head; None is `c / heads`.
        scale: of the logits; None is `head_dim ** -0.5`.
        causal: whether a token sees those before it alone.
        window: how many tokens it sees then, itself among them (Beltagy et al., arXiv:2004.05150);
            None is all.
    """

    kv_heads: int | None = None
    head_dim: int | None = None
    scale: float | None = None
    causal: bool = False
    window: int | None = None

    def build(self, input_shape: Shape) -> None:
        self.groups = self.kv_heads or self.heads
        self.size = self.head_dim or input_shape[-1] // self.heads
        features = (self.heads + 2 * self.groups) * self.size
        self.build_maps(input_shape, features, self.size, self.heads * self.size)

    def cache_spec(self, n: int | None, length: int | None) -> Cache:
        """Keys and values, a ring `[n, kv_heads, size, d]` of each; see `zoo.layers.decoding`."""
        size = length
        if length is not None and self.window is not None:
            size = min(self.window, length)
        ring = keras.KerasTensor((n, self.groups, size, self.size), dtype=self.compute_dtype)
        return {"key": ring, "value": ring}

    def call(self, inputs, places=None, mask=None, cache=None, bias=None, training=None):
        """As of `zoo.layers.decoding`; see `attend` for the bias, to `[n, heads, t, s]`."""
        query, key, value = self.queries_keys_values(inputs, places)
        options = {"mask": readable(mask), "causal": self.causal}
        if cache is not None or self.window is not None:
            places = ops.arange(ops.shape(inputs)[1])[None] if places is None else places
            places = ops.cast(places, "int32")
            held = places if mask is None else ops.where(ops.cast(mask, "bool"), places, -1)
        if cache is not None:
            new, moves = {"key": key, "value": value}, self.window is not None
            read, held, cache = remember(cache, new, places, mask, moves=moves)
            key, value = read["key"], read["value"]
        if cache is not None or self.window is not None:
            options = {"mask": self._seen(places, held)}
        x = attended(
            query,
            key,
            value,
            bias=bias,
            scale=self.scale,
            drop=self.weights_drop,
            training=training,
            **options,
        )
        x = run_chain(heads_last(x), *self.tail)
        return x if cache is None else (x, cache)

    def _seen(self, places: Any, held: Any) -> Any:
        """Which tokens at the places `held` `[n, s]` each token sees, bool `[n, 1, t, s]`."""
        place, other = places[:, None, :, None], held[:, None, None, :]
        seen = other >= 0
        if self.causal:
            seen = ops.logical_and(seen, other <= place)
        if self.window is not None:
            seen = ops.logical_and(seen, other > place - self.window)
        return seen

    def queries_keys_values(self, inputs: Any, places: Any = None) -> tuple[Any, Any, Any]:
        """`[n, heads, t, d]`, and twice `[n, kv_heads, t, d]`."""
        heads = heads_first(self.qkv(inputs), self.heads + 2 * self.groups)
        query, key, value = ops.split(heads, (self.heads, self.heads + self.groups), axis=1)
        return *self.normalized(query, key), value


class Differential(Layer):
    """What makes attention differential: `attention_1 - lambda * attention_2`, normalised.

    Ye et al., Differential Transformer, arXiv:2410.05258, equations 1 to 3.
    """

    attention_maps, signed_attention = 2, True

    def build_difference(self, size: int, depth: int) -> None:
        """The weights.

        Args:
            size: features of a query.
            depth: number of the block, from 0, which sets where lambda starts.
        """
        for name in ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2"):
            start = keras.initializers.RandomNormal(stddev=0.1)
            setattr(self, name, self.add_weight(name=name, shape=(size,), initializer=start))
        self.start = 0.8 - 0.6 * math.exp(-0.3 * depth)
        self.sub_norm = self.child(RMSNorm, epsilon=1e-5, name="sub_norm")
        self.sub_norm.build((None, None, None, 2 * size))

    def differ(self, query: Any, key: Any, value: Any, **options: Any) -> Any:
        """Queries and keys `[n, 2 * heads, t, d]`, values `[n, heads, s, 2 * d]`, to
        `[n, heads, t, 2 * d]`; the options are those of `attended`."""
        first, second = (attended(query[:, k::2], key[:, k::2], value, **options) for k in range(2))
        difference = first - ops.cast(self.factor(), first.dtype) * second
        return self.sub_norm(difference) * (1 - self.start)

    def factor(self) -> Any:
        """The learned lambda."""
        pairs = ((self.lambda_q1, self.lambda_k1), (self.lambda_q2, self.lambda_k2))
        first, second = (ops.exp(ops.sum(ops.multiply(q, k))) for q, k in pairs)
        return first - second + self.start


@register
class DifferentialAttention(Differential, _SelfAttention):
    """Differential self-attention, `[n, t, c] -> [n, t, c]`.

    Args:
        depth: number of the block, from 0.
    """

    depth: int = 0

    def build(self, input_shape: Shape) -> None:
        width = input_shape[-1]
        size = width // self.heads // 2
        self.build_difference(size, self.depth)
        self.build_maps(input_shape, 3 * width, size, width)

    def call(self, inputs, attention_mask=None, causal=False, training=None):
        query, key, value = ops.split(self.qkv(inputs), 3, axis=-1)
        query, key = self.normalized(
            heads_first(query, 2 * self.heads), heads_first(key, 2 * self.heads)
        )
        x = self.differ(
            query,
            key,
            heads_first(value, self.heads),
            mask=attention_mask,
            causal=causal,
            drop=self.weights_drop,
            training=training,
        )
        return run_chain(heads_last(x), *self.tail)
