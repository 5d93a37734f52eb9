"""Attention over channels: squeeze-excite, ECA, selective kernels, split attention."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from zoo.errors import ConfigError
from zoo.layers.base import Layer, Shape, build_chain, chain_shape, register
from zoo.layers.convolution import Conv1D, Conv2D
from zoo.layers.normalization import BatchNorm


def make_divisible(
    value: float, divisor: int = 8, minimum: int | None = None, round_limit: float = 0.9
) -> int:
    """The multiple of `divisor` nearest to `value`, not below `round_limit * value`."""
    rounded = max(minimum or divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < round_limit * value else rounded


def _squeezed(inputs):
    """Mean over the map: `[n, h, w, c] -> [n, 1, 1, c]`."""
    return ops.mean(inputs, axis=(1, 2), keepdims=True)


def _pooled_shape(shape: Shape) -> Shape:
    return (shape[0], 1, 1, shape[-1])


@register
class SqueezeExcite(Layer):
    """Squeeze-and-excitation (Hu et al., arXiv:1709.01507): `[n, h, w, c] -> [n, h, w, c]`.

    Args:
        rd_ratio: reduced channels over channels, before rounding up to a multiple of
            `rd_divisor`.
    """

    rd_ratio: float = 1 / 16
    rd_divisor: int = 8

    def build(self, input_shape: Shape) -> None:
        channels = input_shape[-1]
        reduced = make_divisible(channels * self.rd_ratio, self.rd_divisor, round_limit=0.0)
        self.fc1 = self.child(Conv2D, reduced, 1, use_bias=True, name="fc1")
        self.fc2 = self.child(Conv2D, channels, 1, use_bias=True, name="fc2")
        build_chain(_pooled_shape(input_shape), self.fc1, self.fc2)

    def call(self, inputs):
        return inputs * ops.sigmoid(self.fc2(ops.relu(self.fc1(_squeezed(inputs)))))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


@register
class EfficientChannelAttention(Layer):
    """ECA (Wang et al., arXiv:1910.03151): `[n, h, w, c] -> [n, h, w, c]`.

    A 1-D convolution runs along the channels of the pooled map; its width grows with the
    logarithm of the channels (the paper's section 3.2, gamma 2 and beta 1).

    Args:
        channels: the count that sets the kernel's width; pruned networks keep that of the
            network they were cut from.
    """

    channels: int

    def setup(self) -> None:
        width = int(abs(math.log2(self.channels) + 1) / 2)
        self.kernel_size = max(width if width % 2 else width + 1, 3)
        start = keras.initializers.GlorotUniform()
        self.conv = self.child(
            Conv1D, 1, self.kernel_size, use_bias=False, kernel_initializer=start, name="conv"
        )

    def build(self, input_shape: Shape) -> None:
        self.conv.build((input_shape[0], input_shape[-1], 1))

    def call(self, inputs):
        pooled = ops.mean(inputs, axis=(1, 2))[:, :, None]
        gate = ops.sigmoid(self.conv(pooled))
        return inputs * ops.transpose(gate, (0, 2, 1))[:, None]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


def channel_attention(
    kind: str | None, channels: int, options: Mapping[str, Any], **kwargs: Any
) -> Layer | None:
    """The attention layer of that name in configs: `se`, `eca`, or None for none.

    Args:
        channels: channels of the map it works on.
        options: `attn_args` of the config.

    Raises:
        ConfigError: no such attention, or an option that it does not take.
    """
    if kind is None:
        return None
    takes = {"se": {"rd_ratio", "rd_divisor"}, "eca": set()}
    if kind not in takes:
        raise ConfigError(f"attn_layer={kind!r} is not known; known are 'se', 'eca' and None.")
    if extra := set(options) - takes[kind]:
        raise ConfigError(
            f"attn_args has {', '.join(sorted(extra))}, which attn_layer={kind!r} does not take; "
            f"it takes {', '.join(sorted(takes[kind])) or 'none'}."
        )
    if kind == "se":
        return SqueezeExcite(**options, **kwargs)
    return EfficientChannelAttention(channels, **kwargs)


@register
class SelectiveKernel(Layer):
    """Selective kernels (Li et al., arXiv:1903.06586): a 3x3 and a dilated 3x3 path, mixed.

    `[n, h, w, c] -> [n, h', w', filters]`. Each path is convolution, norm and ReLU; a softmax
    over the paths, from the pooled sum, weighs them channel by channel.

    Args:
        split_input: each path takes half of the input's channels.
        rd_ratio, rd_divisor: width of the attention's bottleneck.
    """

    filters: int
    strides: int = 1
    groups: int = 1
    split_input: bool = True
    rd_ratio: float = 1 / 16
    rd_divisor: int = 8

    def setup(self) -> None:
        self.paths = [
            (
                self.child(
                    Conv2D,
                    self.filters,
                    3,
                    strides=self.strides,
                    groups=self.groups,
                    dilation_rate=dilation,
                    name=f"paths.{i}.conv",
                ),
                self.child(BatchNorm, name=f"paths.{i}.bn"),
            )
            for i, dilation in enumerate((1, 2))
        ]
        reduced = make_divisible(self.filters * self.rd_ratio, self.rd_divisor)
        self.fc_reduce = self.child(Conv2D, reduced, 1, name="attn.fc_reduce")
        self.bn = self.child(BatchNorm, name="attn.bn")
        self.fc_select = self.child(Conv2D, 2 * self.filters, 1, name="attn.fc_select")

    def build(self, input_shape: Shape) -> None:
        n, h, w, c = input_shape
        for conv, norm in self.paths:
            shape = build_chain((n, h, w, c // 2 if self.split_input else c), conv, norm)
        build_chain(_pooled_shape(shape), self.fc_reduce, self.bn, self.fc_select)

    def call(self, inputs):
        halves = ops.split(inputs, 2, axis=-1) if self.split_input else (inputs, inputs)
        maps = [
            ops.relu(norm(conv(half)))
            for half, (conv, norm) in zip(halves, self.paths, strict=True)
        ]
        logits = self.fc_select(ops.relu(self.bn(self.fc_reduce(_squeezed(maps[0] + maps[1])))))
        first, second = ops.split(logits, 2, axis=-1)
        weights = ops.softmax(ops.stack((first, second), axis=0), axis=0)
        return maps[0] * weights[0] + maps[1] * weights[1]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return chain_shape(input_shape, self.paths[0][0])


@register
class SplitAttention(Layer):
    """Split-attention convolution of ResNeSt (Zhang et al., arXiv:2004.08955, section 3).

    `[n, h, w, c] -> [n, h', w', filters]`: `radix` groups of maps from one convolution, weighed
    by a softmax over the radix (a sigmoid at radix 1).
    """

    filters: int
    strides: int = 1
    groups: int = 1
    radix: int = 2
    dilation_rate: int = 1
    rd_ratio: float = 0.25
    rd_divisor: int = 8

    def build(self, input_shape: Shape) -> None:
        width = input_shape[-1] * self.radix * self.rd_ratio
        reduced = make_divisible(width, self.rd_divisor, minimum=32)
        wide = self.filters * self.radix
        self.conv = self.child(
            Conv2D,
            wide,
            3,
            strides=self.strides,
            dilation_rate=self.dilation_rate,
            groups=self.groups * self.radix,
            pad=self.dilation_rate,
            name="conv",
        )
        self.bn0 = self.child(BatchNorm, name="bn0")
        self.fc1 = self.child(Conv2D, reduced, 1, groups=self.groups, use_bias=True, name="fc1")
        self.bn1 = self.child(BatchNorm, name="bn1")
        self.fc2 = self.child(Conv2D, wide, 1, groups=self.groups, use_bias=True, name="fc2")
        shape = build_chain(input_shape, self.conv, self.bn0)
        pooled = (shape[0], 1, 1, self.filters)
        build_chain(pooled, self.fc1, self.bn1, self.fc2)

    def call(self, inputs):
        x = ops.relu(self.bn0(self.conv(inputs)))
        parts = ops.split(x, self.radix, axis=-1)
        logits = self.fc2(ops.relu(self.bn1(self.fc1(_squeezed(sum(parts))))))
        if self.radix == 1:
            return x * ops.sigmoid(logits)
        # the reference orders the logits by group first, then radix
        logits = ops.reshape(logits, (-1, self.groups, self.radix, self.filters // self.groups))
        weights = ops.softmax(logits, axis=2)
        weights = [
            ops.reshape(weights[:, :, r], (-1, 1, 1, self.filters)) for r in range(self.radix)
        ]
        return sum(part * weight for part, weight in zip(parts, weights, strict=True))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        n, h, w, _ = self.conv.compute_output_shape(input_shape)
        return (n, h, w, self.filters)
