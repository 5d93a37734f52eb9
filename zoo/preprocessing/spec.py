"""What a model's inputs go through, as data: one frozen spec per kind of input."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from zoo.errors import ConfigError, did_you_mean
from zoo.typed import Channels, fits

if TYPE_CHECKING:
    import numpy as np

CropMode = Literal["center", "squash", "border"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
ChannelOrder = Literal["rgb", "bgr"]
CropRounding = Literal["even", "floor"]
Alpha = Literal["drop", "white"]


class Spec:
    """What the specs of all kinds of input can do.

    Attributes:
        kind: what a card's JSON calls this kind.
    """

    kind: ClassVar[str]

    @property
    def summary(self) -> str:
        """The model's input in a few words."""
        raise NotImplementedError

    def facts(self) -> Iterator[tuple[str, str]]:
        """Names and values for people, the input first."""
        yield "Input", self.summary

    def noise(self, rng: np.random.Generator) -> np.ndarray:
        """Two random inputs `[2, ...]` as a model takes them, after preprocessing."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class ImageSpec(Spec):
    """Evaluation preprocessing of images, in the terms of timm's `pretrained_cfg`.

    `crop_rounding`, `resize` and `alpha` say what other references do otherwise than timm.

    Attributes:
        input_size: height and width of the model's input, in pixels.
        channels: input channels.
        crop_pct: fraction of the resized image that the crop keeps; resize is to
            `floor(input_size / crop_pct)`.
        crop_mode: `center` (shorter edge to scale, centre crop, black where the crop is larger),
            `squash` (both edges to scale, centre crop), `border` (longest edge to scale, pad with
            the mean colour).
        interpolation: Pillow filter of the resize.
        mean, std: per channel in the order of `channel_order`, on values in 0..1.
        channel_order: `rgb` or `bgr`.
        test_input_size, test_crop_pct: the larger evaluation setting of the reference, used on
            request.
        fixed_input_size: the network is built for one size; for another it is built anew.
        crop_rounding: where the centre crop begins when the pixels that it leaves out, or adds,
            are odd in number. `even`: as torchvision, half a pixel of crop rounds to even and the
            odd pixel of padding goes to the end. `floor`: as transformers on Pillow, the odd pixel
            that is cut goes from the end and the odd pixel of padding to the beginning.
        resize: False leaves an image at its own size; the crop alone makes it fit.
        alpha: what becomes of transparency on the way to RGB: `drop` uncovers the colours below,
            as Pillow's `convert`; `white` lays the image on white, as transformers.

    Raises:
        ConfigError: a value that no image can be prepared with.
    """

    kind: ClassVar[str] = "image"

    input_size: tuple[int, int] = (224, 224)
    channels: Channels = 3
    crop_pct: float = 0.875
    crop_mode: CropMode = "center"
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    channel_order: ChannelOrder = "rgb"
    test_input_size: tuple[int, int] | None = None
    test_crop_pct: float | None = None
    fixed_input_size: bool = False
    crop_rounding: CropRounding = "even"
    resize: bool = True
    alpha: Alpha = "drop"

    def __post_init__(self) -> None:
        for name in ("input_size", "test_input_size", "mean", "std"):
            if isinstance(getattr(self, name), list):  # as JSON gives them
                object.__setattr__(self, name, tuple(getattr(self, name)))
        check_name("crop_mode", self.crop_mode, get_args(CropMode))
        check_name("interpolation", self.interpolation, get_args(Interpolation))
        check_name("channel_order", self.channel_order, get_args(ChannelOrder))
        check_name("crop_rounding", self.crop_rounding, get_args(CropRounding))
        check_name("alpha", self.alpha, get_args(Alpha))
        for name in ("input_size", "test_input_size"):
            _check_size(name, getattr(self, name))
        for name in ("crop_pct", "test_crop_pct"):
            _check_share(name, getattr(self, name))
        for name in ("mean", "std"):
            if not fits(getattr(self, name), tuple[float, ...]):
                raise ConfigError(f"{name} is {getattr(self, name)!r}; numbers were expected.")
        if not len(self.mean) == len(self.std) == self.channels > 0:
            raise ConfigError(
                f"mean has {len(self.mean)} values and std {len(self.std)}, for {self.channels} "
                "channels; one of each per channel was expected. `with_channels` derives them."
            )
        if 0 in self.std:
            raise ConfigError(f"std is {self.std}; normalisation divides by it.")
        for name, value in (("channel_order", "bgr"), ("alpha", "white")):
            if getattr(self, name) == value and self.channels != 3:
                raise ConfigError(f"{name} is {value!r} for {self.channels} channels, not 3.")

    def at_size(self, input_size: int | tuple[int, int]) -> ImageSpec:
        """The same preprocessing for another input size: an edge, or (height, width)."""
        edges = (input_size, input_size) if isinstance(input_size, int) else input_size
        return replace(self, input_size=(edges[0], edges[1]))

    def at_test_size(self) -> ImageSpec:
        """The reference's larger evaluation setting; the spec itself where there is none."""
        return replace(
            self,
            input_size=self.test_input_size or self.input_size,
            crop_pct=self.test_crop_pct or self.crop_pct,
        )

    def with_channels(self, channels: int) -> ImageSpec:
        """The same preprocessing for another number of channels.

        One channel takes the average of `mean` and of `std`; more repeat them in turn, as the
        first convolution repeats its kernels.
        """
        if channels == self.channels:
            return self

        def spread(values: tuple[float, ...]) -> tuple[float, ...]:
            if channels == 1:
                return (sum(values) / len(values),)
            return tuple(values[i % len(values)] for i in range(channels))

        return replace(
            self,
            channels=channels,
            mean=spread(self.mean),
            std=spread(self.std),
            channel_order="rgb",
            alpha="drop",
        )

    @property
    def scale_size(self) -> tuple[int, int]:
        """Height and width that the resize aims at, before the crop."""
        height, width = (max(1, math.floor(edge / self.crop_pct)) for edge in self.input_size)
        return height, width

    @property
    def fill(self) -> tuple[int, ...]:
        """Pixel around an image smaller than the crop, in the order of a picture: red first."""
        if self.crop_mode != "border":
            return (0,) * self.channels
        mean = tuple(round(255 * value) for value in self.mean)
        return mean[::-1] if self.channel_order == "bgr" else mean

    def resized_size(self, height: Any, width: Any, xp: Any) -> tuple[Any, Any]:
        """Height and width of the resized image, as whole float64 values.

        The arithmetic is that of timm's `ResizeKeepRatio` and torchvision's `Resize`, in float64
        so that numpy and TensorFlow round alike. Where the reference would resize an extremely
        thin image to no pixels at all, and fail, one is left.

        Args:
            height, width: of the image, float64 scalars.
            xp: `numpy`, or the same functions for other scalars.
        """
        if not self.resize:
            return height, width
        scale_height, scale_width = self.scale_size
        if self.crop_mode == "squash":
            return float(scale_height), float(scale_width)
        if self.crop_mode == "center" and scale_height == scale_width:
            shorter = xp.minimum(height, width)
            height, width = (scale_height * edge / shorter for edge in (height, width))
            return xp.floor(height), xp.floor(width)
        nearest = xp.maximum if self.crop_mode == "border" else xp.minimum
        ratio = nearest(xp.divide(height, scale_height), xp.divide(width, scale_width))
        height, width = (xp.rint(xp.divide(edge, ratio)) for edge in (height, width))
        return xp.maximum(height, 1.0), xp.maximum(width, 1.0)

    def crop_offset(self, height: Any, width: Any, xp: Any) -> tuple[Any, Any]:
        """Top and left of the centre crop in an image of `height` x `width`, both float64.

        Negative where the image is smaller than the crop and has to be padded.
        """

        def offset(excess: Any) -> Any:
            if self.crop_rounding == "floor":
                return xp.floor(excess / 2)
            return xp.maximum(xp.rint(excess / 2), 0.0) + xp.minimum(xp.ceil(excess / 2), 0.0)

        return offset(height - self.input_size[0]), offset(width - self.input_size[1])

    @property
    def summary(self) -> str:
        return f"{self.input_size[0]} x {self.input_size[1]}, {self.channels} channels"

    def facts(self) -> Iterator[tuple[str, str]]:
        height, width = self.input_size
        fixed = ", built for one size" if self.fixed_input_size else ""
        channels = f"{self.channels} channels ({self.channel_order})"
        yield "Input", f"{height} x {width} pixels, {channels}{fixed}"
        crop = f"{self.interpolation}, crop {self.crop_pct:g} ({self.crop_mode})"
        yield "  resize", crop if self.resize else "none, centre crop"
        if self.alpha == "white":
            yield "  transparency", "laid on white"
        yield "  mean, std", f"{list(self.mean)}, {list(self.std)}"
        if self.test_input_size:
            height, width = self.test_input_size
            share = self.test_crop_pct or self.crop_pct
            yield "  or larger", f"{height} x {width} pixels, crop {share:g}"

    def noise(self, rng: np.random.Generator) -> np.ndarray:
        return rng.normal(size=(2, *self.input_size, self.channels))


@dataclass(frozen=True, kw_only=True)
class AudioSpec(Spec):
    """Recordings of one channel, cut into windows that follow one another.

    Attributes:
        sampling_rate: samples per second, in Hz.
        window: samples of one window, which gives one output.
        context: samples before each window that the model sees with it; zeros before the first.

    Raises:
        ConfigError: a value that no recording can be prepared with.
    """

    kind: ClassVar[str] = "audio"

    sampling_rate: int = 16_000
    window: int = 512
    context: int = 0

    def __post_init__(self) -> None:
        for name, least in (("sampling_rate", 1), ("window", 1), ("context", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ConfigError(
                    f"{name} is {value!r}; a whole number of at least {least} was expected."
                )
        if self.context > self.window:
            raise ConfigError(
                f"context is {self.context} samples and window {self.window}: the context is the "
                "end of the window before, and cannot be longer."
            )

    @property
    def summary(self) -> str:
        return f"{self.sampling_rate} Hz, windows of {self.window} samples"

    def facts(self) -> Iterator[tuple[str, str]]:
        span = 1000 * self.window / self.sampling_rate
        context = f", each after {self.context} samples of context" if self.context else ""
        yield "Input", f"audio of {self.sampling_rate} Hz, one channel"
        yield "  windows", f"{self.window} samples ({span:g} ms){context}"

    def noise(self, rng: np.random.Generator) -> np.ndarray:
        return rng.normal(size=(2, 16, self.context + self.window))


@dataclass(frozen=True, kw_only=True)
class SequenceSpec(Spec):
    """Sequences of one step after another: of tokens, or of numbers.

    Attributes:
        vocabulary: the tokens, in the order of their ids; None for sequences of numbers.
        level: what a text is cut into: `character`, or `word` at white space. Sequences of tokens
            are taken as they are.
        unknown: the token that stands for those that are not in the vocabulary; None refuses them.
        padding: the token that fills up shorter sequences of a batch.
        features: numbers per step; None for tokens.
        length: steps that every sequence must have; None takes any.
        mean, std: of each feature, taken off and divided by; one number is for all features.
        padding_value: what fills up the steps of shorter sequences, after normalisation; None
            refuses sequences of different lengths in a batch.

    Raises:
        ConfigError: neither tokens nor features, or both; a token that the vocabulary lacks.
    """

    kind: ClassVar[str] = "sequence"

    vocabulary: str | tuple[str, ...] | None = None
    level: Literal["character", "word"] = "character"
    unknown: str | None = None
    padding: str | None = None
    features: int | None = None
    length: int | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    padding_value: float | None = None

    def __post_init__(self) -> None:
        for name in ("vocabulary", "mean", "std"):
            if isinstance(getattr(self, name), list | str):  # as JSON gives them; text: characters
                object.__setattr__(self, name, tuple(getattr(self, name)))
        if (self.vocabulary is None) == (self.features is None):
            raise ConfigError(
                "A SequenceSpec has either a vocabulary (tokens) or features (numbers per step); "
                f"got vocabulary={'none' if self.vocabulary is None else len(self.vocabulary)}, "
                f"features={self.features}."
            )
        check_name("level", self.level, ("character", "word"))
        for name in ("unknown", "padding"):
            token = getattr(self, name)
            if token is not None and token not in (self.vocabulary or ()):
                raise ConfigError(f"{name} is {token!r}, which is not in the vocabulary.")
        if any(len(v) not in (1, self.features) for v in (self.mean, self.std)) and self.features:
            raise ConfigError(
                f"mean has {len(self.mean)} values and std {len(self.std)}, for {self.features} "
                "features; one value, or one per feature, was expected."
            )
        if 0 in self.std:
            raise ConfigError(f"std is {self.std}; normalisation divides by it.")

    @property
    def summary(self) -> str:
        steps = f"{self.length} steps" if self.length else "any number of steps"
        if self.vocabulary is None:
            return f"{steps} of {self.features} numbers"
        return f"{steps}, each one of {len(self.vocabulary)} {self.level}s"

    def noise(self, rng: np.random.Generator) -> np.ndarray:
        steps = self.length or 16
        if self.vocabulary is None:
            return rng.normal(size=(2, steps, self.features or 1))
        return rng.integers(len(self.vocabulary), size=(2, steps))


def check_name(field: str, value: str, names: tuple[str, ...]) -> None:
    """Raise `ConfigError` unless the value of a field is one of the names."""
    if value not in names:
        raise ConfigError(
            f"{field} is {value!r}; one of {', '.join(names)} was expected."
            f"{did_you_mean(str(value), names)}"
        )


def _check_size(field: str, size: object) -> None:
    if size is None and field.startswith("test_"):
        return
    if not (isinstance(size, tuple) and len(size) == 2 and all(type(e) is int for e in size)):
        raise ConfigError(f"{field} is {size!r}; (height, width) in whole pixels was expected.")
    if min(size) < 1:
        raise ConfigError(f"{field} is {size}; both edges must be at least one pixel.")


def _check_share(field: str, share: object) -> None:
    if share is None and field.startswith("test_"):
        return
    if not (isinstance(share, (int, float)) and 0 < share < math.inf):
        raise ConfigError(f"{field} is {share!r}; a positive number was expected.")
