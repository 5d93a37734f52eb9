"""Layers that read a sequence piece by piece: what they keep of it goes in, and comes out anew.

`layer(x, places=None, mask=None, cache=None)` gives `x`; with a cache, a dict of tensors, it gives
`(x, cache)`. The new cache is an output and nothing is changed in place, so that one layer works in
a graph of Keras, in a loop of the back end, and in an engine that holds states.

    places: int `[n, t]`, the place of each token of `x` in its own text. Those of one call follow
        on each other, and on those before. None: they begin at 0.
    mask: `[n, t]`, which tokens of `x` count; the others are padding, before or after them.
    cache: what `cache_spec` says, zeros at first. All its tensors have the batch as first axis.

Keys and values are kept in a ring, in which the token at place p has slot p % size. Which tokens a
ring holds follows from the last place alone. One as long as the text holds all of it; a shorter one
holds what a sliding window sees (Beltagy et al., arXiv:2004.05150).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from zoo.layers.base import Layer

Cache = Mapping[str, Any]


class DecodingLayer(Layer):
    """A layer that minds where its tokens stand, or keeps something of them."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # the reader of `.keras` files of before the layers had caches, whose graphs name it so
        for name in {"attention_mask", "step_mask"} & kwargs.keys():
            kwargs["mask"] = kwargs.pop(name)
        return keras.layers.Layer.__call__(self, *args, **kwargs)

    def cache_spec(self, n: int | None, length: int | None) -> Cache:
        """What the layer keeps of `n` texts of up to `length` tokens: `KerasTensor`s by name.

        Nothing: it takes `places` alone, and gives no cache.
        """
        return {}

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        """Masks are arguments: none is attached to what comes out."""

    def decode(
        self, x: Any, places: Any = None, mask: Any = None, cache: Any = None, **options: Any
    ) -> tuple[Any, Any]:
        """`(x, cache)` as of a call, for layers around this one: None where no cache is given."""
        found = self(x, places=places, mask=mask, cache=cache, **options)
        return (found, None) if cache is None else found

    def compute_output_spec(self, inputs: Any, *_: Any, cache: Any = None, **__: Any) -> Any:
        shape = self.compute_output_shape(inputs.shape)
        spec = keras.KerasTensor(shape, dtype=self.compute_dtype)
        if cache is None:
            return spec
        return spec, keras.tree.map_structure(lambda t: keras.KerasTensor(t.shape, t.dtype), cache)


# ---------------------------------------------------------------- rings of keys and values


def ends(places: Any, mask: Any) -> tuple[Any, Any]:
    """Index and place of the last token that counts, `[n, 1]` each; 0 and -1 where none does."""
    counted = ops.where(ops.cast(mask, "bool"), places, -1)
    index = ops.cast(ops.argmax(counted, axis=1), "int32")
    return index[:, None], ops.max(counted, axis=1, keepdims=True)


def remember(
    cache: Cache, new: Cache, places: Any, mask: Any = None, *, moves: bool = False
) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """Tokens' keys, values and the like, with those of the tokens before them.

    Args:
        cache: rings `[n, h, size, d]` by name.
        new: of the tokens at `places`, `[n, h, t, d]` each, by the same names.
        moves: whether the rings are shorter than the text, so that what earlier ones of these
            tokens see may not be in them any more after the last.

    Returns:
        What the tokens may read, `[n, h, s, d]` each; the place in the text of each of these, below
        0 where there is none, `[n, s]`; the new cache.
    """
    size = ops.shape(next(iter(cache.values())))[2]
    mask = ops.ones_like(places) if mask is None else ops.cast(mask, "int32")
    index, last = ends(places, mask)
    before, held = last - ops.sum(mask, axis=1, keepdims=True), _held(size, last)
    source = ops.where(held > before, index + held - last, -1)
    kept = {name: _stored(ring, new[name], source) for name, ring in cache.items()}
    if not moves or new[next(iter(new))].shape[2] == 1:
        return kept, held, kept
    both = {name: ops.concatenate([ring, new[name]], axis=2) for name, ring in cache.items()}
    own = ops.where(mask > 0, places, -1)
    return both, ops.concatenate([_held(size, before), own], axis=1), kept


def _held(size: Any, last: Any) -> Any:
    """The place of the token in each slot of a ring, `[n, size]`, by the last place `[n, 1]`."""
    return last - (last - ops.arange(size, dtype="int32")[None]) % size


def _stored(ring: Any, new: Any, source: Any) -> Any:
    """A ring with new tokens in its slots, by their index there, `[n, size]`; below 0: none."""
    n, t = ops.shape(new)[0], ops.shape(new)[2]
    if new.shape[2] == 1:
        return _put(ring, new, source)
    rows = ops.reshape(ops.transpose(new, (0, 2, 1, 3)), (n * t, new.shape[1], new.shape[3]))
    places = ops.maximum(source, 0) + ops.arange(n, dtype="int32")[:, None] * t
    new = ops.transpose(ops.take(rows, places, axis=0), (0, 2, 1, 3))
    return ops.where((source >= 0)[:, None, :, None], new, ring)


def _put(ring: Any, new: Any, source: Any) -> Any:
    """The same for one token of each text, in half of the time: the rest is copied as it is."""
    n, h, size, d = ops.shape(ring)
    slot, counts = ops.cast(ops.argmax(source, axis=1), "int32"), ops.max(source, axis=1) >= 0
    at = ops.arange(n * h, dtype="int32") * size + ops.repeat(slot, h)
    flat = ops.reshape(ring, (n * h * size, d))
    counted = ops.repeat(counts, h)[:, None]
    value = ops.where(counted, ops.reshape(new, (n * h, d)), ops.take(flat, at, axis=0))
    return ops.reshape(ops.scatter_update(flat, at[:, None], value), (n, h, size, d))
