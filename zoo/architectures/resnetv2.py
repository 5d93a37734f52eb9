"""ResNet with pre-activation, and Big Transfer (BiT): norms before convolutions.

He et al., "Identity Mappings in Deep Residual Networks", arXiv:1603.05027; BiT, arXiv:1912.11370,
with weight standardisation (arXiv:1903.10520) and group normalisation. The reference is timm's
module `resnetv2`, whose names the layers have: a block is the layer `stages.1.blocks.0`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

from zoo.architectures.base import Architecture, Feature, Graph, LayerGroups
from zoo.formats.resnetv2 import FORMATS
from zoo.layers.activation import Activation, activation
from zoo.layers.base import (
    Layer,
    Shape,
    Step,
    build_chain,
    chain_shape,
    choose,
    register,
    run_chain,
)
from zoo.layers.channel_attention import make_divisible
from zoo.layers.convolution import Conv2D
from zoo.layers.drop import DropPath, drop_path_rates
from zoo.layers.head import classifier, image_input
from zoo.layers.normalization import brings_activation, norm_type
from zoo.layers.pooling import AvgPool2D, MaxPool2D
from zoo.typed import Channels, Count, Depth, Rate, Size

Layers = list[Step]


@dataclass(frozen=True, kw_only=True)
class ResNetV2Config:
    """Options of the family, in timm's terms.

    Attributes:
        layers: blocks per stage.
        channels: output channels per stage, before `width_factor`.
        num_classes, in_chans: 0 classes is no head.
        global_pool: see `GlobalPool2D`.
        output_stride: 32, 16 or 8: late stages are dilated instead of strided.
        width_factor: multiplies every width.
        stem_chs: width of the stem.
        stem_type: `""` (7x7), `deep`, `tiered`; with `fixed` the stem's max pool sees a border of
            zeros, as BiT was trained.
        avg_down: mean, then 1x1, in the shortcut.
        preact: norms before convolutions; False is the order of ResNet v1.
        basic: two 3x3 convolutions a block in place of the bottleneck.
        bottle_ratio: inner width over output width.
        act_layer, norm_layer: layers by name.
        conv_layer, conv_eps: `std` is weight-standardised with that epsilon; `plain` is not.
        drop_rate, drop_path_rate: dropout before the head, stochastic depth of the last block.
    """

    layers: tuple[Depth, ...] = (3, 4, 6, 3)
    channels: tuple[Size, ...] = (256, 512, 1024, 2048)
    num_classes: Count = 1000
    in_chans: Channels = 3
    global_pool: str = "avg"
    output_stride: Size = 32
    width_factor: Size = 1
    stem_chs: Size = 64
    stem_type: str = ""
    avg_down: bool = False
    preact: bool = True
    basic: bool = False
    bottle_ratio: float = 0.25
    act_layer: str = "relu"
    norm_layer: str = "groupnorm"
    conv_layer: str = "std"
    conv_eps: float = 1e-6
    drop_rate: Rate = 0.0
    drop_path_rate: Rate = 0.0


# ---------------------------------------------------------------- blocks


@register
class ResNetV2Block(Layer):
    """A residual block, `[n, h, w, c] -> [n, h', w', c']`.

    With pre-activation: `y = act(norm(x))`, then `branch(y) + shortcut(y)`, where an identity
    shortcut takes `x` itself. Without: `act(branch(x) + shortcut(x))`.

    Args:
        kind: one of `BRANCHES`.
        inner, outputs: channels inside and after the block.
        strides, dilation, first_dilation: of the 3x3 convolutions.
        shortcut: `identity`, `conv` (1x1) or `avg` (mean, then 1x1).
        norm, act: layers by name.
        standardize: epsilon of weight standardisation, or None.
        drop_path: probability to drop the branch in training.
    """

    kind: str
    inner: int
    outputs: int
    strides: int
    dilation: int
    first_dilation: int
    shortcut: str
    norm: str
    act: str
    standardize: float | None
    drop_path: float

    def setup(self) -> None:
        preact = self.kind != "postact"
        self.before = self.norm_act("1") if preact else []
        self.after = [] if preact else [activation(self.act)]
        drop = self.child(DropPath, self.drop_path, name="drop_path") if self.drop_path else None
        self.branch_layers = [*BRANCHES[self.kind](self), drop]
        self.shortcut_layers = self._shortcut(with_norm=not preact)

    def conv(self, name: str, filters: int, kernel_size: int = 1, **kwargs: Any) -> Conv2D:
        return self.child(
            Conv2D, filters, kernel_size, standardize=self.standardize, name=name, **kwargs
        )

    def norm_act(self, index: str) -> Layers:
        norm = self.child(norm_type(self.norm), name=f"norm{index}")
        if brings_activation(self.norm):
            return [norm]
        return [norm, activation(self.act)]

    def norm_alone(self, name: str) -> keras.layers.Layer:
        options = {"activate": False} if brings_activation(self.norm) else {}
        return self.child(norm_type(self.norm), name=name, **options)

    def strided(self, name: str, filters: int) -> Conv2D:
        dilation = self.first_dilation
        return self.conv(name, filters, 3, strides=self.strides, dilation_rate=dilation)

    def _shortcut(self, *, with_norm: bool) -> Layers:
        if self.shortcut == "identity":
            return []
        pool, strides = None, self.strides
        if self.shortcut == "avg":
            strides = 1
            if self.dilation > 1:
                pool = self.child(AvgPool2D, 2, 1, pad=(0, 1), name="downsample.pool")
            elif self.strides > 1:
                pool = self.child(AvgPool2D, 2, 2, ceil_mode=True, name="downsample.pool")
        norm = self.norm_alone("downsample.norm") if with_norm else None
        return [pool, self.conv("downsample.conv", self.outputs, strides=strides), norm]

    def build(self, input_shape: Shape) -> None:
        shape = build_chain(input_shape, *self.before)
        build_chain(shape, *self.shortcut_layers)
        build_chain(build_chain(shape, *self.branch_layers), *self.after)

    def call(self, inputs):
        x = run_chain(inputs, *self.before)
        shortcut = run_chain(x, *self.shortcut_layers) if self.shortcut_layers else inputs
        return run_chain(run_chain(x, *self.branch_layers) + shortcut, *self.after)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return chain_shape(input_shape, *self.branch_layers)


def _basic(block: ResNetV2Block) -> Layers:
    conv2 = block.conv("conv2", block.outputs, 3, dilation_rate=block.dilation)
    return [block.strided("conv1", block.inner), *block.norm_act("2"), conv2]


def _bottleneck(block: ResNetV2Block) -> Layers:
    return [
        *(block.conv("conv1", block.inner), *block.norm_act("2")),
        *(block.strided("conv2", block.inner), *block.norm_act("3")),
        block.conv("conv3", block.outputs),
    ]


def _postact(block: ResNetV2Block) -> Layers:
    return [
        *(block.conv("conv1", block.inner), *block.norm_act("1")),
        *(block.strided("conv2", block.inner), *block.norm_act("2")),
        *(block.conv("conv3", block.outputs), block.norm_alone("norm3")),
    ]


BRANCHES = {"basic": _basic, "bottleneck": _bottleneck, "postact": _postact}


# ---------------------------------------------------------------- network


def build(
    config: ResNetV2Config, input_size: tuple[int | None, int | None] = (None, None)
) -> Graph:
    """The network's graph: stem, stages, last norm, pooled head."""
    inputs = image_input(input_size, config.in_chans)
    stem, channels = _stem(config)
    x = run_chain(inputs, *stem)
    # the reference taps the stem at its convolution, or at its norm where it has one
    tap = "stem.conv3" if _is_deep(config) else "stem.conv"
    tap = tap if config.preact else "stem.norm"
    features = [(Feature(name=tap, channels=channels, reduction=2), x)]
    x = run_chain(x, _stem_pool(config))
    for stage, blocks in enumerate(_stages(config, channels)):
        x = run_chain(x, *blocks)
        reduction = min(2 ** (stage + 2), config.output_stride)
        feature = Feature(name=f"stages.{stage}", channels=x.shape[-1], reduction=reduction)
        features.append((feature, x))
    if config.preact:
        x = run_chain(x, *_norm_act(config, "norm"))
    outputs = classifier(
        x,
        config.num_classes,
        pool=config.global_pool,
        drop_rate=config.drop_rate,
        prefix="head.",
    )
    return Graph(inputs=inputs, outputs=outputs, features=tuple(features))


def _is_deep(config: ResNetV2Config) -> bool:
    return "deep" in config.stem_type or "tiered" in config.stem_type


def _norm_act(config: ResNetV2Config, name: str) -> Layers:
    norm = norm_type(config.norm_layer)(name=name)
    if brings_activation(config.norm_layer):
        return [norm]
    return [norm, Activation(config.act_layer, name=f"{name}.act")]


def _stem(config: ResNetV2Config) -> tuple[Layers, int]:
    """Stride 2: one 7x7 convolution, or three 3x3. Gives its layers and channels."""
    width = make_divisible(config.stem_chs * config.width_factor)
    standardize = _standardize(config)

    def conv(name: str, filters: int, kernel_size: int = 3, strides: int = 1) -> Conv2D:
        return Conv2D(
            filters, kernel_size, strides=strides, standardize=standardize, name=f"stem.{name}"
        )

    if not _is_deep(config):
        layers: Layers = [conv("conv", width, 7, 2)]
        return layers + ([] if config.preact else _norm_act(config, "stem.norm")), width
    first = 3 * width // 8 if "tiered" in config.stem_type else width // 2
    layers = [
        *(conv("conv1", first, strides=2), *_norm_act(config, "stem.norm1")),
        *(conv("conv2", width // 2), *_norm_act(config, "stem.norm2")),
        conv("conv3", width),
    ]
    return layers + ([] if config.preact else _norm_act(config, "stem.norm3")), width


def _stem_pool(config: ResNetV2Config) -> MaxPool2D:
    return MaxPool2D(3, 2, 1, zero_pad="fixed" in config.stem_type, name="stem.pool")


def _standardize(config: ResNetV2Config) -> float | None:
    standardized = choose("conv_layer", config.conv_layer, {"std": True, "plain": False})
    return config.conv_eps if standardized else None


def _stages(config: ResNetV2Config, channels: int) -> Iterator[list[ResNetV2Block]]:
    """The blocks of each stage; a stage past the output stride is dilated instead of strided."""
    kind = ("basic" if config.basic else "bottleneck") if config.preact else "postact"
    rates = drop_path_rates(config.drop_path_rate, config.layers)
    net_stride, dilation = 4, 1
    for stage, width in enumerate(config.channels):
        strides = 1 if stage == 0 else 2
        if net_stride >= config.output_stride:
            dilation, strides = dilation * strides, 1
        net_stride *= strides
        outputs = make_divisible(width * config.width_factor)
        first_dilation = 1 if dilation in (1, 2) else 2
        # a basic block projects where the shape changes, a bottleneck at every stage's start
        projects = (
            not config.basic or strides != 1 or first_dilation != dilation or channels != outputs
        )
        blocks = []
        for index, rate in enumerate(rates[stage]):
            first = index == 0
            shortcut = ("avg" if config.avg_down else "conv") if first and projects else "identity"
            blocks.append(
                ResNetV2Block(
                    kind,
                    make_divisible(outputs * config.bottle_ratio),
                    outputs,
                    strides=strides if first else 1,
                    dilation=dilation,
                    first_dilation=first_dilation if first else dilation,
                    shortcut=shortcut,
                    norm=config.norm_layer,
                    act=config.act_layer,
                    standardize=_standardize(config),
                    drop_path=rate,
                    name=f"stages.{stage}.blocks.{index}",
                )
            )
        channels = outputs
        yield blocks


# ---------------------------------------------------------------- registration

FAMILY = Architecture(
    name="resnetv2",
    config=ResNetV2Config,
    build=build,
    formats=FORMATS,
    heads=("head.fc",),
    embedding="head.global_pool",
    first_conv=lambda config: "stem.conv1" if _is_deep(config) else "stem.conv",
    groups=LayerGroups(
        patterns=(r"stem\.", r"stages\.(\d+)\.blocks\.(\d+)\."),
        end=r"norm\.",
    ),
)
