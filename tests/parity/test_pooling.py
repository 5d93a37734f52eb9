"""Max pooling and its gradient are PyTorch's, whatever the sizes, signs and ties."""

import numpy as np
import pytest
import tensorflow as tf
import torch

from zoo.layers.pooling import MaxPool2D

GEOMETRIES = [(3, 2, 1), (3, 1, 1), (5, 2, 2), (2, 2, 1), (4, 3, 2)]  # window, stride, padding
SIZES = [(8, 9), (7, 6), (5, 5), (2, 3), (13, 4)]
DTYPES = ["float64", "float32", "bfloat16", "float16"]


def _reference(x, upstream, geometry, dtype):
    x = torch.tensor(x).to(getattr(torch, dtype)).permute(0, 3, 1, 2).requires_grad_()
    outputs = torch.nn.functional.max_pool2d(x, *geometry)
    upstream = torch.tensor(upstream(outputs.permute(0, 2, 3, 1).shape)).permute(0, 3, 1, 2)
    outputs.backward(upstream.to(outputs.dtype))
    return [y.detach().double().permute(0, 2, 3, 1).numpy() for y in (outputs, x.grad)]


def _ours(x, upstream, geometry, dtype):
    layer, x = MaxPool2D(*geometry, dtype=dtype), tf.cast(x, dtype)

    def both(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x)
        return outputs, tape.gradient(outputs, x, tf.cast(upstream(outputs.shape), dtype))

    return [tf.cast(y, tf.float64).numpy() for y in both(x)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("values", ["below zero", "ties below zero", "of both signs"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_padded_max_pooling(geometry, values, dtype):
    for size in SIZES:
        rng = np.random.default_rng(0)
        shape = (2, *size, 3)
        x = {
            "below zero": rng.normal(size=shape) - 8,
            "ties below zero": rng.integers(-4, -1, shape).astype(float),
            "of both signs": rng.normal(size=shape),
        }[values]
        given = (x, _whole_numbers, geometry, dtype)
        for ours, expected in zip(_ours(*given), _reference(*given), strict=True):
            np.testing.assert_array_equal(ours, expected)


def _whole_numbers(shape):
    """What a gradient is given: no sum of them is rounded."""
    return np.random.default_rng(2).integers(-4, 5, tuple(shape)).astype(float)
