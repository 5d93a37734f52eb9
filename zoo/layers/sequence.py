"""Layers over sequences `[n, t, d]`: which steps count, one vector of all steps, one scale."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from zoo.layers.base import Layer, Shape, choose, register


@register
class StepMask(Layer):
    """Which steps are no padding: tokens `[n, t]`, or numbers `[n, t, d]`, to bool `[n, t]`.

    Args:
        padding: the token, or the number that all places of a step have.
    """

    padding: float

    def build(self, input_shape: Shape) -> None:
        self.built = True

    def call(self, inputs):
        differs = ops.not_equal(inputs, ops.cast(self.padding, inputs.dtype))
        return differs if len(inputs.shape) == 2 else ops.any(differs, axis=-1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape[:2]

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor(inputs.shape[:2], dtype="bool")


def _last(x, mask, directions):
    """Each direction where it has read all: the forward one at the last step, the other at the
    first."""
    width = x.shape[-1] // directions
    steps = ops.shape(x)[1] if mask is None else ops.sum(ops.cast(mask, "int32"), axis=1)
    place = ops.broadcast_to(ops.cast(steps, "int32") - 1, ops.shape(x)[:1])
    forward = ops.take_along_axis(x[..., :width], ops.reshape(place, (-1, 1, 1)), axis=1)[:, 0]
    return forward if directions == 1 else ops.concatenate([forward, x[:, 0, width:]], axis=-1)


def _mean(x, mask, directions):
    if mask is None:
        return ops.mean(x, axis=1)
    kept = ops.expand_dims(ops.cast(mask, x.dtype), -1)
    return ops.sum(x * kept, axis=1) / ops.maximum(ops.sum(kept, axis=1), 1)


def _max(x, mask, directions):
    if mask is not None:
        x = ops.where(ops.expand_dims(mask, -1), x, ops.full_like(x, -float("inf")))
    return ops.max(x, axis=1)


POOLS = {"last": _last, "mean": _mean, "max": _max}


@register
class SequencePool(Layer):
    """All steps to one vector: `[n, t, d] -> [n, d]`.

    Args:
        kind: `last` (what each direction has when it has read all), `mean` or `max`.
        directions: of the recurrent layer before it, side by side in `d`.
    """

    kind: str
    directions: int = 1

    def setup(self) -> None:
        choose("pool", self.kind, POOLS)

    def build(self, input_shape: Shape) -> None:
        self.built = True

    def call(self, inputs, step_mask=None):
        return POOLS[self.kind](inputs, step_mask, self.directions)

    def compute_output_shape(self, input_shape: Shape, *_: Any) -> Shape:
        return (input_shape[0], input_shape[-1])

    def compute_output_spec(self, inputs: Any, step_mask: Any = None) -> Any:
        shape = self.compute_output_shape(inputs.shape)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)


@register
class SeriesScale(Layer):
    """The mean and standard deviation of each series, over its steps.

    Takes `[n, t, d]`, gives the standardised series, and `[n, 2, d]`: mean, and standard deviation
    (Kim et al., Reversible Instance Normalization, ICLR 2022, without its weights).

    Args:
        epsilon: added to the variance.
    """

    epsilon: float = 1e-5

    def build(self, input_shape: Shape) -> None:
        self.built = True

    def call(self, inputs, step_mask=None):
        kept = ops.ones_like(inputs[..., :1])
        if step_mask is not None:
            kept = ops.expand_dims(ops.cast(step_mask, inputs.dtype), -1)
        count = ops.maximum(ops.sum(kept, axis=1, keepdims=True), 1)
        mean = ops.sum(inputs * kept, axis=1, keepdims=True) / count
        centred = (inputs - mean) * kept
        variance = ops.sum(centred**2, axis=1, keepdims=True) / count
        deviation = ops.sqrt(variance + self.epsilon)
        return centred / deviation, ops.concatenate([mean, deviation], axis=1)

    def compute_output_shape(self, input_shape: Shape, *_: Any) -> tuple[Shape, Shape]:
        return input_shape, (input_shape[0], 2, input_shape[-1])

    def compute_output_spec(self, inputs: Any, step_mask: Any = None) -> Any:
        shapes = self.compute_output_shape(inputs.shape)
        return tuple(keras.KerasTensor(shape, dtype=self.compute_dtype) for shape in shapes)


@register
class SeriesUnscale(Layer):
    """Back to the scale of the first feature: `[n, horizon, q]` and `[n, 2, d]` to the former."""

    def build(self, inputs_shape: Shape, scale_shape: Shape) -> None:
        self.built = True

    def call(self, inputs, scale):
        return inputs * scale[:, 1:2, :1] + scale[:, :1, :1]

    def compute_output_shape(self, inputs_shape: Shape, scale_shape: Shape) -> Shape:
        return inputs_shape

    def compute_output_spec(self, inputs: Any, scale: Any) -> Any:
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
