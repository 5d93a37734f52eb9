"""Dense layers over the last axis."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from zoo.layers.base import LayerMixin, Shape, register


def small_normal() -> keras.initializers.Initializer:
    """Truncated normal with deviation 0.02, which transformers train from. One per weight: an
    initialiser gives the same numbers every time."""
    return keras.initializers.TruncatedNormal(stddev=0.02)


@register
class Dense(LayerMixin, keras.layers.Dense):
    """A linear map of the last axis: `[..., inputs] -> [..., units]`.

    Kernels start at `small_normal`, biases at zero.
    """

    def __init__(self, units: int, *, kernel_initializer: Any = None, **kwargs: Any) -> None:
        super().__init__(units, kernel_initializer=kernel_initializer or small_normal(), **kwargs)

    def call(self, inputs, training=None):
        if len(inputs.shape) == 2:
            return super().call(inputs)
        # as one matrix: with more axes TensorFlow takes a batched product, which fuses nothing
        rows = super().call(ops.reshape(inputs, (-1, inputs.shape[-1])))
        return ops.reshape(rows, (*ops.shape(inputs)[:-1], self.units))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], self.units)
