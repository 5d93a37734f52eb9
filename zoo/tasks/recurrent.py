"""Models with recurrent layers, run piece by piece: the state goes in, and comes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from zoo.layers.recurrent import Recurrent
from zoo.tasks.graphs import part, remembered

States = Sequence[tuple[Any, ...]]  # of each recurrent layer: `[chains, n, width]`, one or two


def stateful(model: keras.Model) -> Any:
    """The model's pass as a compiled function of `(inputs, states) -> (outputs, states)`.

    It is traced once for single steps, and once for all other lengths; batches have any size. The
    model is a chain, in which each recurrent layer stands once.
    """

    def make() -> Any:
        steps, step = _compile(model, None), _compile(model, 1)
        return lambda x, states: (step if x.shape[1] == 1 else steps)(x, states)

    return remembered(model, "stateful", make)


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
    parts = [part(*pair) for pair in zip(starts, ends, strict=True)]
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
        for layer, after_it, state in zip(layers, parts[1:], states, strict=True):
            x, state = layer(x, initial_state=state, return_state=True)
            x = after_it(x)
            after.append(state)
        return x, after

    return run


def _specs(layer: Recurrent) -> tuple[Any, ...]:
    import tensorflow as tf

    _, states = layer.compute_output_shape((None, None, 1), return_state=True)
    return tuple(tf.TensorSpec(shape, layer.compute_dtype) for shape in states)
