"""Text models that read from left to right, token after token: what was read is kept.

The keys and values of all tokens stand in arrays of one length, so that every step runs the same
compiled function.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from zoo.tasks.graphs import graph_function, part, remembered, wants_jit

_LEAST = 64  # places of the shortest arrays


class Decoder:
    """Texts of one batch on their way through a model.

    Args:
        model: its blocks have a method `extend`; see `Attention.extend`.
        ids: the beginnings of the texts, int `[n, t]`, padded on the left.
        mask: which tokens count, `[n, t]`.
        length: tokens that the longest text will have.
        most: tokens that the model has places for.
    """

    def __init__(
        self, model: keras.Model, ids: np.ndarray, mask: np.ndarray, length: int, most: int
    ) -> None:
        import tensorflow as tf

        jit = wants_jit(model)
        passes = remembered(model, ("decoding", jit), lambda: _compile(model, jit))
        self._begin, self._go_on = passes
        count, read = ids.shape
        size = max(min(_places(length), most), read)
        self._readable = np.zeros((count, size), bool)
        self._readable[:, :read] = mask
        places = np.maximum(np.cumsum(mask, axis=1) - 1, 0).astype(np.int32)
        self._places = places + model.get_layer("embeddings").first_place
        shapes = [_cache_shape(layer, count, size) for layer in _blocks(model)]
        dtype = model.compute_dtype
        self._caches = [(tf.zeros(shape, dtype), tf.zeros(shape, dtype)) for shape in shapes]
        self._read = 0
        self.logits = self._extend(ids.astype(np.int32), self._places)

    def step(self, tokens: Sequence[int]) -> np.ndarray:
        """Add one token to each text. Returns the logits of the next, `[n, vocabulary]`."""
        self._places = self._places[:, -1:] + 1
        self._readable[:, self._read] = True
        self.logits = self._extend(np.array(tokens, np.int32)[:, None], self._places)
        return self.logits

    def _extend(self, ids: np.ndarray, places: np.ndarray) -> np.ndarray:
        run = self._go_on if self._read else self._begin
        start = np.int32(self._read)
        logits, self._caches = run(ids, places, start, self._readable, self._caches)
        self._read += ids.shape[1]
        wide = np.result_type(logits.dtype.as_numpy_dtype, np.float32)
        return np.asarray(logits, wide)


def _places(length: int) -> int:
    """The next power of two: few lengths, each of which is compiled once."""
    return max(_LEAST, 1 << (length - 1).bit_length())


def _blocks(model: keras.Model) -> list[Any]:
    return [layer for layer in model.layers if hasattr(layer, "extend")]


def _cache_shape(block: Any, count: int, length: int) -> tuple[int, ...]:
    return (count, block.attn.groups, length, block.attn.size)


def _compile(model: keras.Model, jit: bool) -> Any:
    """How a prompt is read, whose length may be any, and how one token is added."""
    import tensorflow as tf

    blocks, embeddings = _blocks(model), model.get_layer("embeddings")
    before = part(embeddings.output, blocks[0].input)
    after = part(blocks[-1].output, model.output)

    def run(ids, places, start, readable, caches):
        x = before(embeddings(ids, position_ids=places))
        count, size = tf.shape(ids)[1], tf.shape(readable)[1]
        past = tf.range(size)[None, :] <= start + tf.range(count)[:, None]
        mask = tf.logical_and(readable[:, None, None, :], past[None, None])
        kept = []
        for block, cache in zip(blocks, caches, strict=True):
            x, cache = block.extend(x, cache, start, mask)
            kept.append(cache)
        return after(x[:, -1:])[:, 0], kept

    return graph_function(run, jit=False), graph_function(run, jit=jit)
