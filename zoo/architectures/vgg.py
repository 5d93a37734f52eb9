"""VGG: stacks of 3x3 convolutions, halved by maxima, and a wide head.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
arXiv:1409.1556. The reference is timm (`timm/models/vgg.py`; 1.0.31), whose names the layers have:
its head's two dense maps are convolutions, so that images of other sizes go through it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from zoo.architectures.base import Architecture, Feature, Graph, LayerGroups
from zoo.errors import ConfigError
from zoo.formats.vgg import FORMATS
from zoo.layers.activation import Activation, activation
from zoo.layers.base import Layer, Shape, register
from zoo.layers.convolution import Conv2D
from zoo.layers.head import classifier, image_input
from zoo.layers.normalization import norm_type
from zoo.layers.pooling import MaxPool2D
from zoo.typed import Channels, Count, Rate, Size

HALVE = "M"  # in `cfg`: a maximum over 2x2
WINDOW, HIDDEN = 7, 4096  # of the first map of the head, which was dense over 7x7


@dataclass(frozen=True, kw_only=True)
class VGGConfig:
    """Options of the family, in timm's terms.

    Attributes:
        cfg: from the input on, the channels of each convolution, or `M`: half the size.
        num_classes, in_chans: 0 classes is no head.
        global_pool: see `GlobalPool2D`.
        mlp_ratio: width inside the head over 4096.
        act_layer, norm_layer: layers by name; None is no norm.
        drop_rate: dropout in the head and before the classes.
    """

    cfg: tuple[Size | str, ...] = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")
    num_classes: Count = 1000
    in_chans: Channels = 3
    global_pool: str = "avg"
    mlp_ratio: float = 1.0
    act_layer: str = "relu"
    norm_layer: str | None = None
    drop_rate: Rate = 0.0

    def __post_init__(self) -> None:
        activation(self.act_layer)
        if self.norm_layer is not None:
            norm_type(self.norm_layer)
        if others := [step for step in self.cfg if isinstance(step, str) and step != HALVE]:
            raise ConfigError(f"cfg has {others[0]!r}; channels and {HALVE!r} were expected.")
        if not self.cfg or self.cfg[0] == HALVE:
            raise ConfigError("cfg begins with the channels of a convolution.")


# ---------------------------------------------------------------- head


@register
class AtLeast(Layer):
    """Means over bins, so that a map has `size` rows and columns at least.

    `[n, h, w, c] -> [n, max(h, size), max(w, size), c]`. The bins are those of PyTorch's
    `adaptive_avg_pool2d`: the i-th of k goes from `floor(i h / k)` to `ceil((i + 1) h / k)`.
    """

    size: int

    def call(self, inputs):
        height, width = ops.shape(inputs)[1], ops.shape(inputs)[2]
        rows, columns = (self._bins(edge, inputs.dtype) for edge in (height, width))
        return ops.einsum("nhwc,yh,xw->nyxc", inputs, rows, columns)

    def _bins(self, edge: Any, dtype: Any) -> Any:
        """Shares of the rows in each bin, `[max(edge, size), edge]`."""
        count = ops.maximum(edge, self.size)
        bins, places = ops.arange(count)[:, None], ops.arange(edge)[None]
        first, last = bins * edge // count, ((bins + 1) * edge + count - 1) // count
        within = ops.logical_and(places >= first, places < last)
        return ops.cast(within, dtype) / ops.cast(last - first, dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        n, *edges, c = input_shape
        return (n, *(None if edge is None else max(edge, self.size) for edge in edges), c)


def _hidden(config: VGGConfig, x: Any) -> Any:
    """The maps before the classes: `[n, h, w, c] -> [n, h', w', 4096]`."""
    if None in x.shape or min(x.shape[1:3]) < WINDOW:
        x = AtLeast(WINDOW, name="pre_logits.pool")(x)
    inner = int(HIDDEN * config.mlp_ratio)
    for name, width, window in (("fc1", inner, WINDOW), ("fc2", HIDDEN, 1)):
        x = Conv2D(width, window, pad=0, use_bias=True, name=f"pre_logits.{name}")(x)
        x = Activation(config.act_layer, name=f"pre_logits.act{name[-1]}")(x)
        if name == "fc1":
            x = keras.layers.Dropout(config.drop_rate, name="pre_logits.drop")(x)
    return x


# ---------------------------------------------------------------- network


def build(config: VGGConfig, input_size: tuple[int | None, int | None] = (None, None)) -> Graph:
    """The network's graph: features, the maps of the head, classes."""
    inputs = x = image_input(input_size, config.in_chans)
    features: list[tuple[Feature, Any]] = []
    number, stride = 0, 1
    for step in config.cfg:
        if step == HALVE:
            features.append((_feature(number - 1, x, stride), x))
            x = MaxPool2D(2, 2, 0, name=f"features.{number}")(x)
            number, stride = number + 1, 2 * stride
            continue
        x = Conv2D(int(step), 3, use_bias=True, name=f"features.{number}")(x)
        if config.norm_layer is not None:
            number += 1
            x = norm_type(config.norm_layer)(name=f"features.{number}")(x)
        x = Activation(config.act_layer, name=f"features.{number + 1}")(x)
        number += 2
    features.append((_feature(number - 1, x, stride), x))
    x = _hidden(config, x)
    outputs = classifier(
        x, config.num_classes, pool=config.global_pool, drop_rate=config.drop_rate, prefix="head."
    )
    return Graph(inputs=inputs, outputs=outputs, features=tuple(features))


def _feature(number: int, x: Any, stride: int) -> Feature:
    return Feature(name=f"features.{number}", channels=x.shape[-1], reduction=stride)


# ---------------------------------------------------------------- registration

FAMILY = Architecture(
    name="vgg",
    config=VGGConfig,
    build=build,
    formats=FORMATS,
    heads=("head.fc",),
    embedding="head.global_pool",
    first_conv=lambda config: "features.0",
    groups=LayerGroups(patterns=(r"features\.(\d+)\.",)),
)
