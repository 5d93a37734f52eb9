"""Texts as sequences of tokens: their embeddings, relative positions, and one vector of a text."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.errors import InputError
from zoo.layers.base import Layer, Shape, build_chain, choose, register, run_chain
from zoo.layers.decoding import DecodingLayer
from zoo.layers.embedding import Embedding
from zoo.layers.normalization import LayerNorm

_NORMAL = 0.02 * math.sqrt(3)  # the limit of uniform numbers of deviation 0.02


def text_inputs(names: tuple[str, ...]) -> dict[str, Any]:
    """Symbolic inputs, int32 `[n, t]` each: the first one is needed, the others may be None."""
    first, *others = names
    inputs = {first: keras.Input((None,), dtype="int32", name=first)}
    for name in others:
        inputs[name] = keras.Input((None,), dtype="int32", name=name, optional=True)
    return inputs


@register
class TextEmbeddings(DecodingLayer):
    """Token ids `[n, t]` to vectors `[n, t, size]`; with `reverse`, vectors to logits `[n, t, v]`.

    Sums what is learned of the token, of its place and of the part of the text that it is in.

    Args:
        vocab_size, size: of the table of tokens.
        max_positions: places that have a vector.
        type_vocab_size: parts that have a vector; 0: parts have none; None: a part is named by a
            token and has its vector.
        positions: `absolute`: places count from 0. `after_padding`: from `padding_idx + 1`, and
            padding counts as none.
        padding_idx: the token that pads.
        norm_eps: of the norm of the sum; None: no norm.
        drop: dropout rate of the sum.
    """

    vocab_size: int
    size: int
    max_positions: int = 512
    type_vocab_size: int | None = 0
    positions: str = "absolute"
    padding_idx: int | None = None
    norm_eps: float | None = None
    drop: float = 0.0

    def setup(self) -> None:
        choose("positions", self.positions, dict.fromkeys(("absolute", "after_padding")))

    def _table(self, name: str, rows: int) -> Embedding:
        table = self.child(Embedding, rows, self.size, initial_range=_NORMAL, name=name)
        table.build((None, None))
        return table

    def build(self, input_shape: Shape) -> None:
        self.word_embeddings = self._table("word_embeddings", self.vocab_size)
        self.position_embeddings = self._table("position_embeddings", self.max_positions)
        if self.type_vocab_size:
            self.type_embeddings = self._table("type_embeddings", self.type_vocab_size)
        norm = None
        if self.norm_eps is not None:
            norm = self.child(LayerNorm, epsilon=self.norm_eps, name="norm")
        self.tail = [norm, self.drop_layer(self.drop, "dropout")]
        build_chain((*input_shape, self.size), *self.tail)
        self.built = True

    def call(self, inputs, token_type_ids=None, position_ids=None, places=None, reverse=False):
        """`position_ids` are rows of the table, `places` those of `zoo.layers.decoding`."""
        if reverse:
            return self.word_embeddings(inputs, reverse=True)
        self._check_length(inputs.shape[1])
        if places is not None:
            position_ids = places + self.first_place
        if position_ids is None:
            position_ids = self._places(inputs)
        x = self.word_embeddings(inputs)
        if self.type_vocab_size is None:
            types = None if token_type_ids is None else self.word_embeddings(token_type_ids)
        elif self.type_vocab_size:
            given = ops.zeros((1, 1), "int32") if token_type_ids is None else token_type_ids
            types = self.type_embeddings(given)
        else:
            types = None
        if types is not None:
            x = x + types
        return run_chain(x + self.position_embeddings(position_ids), *self.tail)

    @property
    def first_place(self) -> int:
        """The place of a text's first token."""
        return (self.padding_idx or 0) + 1 if self.positions == "after_padding" else 0

    def _places(self, ids: Any) -> Any:
        """The place of each token, `[n, t]` or `[1, t]`."""
        if self.positions == "absolute":
            return ops.arange(ops.shape(ids)[1], dtype="int32")[None]
        counted = ops.cast(ops.not_equal(ids, self.padding_idx), "int32")
        return ops.cumsum(counted, axis=1) * counted + self.padding_idx

    def _check_length(self, length: Any) -> None:
        most = self.max_positions - self.first_place
        if isinstance(length, int) and length > most:
            raise InputError(
                f"A text of {length} tokens was given to a model of at most {most}. Cut it; "
                "model.preprocess does so."
            )

    def compute_output_shape(self, input_shape: Shape, *_: Any, **__: Any) -> Shape:
        return (*input_shape, self.size)

    def compute_output_spec(self, inputs: Any, *_: Any, reverse: bool = False, **__: Any) -> Any:
        shape = inputs.shape
        shape = (*shape[:-1], self.vocab_size) if reverse else (*shape, self.size)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)


@register
class RelativeBias(Layer):
    """What attention adds to its logits by how far apart two tokens are (Raffel et al.,
    arXiv:1910.10683, section 2.1), for any `[n, t, d]`: `[1, heads, t, t]`.

    Half of the buckets are for tokens before, half for tokens after; in each half, the nearer ones
    have a bucket each, and the others share buckets that widen up to `max_distance`.

    Args:
        buckets: in all.
        heads: of the attention.
        max_distance: from which on tokens share one bucket.
    """

    buckets: int
    heads: int
    max_distance: int = 128

    def build(self, input_shape: Shape) -> None:
        self.table = self.add_weight(
            name="table",
            shape=(self.buckets, self.heads),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
        )
        self.built = True

    def call(self, inputs):
        length = ops.shape(inputs)[1]
        place = ops.arange(length, dtype="int32")
        apart = place[None, :] - place[:, None]
        steps = ops.convert_to_tensor(self._steps())
        nearest = ops.minimum(ops.abs(apart), self.max_distance)
        bucket = ops.take(steps, nearest) + ops.cast(apart > 0, "int32") * (self.buckets // 2)
        table = ops.cast(self.table, self.compute_dtype)
        return ops.transpose(ops.take(table, bucket, axis=0), (2, 0, 1))[None]

    def _steps(self) -> np.ndarray:
        """The bucket of each distance from 0 to `max_distance`, int32."""
        half = self.buckets // 2
        exact = half // 2
        distance = np.arange(self.max_distance + 1)
        # float32, as the reference has it: the bounds between buckets are whole numbers
        ratio = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact))
        share = ratio / np.float32(math.log(self.max_distance / exact))
        wide = exact + (share * np.float32(half - exact)).astype(np.int32)
        return np.where(distance < exact, distance, np.minimum(wide, half - 1)).astype(np.int32)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (1, self.heads, input_shape[1], input_shape[1])


@register
class FirstToken(Layer):
    """The vector of the first token: `[n, t, d] -> [n, d]`."""

    def call(self, inputs):
        return inputs[:, 0]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], input_shape[-1])


@register
class LastToken(Layer):
    """The vector of the last token that is no padding: `[n, t, d] -> [n, d]`.

    Args:
        padding_idx: the token that pads, on either side; None: nothing does.
    """

    padding_idx: int | None = None

    def call(self, inputs, input_ids):
        if self.padding_idx is None:
            return inputs[:, -1]
        places = ops.arange(ops.shape(input_ids)[1], dtype="int32")
        counted = ops.cast(ops.not_equal(input_ids, self.padding_idx), "int32")
        last = ops.argmax(places * counted, axis=1)
        return ops.take_along_axis(inputs, last[:, None, None], axis=1)[:, 0]

    def compute_output_shape(self, input_shape: Shape, *_: Any, **__: Any) -> Shape:
        return (input_shape[0], input_shape[-1])


# ---------------------------------------------------------------- one vector of a text


def _cls(x, kept, weights):
    return _at(x, ops.argmax(ops.cast(kept[..., 0], "int32"), axis=1))


def _max(x, kept, weights):
    return ops.max(ops.where(kept > 0, x, ops.cast(-1e9, x.dtype)), axis=1)


def _mean(x, kept, weights):
    return ops.sum(x * kept, axis=1) / ops.maximum(ops.sum(kept, axis=1), 1e-9)


def _mean_sqrt(x, kept, weights):
    return ops.sum(x * kept, axis=1) / ops.sqrt(ops.maximum(ops.sum(kept, axis=1), 1e-9))


def _weighted_mean(x, kept, weights):
    return _mean(x, kept * weights, weights)


def _last_token(x, kept, weights):
    places = ops.arange(ops.shape(x)[1], dtype="int32")
    return _at(x * kept, ops.argmax(places * ops.cast(kept[..., 0], "int32"), axis=1))


def _at(x, place):
    return ops.take_along_axis(x, place[:, None, None], axis=1)[:, 0]


POOLINGS = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt,
    "weightedmean": _weighted_mean,
    "lasttoken": _last_token,
}


@register
class TextPool(Layer):
    """All tokens of a text to one vector: `[n, t, d] -> [n, len(modes) * d]`.

    The kinds are those of sentence-transformers (`modules/pooling.py`; 6.2.0), side by side in the
    order of `modes`: `cls` (the first token), `max`, `mean`, `mean_sqrt_len_tokens` (the sum over
    the root of the length), `weightedmean` (the k-th token counts k times), `lasttoken`. Padding
    never counts. Where a `pooling_mask` is given, its tokens alone do; they keep their weights.
    """

    modes: tuple[str, ...]

    def setup(self) -> None:
        for mode in self.modes:
            choose("pooling", mode, POOLINGS)
        self.modes = tuple(self.modes)

    def call(self, inputs, attention_mask=None, pooling_mask=None):
        places = ops.arange(1, ops.shape(inputs)[1] + 1, dtype="int32")[None]
        if attention_mask is None:
            kept = ops.ones_like(inputs[..., :1])
        else:
            first = ops.argmax(ops.cast(attention_mask, "int32"), axis=1)
            places = places - ops.cast(first, "int32")[:, None]
            kept = ops.cast(attention_mask, inputs.dtype)[..., None]
        if pooling_mask is not None:
            kept = ops.cast(pooling_mask, inputs.dtype)[..., None]
        weights = ops.cast(places, inputs.dtype)[..., None]
        pooled = [POOLINGS[mode](inputs, kept, weights) for mode in self.modes]
        return ops.concatenate(pooled, axis=-1)

    def compute_output_shape(self, input_shape: Shape, *_: Any, **__: Any) -> Shape:
        return (input_shape[0], len(self.modes) * input_shape[-1])


@register
class FirstValues(Layer):
    """The first values of vectors: `[n, d] -> [n, min(size, d)]`."""

    size: int

    def call(self, inputs):
        return inputs[..., : self.size]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], min(self.size, input_shape[-1]))


@register
class UnitNorm(Layer):
    """Vectors divided by their length; any shape, kept. A vector of zeros stays one."""

    def call(self, inputs):
        wide = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        length = ops.sqrt(ops.sum(wide * wide, axis=-1, keepdims=True))
        return ops.cast(wide / ops.maximum(length, 1e-12), inputs.dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape
