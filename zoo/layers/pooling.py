"""Pooling as the reference does it: explicit padding, ceil mode, blur."""

from __future__ import annotations

from collections.abc import Callable
from math import comb
from typing import Any

import numpy as np
from keras import ops

from zoo.layers.base import Layer, Shape, choose, register
from zoo.layers.kernels.pooling import max_pool


def _pooled(size: int | None, window: int, stride: int, pad: int) -> int | None:
    return None if size is None else (size + 2 * pad - window) // stride + 1


@register
class MaxPool2D(Layer):
    """Maximum over windows; the border counts as minus infinity, or as zero with `zero_pad`.

    `[n, h, w, c] -> [n, (h + 2 pad - window) // stride + 1, ..., c]`.
    """

    window: int
    stride: int
    pad: int
    zero_pad: bool = False

    def call(self, inputs):
        pad = self.pad
        if self.zero_pad:
            side, pad = (pad, pad), 0
            inputs = ops.pad(inputs, ((0, 0), side, side, (0, 0)))
        return max_pool(inputs, self.window, self.stride, pad)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        n, height, width, c = input_shape
        args = (self.window, self.stride, self.pad)
        return (n, _pooled(height, *args), _pooled(width, *args), c)


@register
class AvgPool2D(Layer):
    """Mean over windows: `[n, h, w, c] -> [n, h', w', c]`.

    Args:
        window, stride: in pixels.
        pad: zeros before and after each side; they count in the mean.
        ceil_mode: the last rows and columns that fill no window make one of their own, over
            their real pixels alone (windows that do not overlap, no padding).
    """

    window: int
    stride: int
    pad: tuple[int, ...] = (0, 0)
    ceil_mode: bool = False

    def setup(self) -> None:
        self.pad = tuple(self.pad)
        if self.ceil_mode and (self.window != self.stride or any(self.pad)):
            raise ValueError("ceil_mode takes windows that do not overlap, and no padding.")

    def call(self, inputs):
        if any(self.pad):
            inputs = ops.pad(inputs, ((0, 0), self.pad, self.pad, (0, 0)))
        # TensorFlow's "same" pads after the end and leaves that padding out of the mean
        padding = "same" if self.ceil_mode else "valid"
        return ops.average_pool(inputs, self.window, self.stride, padding, "channels_last")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        extra = self.stride - 1 if self.ceil_mode else sum(self.pad)
        n, *sizes, c = input_shape
        sizes = [None if s is None else (s + extra - self.window) // self.stride + 1 for s in sizes]
        return (n, *sizes, c)


@register
class BlurPool2D(Layer):
    """Binomial 3x3 low-pass filter, then subsampling (Zhang, arXiv:1904.11486); reflected border.

    `[n, h, w, c] -> [n, ceil(h / stride), ceil(w / stride), c]`.
    """

    stride: int = 2

    def setup(self) -> None:
        row = np.array([comb(2, k) for k in range(3)], np.float64) / 4
        self.filter = row[:, None] * row[None, :]

    def call(self, inputs):
        inputs = ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        channels = inputs.shape[-1]
        kernel = np.repeat(self.filter[:, :, None, None], channels, axis=2)
        kernel = ops.convert_to_tensor(kernel, inputs.dtype)
        return ops.depthwise_conv(inputs, kernel, self.stride, "valid", "channels_last")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        n, height, width, c = input_shape
        args = (3, self.stride, 1)
        return (n, _pooled(height, *args), _pooled(width, *args), c)


def _average_and_maximum(x):
    return ops.mean(x, axis=(1, 2)), ops.max(x, axis=(1, 2))


_GLOBAL = {
    "avg": lambda x: ops.mean(x, axis=(1, 2)),
    "max": lambda x: ops.max(x, axis=(1, 2)),
    "avgmax": lambda x: 0.5 * sum(_average_and_maximum(x)),
    "catavgmax": lambda x: ops.concatenate(_average_and_maximum(x), axis=-1),
}


@register
class GlobalPool2D(Layer):
    """One vector from a map: `[n, h, w, c] -> [n, c]` (`2 c` for `catavgmax`).

    Args:
        pool: `avg`, `max`, `avgmax` (their mean) or `catavgmax` (both, side by side).

    Raises:
        ConfigError: no such pooling.
    """

    pool: str = "avg"
    pools_map = True

    def setup(self) -> None:
        self._call = choose("global_pool", self.pool, _GLOBAL)

    def call(self, inputs):
        return self._call(inputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        channels = input_shape[-1] * (2 if self.pool == "catavgmax" else 1)
        return (input_shape[0], channels)


_ANTI_ALIAS: dict[str | None, Callable[..., Layer] | None] = {
    "blur": BlurPool2D,
    "avg": lambda stride, **kwargs: AvgPool2D(stride, stride, **kwargs),
    None: None,
}


def anti_alias(kind: str | None, stride: int, **kwargs: Any) -> Layer | None:
    """The downsampling layer of that name in configs: `blur`, `avg`, or None for none.

    Raises:
        ConfigError: no such layer.
    """
    make = choose("aa_layer", kind, _ANTI_ALIAS)
    return None if make is None else make(stride, **kwargs)
