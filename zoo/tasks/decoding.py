"""Models that read a sequence piece by piece: what they keep of it goes in, and comes out anew.

A model's decoding graph is a second functional graph over the same layers. Those that are
`DecodingLayer`s get the places of the tokens and their caches; all others are called as ever.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.layers.building import run_through
from zoo.layers.decoding import DecodingLayer, ends
from zoo.tasks.graphs import graph_function, remembered, wants_jit

_LEAST = 64  # tokens of the smallest caches


def decoding_graph(model: keras.Model, *, every: bool) -> keras.Model:
    """A model from the next tokens and a cache to outputs and the next cache.

    It takes `inputs`, which are the model's first, `places` and `mask`, `[n, t]` each, and `cache`,
    whose entries have the names of the layers. The model's other inputs keep their defaults.

    Args:
        every: whether outputs are those of all tokens, `[n, t, ...]`, or of each sequence's last
            one alone, `[n, 1, ...]`.
    """
    first = next(iter(model.input.values())) if isinstance(model.input, dict) else model.inputs[0]
    layers = [layer for layer in model.layers if isinstance(layer, DecodingLayer)]
    specs = {layer.name: dict(layer.cache_spec(None, None)) for layer in layers}
    last = [name for name, spec in specs.items() if spec][-1]
    tokens = keras.Input(first.shape[1:], dtype=first.dtype, name="inputs")
    places, mask = (keras.Input((None,), dtype="int32", name=name) for name in ("places", "mask"))
    cache = {name: _inputs(name, spec) for name, spec in specs.items() if spec}
    kept: dict[str, Any] = {}

    def call(layer: Any, *args: Any, **options: Any) -> Any:
        if not isinstance(layer, DecodingLayer):
            return layer(*args, **options)
        options["places"] = places
        if layer.name not in cache:
            return layer(*args, **options)
        options |= {"mask": mask, "cache": cache[layer.name]}
        x, kept[layer.name] = _Cached(layer)(*args, **options)
        if layer.name == last and not every:  # nothing after it looks at other tokens
            x = ops.take_along_axis(x, ends(places, mask)[0][..., None], axis=1)
        return x

    outputs = run_through(model, [tokens if x is first else None for x in model.inputs], call)
    inputs = {"inputs": tokens, "places": places, "mask": mask, "cache": cache}
    return keras.Model(inputs, {"outputs": outputs, "cache": kept})


class _Cached(DecodingLayer):
    """A layer with its cache. Keras counts what a layer gives by its first call, without one."""

    def __init__(self, layer: DecodingLayer) -> None:
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        self.layer = layer
        self.built = True

    def call(self, inputs, **options):
        return self.layer(inputs, **options)

    def compute_output_spec(self, inputs: Any, *_: Any, **options: Any) -> Any:
        return self.layer.compute_output_spec(inputs, **options)


def _inputs(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        key: keras.Input(batch_shape=t.shape, dtype=t.dtype, name=f"{name}.{key}")
        for key, t in spec.items()
    }


class Decoder:
    """Sequences of one batch on their way through a model.

    Args:
        model: of which at least one layer keeps something; see `DecodingLayer`.
        count: of the sequences.
        length: tokens that the longest one will have.
        most: tokens that the model has places for; None: any number.
        every: see `decoding_graph`.
    """

    def __init__(
        self,
        model: keras.Model,
        count: int,
        length: int = 1,
        *,
        most: int | None = None,
        every: bool = False,
    ) -> None:
        jit = wants_jit(model)
        self._read, self._step = remembered(
            model, ("decoding", jit, every), lambda: _compile(model, jit, every)
        )
        # the next power of two: few lengths, each of which is compiled once
        size = max(_LEAST, 1 << (length - 1).bit_length())
        size = max(length, size if most is None else min(size, most))
        specs = {
            layer.name: layer.cache_spec(count, size)
            for layer in model.layers
            if isinstance(layer, DecodingLayer)
        }
        self._cache = {
            name: {key: ops.zeros(t.shape, t.dtype) for key, t in spec.items()}
            for name, spec in specs.items()
            if spec
        }
        self._places = np.full((count, 1), -1, np.int32)

    def read(self, inputs: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """Go on with the next tokens.

        Args:
            inputs: as the model's first, `[n, t, ...]`.
            mask: which of them count, `[n, t]`; padding may stand before and after them. None: all.

        Returns:
            The model's outputs for all these tokens, or for the last one of each sequence.
        """
        mask = np.ones(inputs.shape[:2], np.int32) if mask is None else np.asarray(mask, np.int32)
        places = self._places + np.cumsum(mask, axis=1, dtype=np.int32)
        self._places = places[:, -1:]
        run = self._step if inputs.shape[1] == 1 else self._read
        outputs, self._cache = run(inputs, np.maximum(places, 0), mask, self._cache)
        return np.asarray(outputs, np.result_type(outputs.dtype.as_numpy_dtype, np.float32))


def _compile(model: keras.Model, jit: bool, every: bool) -> tuple[Any, Any]:
    """How any number of tokens is read, and how one more is: traced once each, or compiled."""
    graph = decoding_graph(model, every=every)

    def run(inputs, places, mask, cache):
        given = {"inputs": inputs, "places": places, "mask": mask, "cache": cache}
        found = graph(given, training=False)
        return found["outputs"] if every else found["outputs"][:, 0], found["cache"]

    any_length, one = (_signature(graph, steps) for steps in (None, 1))
    step = graph_function(run, jit=jit, signature=None if jit else one)
    return graph_function(run, signature=any_length), step


def _signature(graph: keras.Model, steps: int | None) -> list[Any]:
    import tensorflow as tf

    inputs = dict(graph.input)
    cache = inputs.pop("cache")
    tokens = [tf.TensorSpec((None, steps, *t.shape[2:]), t.dtype) for t in inputs.values()]
    return [*tokens, keras.tree.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), cache)]
