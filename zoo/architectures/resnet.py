"""ResNet and its kin: plain, wide, ResNeXt, "c/d/e/s/t" stems, SE, ECA, blur, SK, ResNeSt, RS.

He et al., "Deep Residual Learning", arXiv:1512.03385; ResNeXt, arXiv:1611.05431; the stem and
shortcut variants, arXiv:1812.01187; SENet, arXiv:1709.01507; ECA-Net, arXiv:1910.03151; blur pools,
arXiv:1904.11486; selective kernels, arXiv:1903.06586; ResNeSt, arXiv:2004.08955; ResNet-RS,
arXiv:2103.07579. The reference is timm's modules `resnet`, `sknet` and `resnest`, whose names the
layers have: a block is the layer `layer2.0`, its weights are `layer2.0.conv1.kernel` and so on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras

from zoo.architectures.base import Architecture, Feature, Graph, LayerGroups
from zoo.formats.resnet import FORMATS
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
from zoo.layers.channel_attention import SelectiveKernel, SplitAttention, channel_attention
from zoo.layers.convolution import Conv2D, same_padding
from zoo.layers.drop import DropPath, drop_path_rates
from zoo.layers.head import classifier, image_input
from zoo.layers.normalization import norm_type
from zoo.layers.pooling import AvgPool2D, MaxPool2D, anti_alias
from zoo.typed import Channels, Count, Depth, Rate, Size

Layers = list[Step]


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """Options of the family, in timm's terms.

    Attributes:
        block: one of `BRANCHES`, or one per stage.
        layers: blocks per stage.
        channels: inner width of the blocks per stage; bottlenecks give four times as many.
        num_classes, in_chans: 0 classes is no head.
        output_stride: 32, 16 or 8: late stages are dilated instead of strided.
        global_pool: see `GlobalPool2D`.
        cardinality, base_width: groups of the 3x3 convolutions and width of each, per 64.
        stem_width, stem_type: `""` is one 7x7, `deep` three 3x3, `deep_tiered` with rising width.
        replace_stem_pool: a strided 3x3 convolution in place of the max pool.
        block_reduce_first: divides the width of each block's first convolution.
        down_kernel_size, avg_down: the projection of the shortcut.
        act_layer, norm_layer, aa_layer, attn_layer, attn_args: layers by name.
        sk_kwargs: options of `SelectiveKernel`.
        radix, avd, avd_first: ResNeSt's split attention, and its 3x3 average pools.
        widths: output channels of single convolutions, by name, where a pruned network departs.
        drop_rate, drop_path_rate: dropout before the head, stochastic depth of the last block.
    """

    block: str | tuple[str, ...] = "bottleneck"
    layers: tuple[Depth, ...] = (3, 4, 6, 3)
    channels: tuple[Size, ...] = (64, 128, 256, 512)
    num_classes: Count = 1000
    in_chans: Channels = 3
    output_stride: Size = 32
    global_pool: str = "avg"
    cardinality: Size = 1
    base_width: Size = 64
    stem_width: Size = 64
    stem_type: str = ""
    replace_stem_pool: bool = False
    block_reduce_first: Size = 1
    down_kernel_size: Size = 1
    avg_down: bool = False
    act_layer: str = "relu"
    norm_layer: str = "batchnorm2d"
    aa_layer: str | None = None
    attn_layer: str | None = None
    attn_args: Mapping[str, Any] = field(default_factory=dict)
    sk_kwargs: Mapping[str, Any] = field(default_factory=dict)
    radix: Count = 0
    avd: bool = False
    avd_first: bool = False
    widths: Mapping[str, Size] = field(default_factory=dict)
    drop_rate: Rate = 0.0
    drop_path_rate: Rate = 0.0


# ---------------------------------------------------------------- blocks


@register
class ResNetBlock(Layer):
    """A residual block: `act(branch(x) + shortcut(x))`, `[n, h, w, c] -> [n, h', w', c']`.

    Args:
        branch: one of `BRANCHES`.
        filters: inner width; `outputs` channels come out.
        strides, dilation, first_dilation: of the 3x3 convolutions.
        groups, width: groups of the 3x3, and its channels.
        first_width: channels of the first convolution.
        shortcut: `identity`, `conv` (1x1 or `down_kernel_size`) or `avg` (mean, then 1x1).
        options: the config's remaining fields that blocks read.
        widths: output channels of this block's convolutions where they depart.
        drop_path: probability to drop the branch in training.
    """

    branch: str
    filters: int
    outputs: int
    strides: int
    dilation: int
    first_dilation: int
    shortcut: str
    options: Mapping[str, Any]
    widths: Mapping[str, int]
    drop_path: float

    def setup(self) -> None:
        self.options = dict(self.options)
        self.widths = dict(self.widths)
        self.act = activation(self.options["act_layer"])
        self.branch_layers = [*BRANCHES[self.branch](self), *self._branch_end()]
        self.shortcut_layers = SHORTCUTS[self.shortcut](self)

    # the pieces that branches and shortcuts are made of

    def conv(self, name: str, filters: int, kernel_size: int = 1, **kwargs: Any) -> Conv2D:
        filters = self.widths.get(name, filters)
        return self.child(Conv2D, filters, kernel_size, name=name, **kwargs)

    def norm(self, name: str, **kwargs: Any) -> keras.layers.Layer:
        return self.child(norm_type(self.options["norm_layer"]), name=name, **kwargs)

    def last_norm(self, name: str) -> keras.layers.Layer:
        """The branch starts as zero in fresh networks (arXiv:1706.02677, section 5.1)."""
        return self.norm(name, gamma_initializer="zeros")

    @property
    def width(self) -> int:
        options = self.options
        return int(self.filters * (options["base_width"] / 64)) * options["cardinality"]

    def strided(self, name: str, filters: int, **kwargs: Any) -> tuple[Conv2D, Layer | None]:
        """The block's 3x3 with its stride, and the anti-aliasing layer that may take it over."""
        kind = self.options["aa_layer"]
        blurred = kind if self.strides == 2 or self.first_dilation != self.dilation else None
        conv = self.conv(
            name,
            filters,
            3,
            strides=1 if blurred else self.strides,
            pad=self.first_dilation,
            dilation_rate=self.first_dilation,
            **kwargs,
        )
        return conv, anti_alias(blurred, self.strides, name="aa", dtype=self.dtype_policy)

    def _branch_end(self) -> Layers:
        name, options = self.options["attn_layer"], self.options["attn_args"]
        attention = channel_attention(
            name, self.outputs, options, name="se", dtype=self.dtype_policy
        )
        drop = self.child(DropPath, self.drop_path, name="drop_path") if self.drop_path else None
        return [attention, drop]

    def build(self, input_shape: Shape) -> None:
        build_chain(input_shape, *self.shortcut_layers)
        build_chain(input_shape, *self.branch_layers)

    def call(self, inputs):
        branch = run_chain(inputs, *self.branch_layers)
        return self.act(branch + run_chain(inputs, *self.shortcut_layers))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return chain_shape(input_shape, *self.branch_layers)


def _basic(block: ResNetBlock) -> Layers:
    first = block.filters // block.options["block_reduce_first"]
    conv1, aa = block.strided("conv1", first)
    conv2 = block.conv("conv2", block.outputs, 3, pad=block.dilation, dilation_rate=block.dilation)
    return [conv1, block.norm("bn1"), block.act, aa, conv2, block.last_norm("bn2")]


def _bottleneck(block: ResNetBlock) -> Layers:
    first = block.width // block.options["block_reduce_first"]
    conv2, aa = block.strided("conv2", block.width, groups=block.options["cardinality"])
    return [
        *(block.conv("conv1", first), block.norm("bn1"), block.act),
        *(conv2, block.norm("bn2"), block.act, aa),
        *(block.conv("conv3", block.outputs), block.last_norm("bn3")),
    ]


def _selective_kernel(block: ResNetBlock, name: str, filters: int, groups: int) -> Layer:
    options = block.options["sk_kwargs"]
    return block.child(SelectiveKernel, filters, block.strides, groups, name=name, **options)


def _selective_kernel_basic(block: ResNetBlock) -> Layers:
    first = block.filters // block.options["block_reduce_first"]
    conv2 = block.conv("conv2.conv", block.outputs, 3)
    return [_selective_kernel(block, "conv1", first, 1), conv2, block.last_norm("conv2.bn")]


def _selective_kernel_bottleneck(block: ResNetBlock) -> Layers:
    first = block.width // block.options["block_reduce_first"]
    groups = block.options["cardinality"]
    return [
        *(block.conv("conv1.conv", first), block.norm("conv1.bn"), block.act),
        _selective_kernel(block, "conv2", block.width, groups),
        *(block.conv("conv3.conv", block.outputs), block.last_norm("conv3.bn")),
    ]


def _resnest(block: ResNetBlock) -> Layers:
    options = block.options
    pooled = options["avd"] and block.strides > 1
    pool_name = "avd_first" if options["avd_first"] else "avd_last"
    pool = block.child(AvgPool2D, 3, block.strides, pad=(1, 1), name=pool_name) if pooled else None
    conv2 = block.child(
        SplitAttention,
        block.width,
        1 if pooled else block.strides,
        options["cardinality"],
        options["radix"],
        dilation_rate=block.first_dilation,
        name="conv2",
    )
    return [
        *(block.conv("conv1", block.width), block.norm("bn1"), block.act),
        *((pool, conv2) if options["avd_first"] else (conv2, pool)),
        *(block.conv("conv3", block.outputs), block.last_norm("bn3")),
    ]


BRANCHES = {
    "basic": _basic,
    "bottleneck": _bottleneck,
    "sk_basic": _selective_kernel_basic,
    "sk_bottleneck": _selective_kernel_bottleneck,
    "resnest": _resnest,
}
EXPANSION = {"basic": 1, "bottleneck": 4, "sk_basic": 1, "sk_bottleneck": 4, "resnest": 4}


def _conv_shortcut(block: ResNetBlock) -> Layers:
    strided = block.strides != 1 or block.dilation != 1
    kernel = block.options["down_kernel_size"] if strided else 1
    dilation = block.first_dilation if kernel > 1 else 1
    conv = block.conv(
        "downsample.0",
        block.outputs,
        kernel,
        strides=block.strides,
        pad=same_padding(kernel, block.strides, dilation),
        dilation_rate=dilation,
    )
    return [conv, block.norm("downsample.1")]


def _avg_shortcut(block: ResNetBlock) -> Layers:
    pool = None
    if block.dilation > 1:
        pool = block.child(AvgPool2D, 2, 1, pad=(0, 1), name="downsample.0")
    elif block.strides > 1:
        pool = block.child(AvgPool2D, 2, block.strides, ceil_mode=True, name="downsample.0")
    return [pool, block.conv("downsample.1", block.outputs), block.norm("downsample.2")]


SHORTCUTS = {"identity": lambda block: [], "conv": _conv_shortcut, "avg": _avg_shortcut}


# ---------------------------------------------------------------- network

# fields of the config that blocks read as they are
_BLOCK_OPTIONS = (
    *("cardinality", "base_width", "block_reduce_first", "down_kernel_size", "sk_kwargs"),
    *("act_layer", "norm_layer", "aa_layer", "attn_layer", "attn_args"),
    *("radix", "avd", "avd_first"),
)


def build(config: ResNetConfig, input_size: tuple[int | None, int | None] = (None, None)) -> Graph:
    """The network's graph: stem, stages, pooled head."""
    inputs = image_input(input_size, config.in_chans)
    x, channels = _stem(config, inputs)
    features = [(Feature(name="act1", channels=channels, reduction=2), x)]
    x = run_chain(x, *_stem_pool(config, channels))
    for stage, blocks in enumerate(_stages(config, channels), 1):
        x = run_chain(x, *blocks)
        reduction = min(2 ** (stage + 1), config.output_stride)
        feature = Feature(name=f"layer{stage}", channels=x.shape[-1], reduction=reduction)
        features.append((feature, x))
    outputs = classifier(x, config.num_classes, pool=config.global_pool, drop_rate=config.drop_rate)
    return Graph(inputs=inputs, outputs=outputs, features=tuple(features))


def _stem(config: ResNetConfig, inputs) -> tuple[Any, int]:
    """Stride 2: one 7x7 convolution, or three 3x3. Gives the map and its channels."""
    norm = norm_type(config.norm_layer)

    def conv(name: str, filters: int, kernel_size: int = 3, strides: int = 1) -> Conv2D:
        filters = config.widths.get(name, filters)
        return Conv2D(filters, kernel_size, strides=strides, name=name)

    def act(name: str) -> Activation:
        return Activation(config.act_layer, name=name)

    if "deep" in config.stem_type:
        width = config.stem_width
        first = 3 * (width // 4) if "tiered" in config.stem_type else width
        channels = 2 * width
        layers = [
            *(conv("conv1.0", first, strides=2), norm(name="conv1.1"), act("conv1.2")),
            *(conv("conv1.3", width), norm(name="conv1.4"), act("conv1.5")),
            conv("conv1.6", channels),
        ]
    else:
        channels = 64
        layers = [conv("conv1", channels, 7, strides=2)]
    return run_chain(inputs, *layers, norm(name="bn1"), act("act1")), channels


def _stem_pool(config: ResNetConfig, channels: int) -> Layers:
    """Stride 2 again: max pool, a blurred one, a mean, or a convolution."""
    aa = config.aa_layer
    if config.replace_stem_pool:
        layers = [
            Conv2D(channels, 3, strides=1 if aa else 2, pad=1, name="maxpool.0"),
            anti_alias(aa, 2, name="maxpool.1"),
            norm_type(config.norm_layer)(name="maxpool.2" if aa else "maxpool.1"),
        ]
        return [*layers, Activation(config.act_layer, name="maxpool.act")]
    if aa == "avg":
        return [anti_alias(aa, 2, name="maxpool")]
    if aa:
        return [MaxPool2D(3, 1, 1, name="maxpool.0"), anti_alias(aa, 2, name="maxpool.1")]
    return [MaxPool2D(3, 2, 1, name="maxpool")]


def _stages(config: ResNetConfig, channels: int) -> Iterator[list[ResNetBlock]]:
    """The blocks of each stage; a stage past the output stride is dilated instead of strided."""
    options = {name: getattr(config, name) for name in _BLOCK_OPTIONS}
    rates = drop_path_rates(config.drop_path_rate, config.layers)
    net_stride, dilation, previous = 4, 1, 1
    for stage, (branch, width) in enumerate(zip(_branches(config), config.channels, strict=True)):
        strides = 1 if stage == 0 else 2
        if net_stride >= config.output_stride:
            dilation, strides = dilation * strides, 1
        net_stride *= strides
        outputs = width * EXPANSION[branch]
        blocks = []
        for index, rate in enumerate(rates[stage]):
            first = index == 0
            name = f"layer{stage + 1}.{index}"
            projects = first and (strides != 1 or channels != outputs)
            shortcut = ("avg" if config.avg_down else "conv") if projects else "identity"
            blocks.append(
                ResNetBlock(
                    branch,
                    width,
                    outputs,
                    strides=strides if first else 1,
                    dilation=dilation,
                    first_dilation=previous,
                    shortcut=shortcut,
                    options=options,
                    widths=_inside(config.widths, name),
                    drop_path=rate,
                    name=name,
                )
            )
            previous = dilation
        channels = outputs
        yield blocks


def _branches(config: ResNetConfig) -> tuple[str, ...]:
    branches = (
        (config.block,) * len(config.layers) if isinstance(config.block, str) else config.block
    )
    for branch in branches:
        choose("block", branch, BRANCHES)
    return branches


def _inside(widths: Mapping[str, int], block: str) -> dict[str, int]:
    prefix = block + "."
    return {k.removeprefix(prefix): v for k, v in widths.items() if k.startswith(prefix)}


# ---------------------------------------------------------------- registration

FAMILY = Architecture(
    name="resnet",
    config=ResNetConfig,
    build=build,
    formats=FORMATS,
    heads=("fc",),
    embedding="global_pool",
    first_conv=lambda config: "conv1.0" if "deep" in config.stem_type else "conv1",
    groups=LayerGroups(patterns=(r"conv1\.|bn1\.|maxpool\.", r"layer(\d+)\.(\d+)\.")),
)
