"""Convolutions with PyTorch's padding: explicit, symmetric, the same for every input size."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.layers.base import LayerMixin, Shape, register
from zoo.layers.kernels.convolution import conv2d


def same_padding(kernel_size: int, stride: int = 1, dilation: int = 1) -> int:
    """Zeros on each side that keep the size at stride 1, as the reference counts them."""
    return ((stride - 1) + dilation * (kernel_size - 1)) // 2


@register
class Conv2D(LayerMixin, keras.layers.Conv2D):
    """2-D convolution, channels last, square kernel, zeros of equal width on all four sides.

    Takes `[n, h, w, c]`, gives `[n, h', w', filters]` with
    `h' = (h + 2 * pad - dilation * (kernel_size - 1) - 1) // stride + 1`.

    Args:
        pad: zeros on each side; None is `same_padding(kernel_size, stride, dilation)`.
        standardize: epsilon of weight standardisation (Qiao et al., arXiv:1903.10520): each
            filter is shifted and scaled to zero mean and unit variance at every call; None is off.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        *,
        strides: int = 1,
        dilation_rate: int = 1,
        groups: int = 1,
        pad: int | None = None,
        use_bias: bool = False,
        standardize: float | None = None,
        kernel_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        kernel_size, strides, dilation_rate = map(_one, (kernel_size, strides, dilation_rate))
        if pad is None:
            pad = same_padding(kernel_size, strides, dilation_rate)
        super().__init__(
            filters,
            kernel_size,
            groups=groups,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer or he_fan_out(),
            **{**kwargs, "padding": "valid", "data_format": "channels_last"},
        )
        # set afterwards: Keras refuses a dilation beside a stride
        self.strides = (strides, strides)
        self.dilation_rate = (dilation_rate, dilation_rate)
        self.pad = pad
        self.standardize = standardize

    def convolution_op(self, inputs, kernel):
        if self.standardize is not None:
            kernel = standardized(kernel, self.standardize)
        stride, dilation = self.strides[0], self.dilation_rate[0]
        extent = dilation * (self.kernel_size[0] - 1)
        padding = "valid"
        if stride == 1 and self.pad * 2 == extent:
            padding = "same"  # the same zeros, with no padded copy of the input
        elif self.pad:
            side = (self.pad, self.pad)
            inputs = ops.pad(inputs, ((0, 0), side, side, (0, 0)))
        return conv2d(inputs, kernel, strides=stride, padding=padding, dilation=dilation)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        extent = self.dilation_rate[0] * (self.kernel_size[0] - 1) + 1
        height, width = (
            None if size is None else (size + 2 * self.pad - extent) // self.strides[0] + 1
            for size in input_shape[1:3]
        )
        return (input_shape[0], height, width, self.filters)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"pad": self.pad, "standardize": self.standardize}


@register
class Conv1D(LayerMixin, keras.layers.Conv1D):
    """1-D convolution, channels last, zeros of equal width at both ends.

    Takes `[n, t, c]`, gives `[n, t', filters]` with
    `t' = (t + 2 * pad - dilation * (kernel_size - 1) - 1) // stride + 1`.

    Args:
        pad: zeros at each end; None is `same_padding(kernel_size, stride, dilation)`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        *,
        strides: int = 1,
        dilation_rate: int = 1,
        pad: int | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        kernel_size, strides, dilation_rate = map(_one, (kernel_size, strides, dilation_rate))
        if pad is None:
            pad = same_padding(kernel_size, strides, dilation_rate)
        super().__init__(
            filters,
            kernel_size,
            strides=strides,
            dilation_rate=dilation_rate,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer or he_fan_out(),
            **{**kwargs, "padding": "valid", "data_format": "channels_last"},
        )
        self.pad = pad

    def call(self, inputs):
        if self.pad:
            inputs = ops.pad(inputs, ((0, 0), (self.pad, self.pad), (0, 0)))
        return super().call(inputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        size = input_shape[1]
        if size is not None:
            extent = self.dilation_rate[0] * (self.kernel_size[0] - 1) + 1
            size = (size + 2 * self.pad - extent) // self.strides[0] + 1
        return (input_shape[0], size, self.filters)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"pad": self.pad}


def _one(value: Any) -> int:
    """The side of a square given as a number or, in a saved config, as a pair."""
    if isinstance(value, (list, tuple)):
        first, *rest = value
        if any(other != first for other in rest):
            raise ValueError(f"Only square kernels and strides are supported; got {value}.")
        return first
    return value


def standardized(kernel, epsilon: float):
    """A kernel `[kh, kw, c, filters]` with zero mean and unit variance over each filter."""
    kernel = ops.convert_to_tensor(kernel)
    mean, variance = ops.moments(kernel, axes=(0, 1, 2), keepdims=True)
    return (kernel - mean) * ops.rsqrt(variance + epsilon)


def he_fan_out() -> keras.initializers.Initializer:
    """He et al.'s initialisation by outputs, as the reference trains residual networks from."""
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def adapt_channels(kernel: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A first kernel `[kh, kw, c, filters]` for another number of input channels, as timm does.

    One channel takes the sum over the kernel's; more repeat them, cut, and scaled by their ratio.

    Args:
        shape: wanted; only its channels are looked at.
    """
    if kernel.shape[2] == shape[2]:
        return kernel
    kernel = np.asarray(kernel, np.result_type(kernel, np.float32))
    have, want = kernel.shape[2], shape[2]
    if want == 1:
        return kernel.sum(axis=2, keepdims=True)
    return np.tile(kernel, (1, 1, -(-want // have), 1))[:, :, :want] * kernel.dtype.type(
        have / want
    )
