"""Models with recurrent layers, run piece by piece: the state goes in, and comes out."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import keras

from zoo.layers.recurrent import Recurrent

# Compiled passes with state in and out, apart from the models as in `zoo.tasks.base`.
_PASSES: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

States = Sequence[tuple[Any, ...]]  # of each recurrent layer: `[chains, n, width]`, one or two


def stateful(model: keras.Model) -> Any:
    """The model's pass as a compiled function of `(inputs, states) -> (outputs, states)`.

    It is traced once for single steps, and once for all other lengths; batches have any size. The
    model is a chain, in which each recurrent layer stands once.
    """
    if model not in _PASSES:
        steps, step = _compile(model, None), _compile(model, 1)
        _PASSES[model] = lambda x, states: (step if x.shape[1] == 1 else steps)(x, states)
    return _PASSES[model]


def empty_states(model: keras.Model, count: int) -> States:
    """The states at the beginning of `count` sequences."""

    def zeros(layer: Recurrent) -> tuple[Any, ...]:
        _, states = layer.compute_output_shape((count, 1, 1), return_state=True)
        return tuple(keras.ops.zeros(shape, layer.compute_dtype) for shape in states)

    return [zeros(layer) for layer in _recurrent(model)]


def _recurrent(model: keras.Model) -> list[Recurrent]:
    return [layer for layer in model.layers if isinstance(layer, Recurrent)]


def _compile(model: keras.Model, steps: int | None) -> Any:
    import tensorflow as tf

    layers = _recurrent(model)
    starts = [model.inputs[0], *(layer.output for layer in layers)]
    ends = [*(layer.input for layer in layers), model.outputs[0]]
    # parts of the graph, and not the model: the cache is keyed by it and must not keep it alive
    parts = [_part(*pair) for pair in zip(starts, ends, strict=True)]
    given = model.inputs[0]

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, steps, *given.shape[2:]), given.dtype),
            [_specs(layer) for layer in layers],
        ],
        autograph=False,
    )
    def run(inputs, states):
        x, after = parts[0](inputs), []
        for layer, part, state in zip(layers, parts[1:], states, strict=True):
            x, state = layer(x, initial_state=state, return_state=True)
            x = part(x)
            after.append(state)
        return x, after

    return run


def _part(start: Any, end: Any) -> Any:
    if start is end:
        return lambda x: x
    part = keras.Model(start, end)
    return lambda x: part(x, training=False)


def _specs(layer: Recurrent) -> tuple[Any, ...]:
    import tensorflow as tf

    _, states = layer.compute_output_shape((None, None, 1), return_state=True)
    return tuple(tf.TensorSpec(shape, layer.compute_dtype) for shape in states)
