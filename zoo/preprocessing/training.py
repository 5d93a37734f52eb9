"""The augmenting preprocessing of training: one image and one seed to what the model takes.

Decode, crop and resize, flip, colour jitter, RandAugment, normalise, erase. There are two ways for
the first two. `__call__` and `from_bytes` are TensorFlow ops alone, for graphs that leave the
process. `from_host` lets Pillow do them: an image then takes half the time on the CPU (a crop of a
JPEG file of 500 x 375 to 224 x 224: 3.3 ms against 7.4 ms), Pillow lets go of the interpreter lock
meanwhile, and every format is read that evaluation reads. Both give the same pixels where
TensorFlow decodes a file as Pillow does, but for `hamming` and `lanczos`, of which the graph may
have a rare pixel off by 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from zoo.preprocessing import augment
from zoo.preprocessing.graph import (
    GraphPreprocessor,
    checked,
    decode,
    image_size,
    resample,
    traced_as_it_is,
    with_channels,
)
from zoo.preprocessing.host import host_call
from zoo.preprocessing.pixels import fit, to_bands
from zoo.preprocessing.spec import ImageSpec

Picture = Image.Image | np.ndarray
Reader = Callable[[int], tuple[str, Picture]]

_CROP_ATTEMPTS = 10
_CROP = slice(0, 4 * _CROP_ATTEMPTS)  # of the numbers that an image draws
_FLIP = _CROP.stop
_JITTER = slice(_FLIP + 1, _FLIP + 1 + augment.JITTER_DRAWS)
_ERASING = slice(_JITTER.stop, _JITTER.stop + augment.ERASING_DRAWS)
_LAYERS = _ERASING.stop  # where those of RandAugment begin

_FUNCTIONS = ("exp", "sqrt", "floor", "rint", "minimum", "maximum")
_TENSORS = SimpleNamespace(**{name: getattr(tf.math, name) for name in _FUNCTIONS})


@dataclass(frozen=True)
class TrainPreprocessor:
    """Augments and preprocesses images, each by a seed of its own.

    With all off, the result is that of evaluation, to the last bit. The crop is that of Szegedy et
    al. 2014 (https://arxiv.org/abs/1409.4842), drawn as torchvision draws it. The numbers that one
    kind of change takes do not depend on which others are on.

    Args:
        spec: input size, interpolation and normalisation.
        exif: turn decoded files upright.
        scale: least and greatest share of the image's area that the crop takes; None for
            evaluation's resize and crop.
        ratio: least and greatest ratio of the crop's width to its height.
        flip: probability of the horizontal flip.
        color_jitter: brightness, contrast and saturation change by factors that differ from 1 by
            up to this.
        rand_augment: layers, and magnitude from 0 to 10, of RandAugment.
        increasing: each operation of RandAugment grows with the magnitude, as in timm's `inc1`.
        random_erasing: probability that a box is erased.
        erasing_mode: `const` erases to the mean colour, `pixel` to noise.
    """

    spec: ImageSpec
    exif: bool = True
    scale: tuple[float, float] | None = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    color_jitter: float = 0.0
    rand_augment: tuple[int, float] | None = None
    increasing: bool = True
    random_erasing: float = 0.0
    erasing_mode: augment.ErasingMode = "const"

    @traced_as_it_is
    def __call__(self, image: Any, seed: Any = None) -> tf.Tensor:
        """Augment and preprocess one image.

        Args:
            image: uint8 [h, w, c].
            seed: int [2]: the same seed gives the same result. None draws a new one each time.

        Returns:
            float32 [height, width, channels].

        Raises:
            InputError: another dtype, rank or number of channels.
        """
        image = with_channels(checked(image, ranks=(3,)), self.spec)
        draws = self._draws(seed)
        return self._changed(self._fitted(image, draws[_CROP]), draws)

    @traced_as_it_is
    def from_bytes(self, data: Any, seed: Any = None) -> tf.Tensor:
        """Decode, augment and preprocess the bytes of one image file, a string tensor []."""
        return self(decode(data, self.exif, self.spec.alpha), seed)

    @traced_as_it_is
    def from_host(self, read: Reader, key: Any, seed: Any = None) -> tf.Tensor:
        """Let Pillow read, crop and resize an image, then augment and preprocess it.

        Args:
            read: gives the name of a key, for errors, and its picture as `ImagePreprocessor.read`
                does; in several threads at once.
            key: int [].
            seed: as in a call.

        Returns:
            float32 [height, width, channels].
        """

        def pixels(key: np.ndarray, draws: np.ndarray) -> np.ndarray:
            return self._fitted_by_pillow(*read(int(key)), draws)

        draws = self._draws(seed)
        image = host_call(pixels, [key, draws[_CROP]], tf.uint8)
        return self._changed(image, draws)

    # ------------------------------------------------------------ draws

    def _draws(self, seed: Any) -> tf.Tensor:
        """All numbers that one image takes, float64, uniform in 0..1."""
        if seed is None:
            seed = tf.random.uniform([2], maxval=2**31 - 1, dtype=tf.int32)
        layers = self.rand_augment[0] if self.rand_augment else 0
        number = _LAYERS + augment.LAYER_DRAWS * layers
        return tf.random.stateless_uniform([number], seed, dtype=tf.float64)

    def _boxes(self, height: Any, width: Any, draws: Any, xp: Any) -> tuple[Any, Any, Any]:
        """Boxes drawn, which of them fit, and the central one that takes their place if none does.

        Args:
            height, width: of the image, float64 scalars.
            draws: float64 [40].
            xp: `numpy`, or the same functions for tensors.

        Returns:
            Top, left, height and width, float64 [10] each; bool [10]; the four scalars.
        """
        assert self.scale is not None
        share, shape, *places = (
            draws[k * _CROP_ATTEMPTS : (k + 1) * _CROP_ATTEMPTS] for k in range(4)
        )
        area = height * width * (self.scale[0] + share * (self.scale[1] - self.scale[0]))
        low, high = (math.log(ratio) for ratio in self.ratio)
        ratio = xp.exp(low + shape * (high - low))
        heights, widths = xp.rint(xp.sqrt(area / ratio)), xp.rint(xp.sqrt(area * ratio))
        fits = (heights <= height) & (widths <= width) & (heights >= 1) & (widths >= 1)
        tops = xp.floor(places[0] * (height - heights + 1))
        lefts = xp.floor(places[1] * (width - widths + 1))
        nearest = xp.minimum(xp.maximum(width / height, self.ratio[0]), self.ratio[1])
        h = xp.rint(xp.minimum(height, width / nearest))
        w = xp.rint(xp.minimum(width, height * nearest))
        central = (xp.floor((height - h) / 2), xp.floor((width - w) / 2), h, w)
        return (tops, lefts, heights, widths), fits, central

    # ------------------------------------------------------------ crop and resize

    def _fitted(self, image: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """uint8 [h, w, c] to uint8 [height, width, channels], red first."""
        if self.scale is None:
            return tf.cast(GraphPreprocessor(self.spec).pixels(image), tf.uint8)
        drawn, fits, central = self._boxes(*image_size(image), draws, _TENSORS)
        boxes = tf.concat([tf.stack(drawn), tf.stack(central)[:, None]], 1)
        first = tf.argmax(tf.concat([tf.cast(fits, tf.int32), [1]], 0))
        box = tf.cast(tf.gather(boxes, first, axis=1), tf.int32)
        top, left, height, width = tf.unstack(box)
        crop = image[top : top + height, left : left + width]
        rows, columns = (tf.range(edge, dtype=tf.float64) for edge in self.spec.input_size)
        resized = tuple(tf.constant(edge, tf.float64) for edge in self.spec.input_size)
        return resample(crop[None], rows, columns, resized, self.spec.interpolation)[0]

    def _fitted_by_pillow(self, name: str, image: Picture, draws: np.ndarray) -> np.ndarray:
        """As `_fitted`, with the random crop or without."""
        bands = to_bands(image, self.spec, name)
        if self.scale is None:
            pixels = fit(bands, self.spec, name)
            reverse = -1 if self.spec.channel_order == "bgr" else 1
            return np.ascontiguousarray(pixels[..., ::reverse])
        width, height = bands[0].size
        drawn, fits, central = self._boxes(float(height), float(width), draws, np)
        box = [edge[fits.argmax()] for edge in drawn] if fits.any() else central
        top, left, height, width = (int(edge) for edge in box)
        size, resampling = self.spec.input_size, Image.Resampling[self.spec.interpolation.upper()]
        corners = (left, top, left + width, top + height)
        planes = [
            np.asarray(band.crop(corners).resize((size[1], size[0]), resampling)) for band in bands
        ]
        return planes[0].reshape(*size, -1) if len(planes) == 1 else np.dstack(planes)

    # ------------------------------------------------------------ what comes after

    def _changed(self, image: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Flip, colours, shape, normalisation, erasing: uint8 [height, width, channels]."""
        image = tf.ensure_shape(image, (*self.spec.input_size, self.spec.channels))
        if self.flip:
            flipped = draws[_FLIP] < self.flip
            image = tf.cond(flipped, lambda: tf.reverse(image, [1]), lambda: image)
        if self.color_jitter:
            image = augment.color_jitter(image, draws[_JITTER], self.color_jitter)
        if self.rand_augment:
            layers, magnitude = self.rand_augment
            image = augment.rand_augment(
                image,
                draws[_LAYERS:],
                layers=layers,
                magnitude=magnitude,
                fill=self._mean_color,
                increasing=self.increasing,
            )
        image = self._normalized(image)
        if self.random_erasing:
            image = augment.erase(image, draws[_ERASING], self.random_erasing, self.erasing_mode)
        return image

    @property
    def _mean_color(self) -> tuple[int, ...]:
        mean = tuple(min(255, round(255 * value)) for value in self.spec.mean)
        return mean[::-1] if self.spec.channel_order == "bgr" else mean

    def _normalized(self, image: tf.Tensor) -> tf.Tensor:
        """As `pixels.normalize`, with divisions that graph optimisers leave as they are.

        A table of all levels, as in `graph`, would take eight times as long.
        """
        if self.spec.channel_order == "bgr":
            image = tf.reverse(image, [2])
        height, width, _ = image.shape
        mean, std = (
            np.tile(np.asarray(values, np.float32), width)
            for values in (self.spec.mean, self.spec.std)
        )
        rows = tf.cast(tf.reshape(image, [height, -1]), tf.float32)
        rows = tf.math.divide_no_nan(rows, np.float32(255)) - mean
        return tf.reshape(tf.math.divide_no_nan(rows, std), image.shape)
