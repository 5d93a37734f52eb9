"""Augmentation of images in TensorFlow ops: what training does to them, drawn from seeds alone.

Each operation on pixels is Pillow's own (`ImageOps`, `ImageEnhance`, `Image.transform` with
bilinear interpolation): equal to the last bit but for a turned or sheared pixel, off by 1 where
float32 coordinates decide a rounding. They take and give uint8 `[h, w, c]` of a known size, and
compute on `[h, w * c]`, because TensorFlow is ten times slower where an axis of 3 is broadcast.

RandAugment (Cubuk et al., https://arxiv.org/abs/1909.13719) has the operations and ranges of timm's
`rand-m{m}-n{n}` (`timm/data/auto_augment.py`), random erasing (Zhong et al.,
https://arxiv.org/abs/1708.04896) those of `timm/data/random_erasing.py`, mixup (Zhang et al.,
https://arxiv.org/abs/1710.09412) and cutmix (Yun et al., https://arxiv.org/abs/1905.04899) those of
`timm/data/mixup.py`, colour jitter those of torchvision's `ColorJitter`.

What is random comes as numbers drawn before, uniform in 0..1: the same draws give the same result.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import tensorflow as tf

ErasingMode = Literal["const", "pixel"]

LAYER_DRAWS = 3  # numbers that one layer of RandAugment takes
JITTER_DRAWS = 6
_ERASING_ATTEMPTS = 10
ERASING_DRAWS = 3 + 4 * _ERASING_ATTEMPTS

_CUT = 2**-10  # added before fractions are cut off: float32 must not lack a bit of a whole level
_LUMA = np.array([19595, 38470, 7471], np.float64) / 2**16  # as Pillow's `convert("L")`


def _rows(image: tf.Tensor, dtype: Any = tf.float32) -> tf.Tensor:
    """`[h, w, c]` as `[h, w * c]`."""
    return tf.cast(tf.reshape(image, [image.shape[0], -1]), dtype)


def _image(rows: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """The inverse of `_rows`, as uint8; fractions are cut off, as Pillow does it."""
    return tf.reshape(tf.cast(rows, tf.uint8), like.shape)


def _double(value: Any) -> tf.Tensor:
    """As float64. Python numbers must not become float32 on the way, as `tf.cast` has it."""
    return tf.cast(value, tf.float64) if tf.is_tensor(value) else tf.constant(value, tf.float64)


def _per_channel(values: Any, image: tf.Tensor) -> tf.Tensor:
    """A value per channel `[c]` as one per number of a row, `[w * c]`."""
    return tf.tile(values, [image.shape[1]])


# ---------------------------------------------------------------- levels of grey and colour


def invert(image: tf.Tensor) -> tf.Tensor:
    """`ImageOps.invert`."""
    return tf.bitwise.invert(image)


def posterize(image: tf.Tensor, bits: Any) -> tf.Tensor:
    """`ImageOps.posterize`: keep the `bits` highest bits, 0 to 8."""
    dropped = 8 - tf.cast(bits, tf.int32)
    mask = tf.bitwise.left_shift(tf.bitwise.right_shift(255, dropped), dropped)
    return tf.bitwise.bitwise_and(image, tf.cast(mask, tf.uint8))


def solarize(image: tf.Tensor, threshold: Any) -> tf.Tensor:
    """`ImageOps.solarize`: invert the levels from `threshold` (0 to 256) on."""
    above = tf.cast(image, tf.int32) >= tf.cast(threshold, tf.int32)
    return tf.bitwise.bitwise_xor(image, tf.cast(above, tf.uint8) * 255)


def solarize_add(image: tf.Tensor, amount: Any) -> tf.Tensor:
    """Add `amount` (0 to 127) to the levels below 128."""
    return image + tf.cast(image < 128, tf.uint8) * tf.cast(amount, tf.uint8)


def autocontrast(image: tf.Tensor) -> tf.Tensor:
    """`ImageOps.autocontrast`: stretch each channel to 0..255."""
    rows, channels = _rows(image, tf.float64), image.shape[-1]
    low, high = (
        tf.cast(reduce(tf.reshape(reduce(rows, 0), [-1, channels]), 0), tf.float64)
        for reduce in (tf.reduce_min, tf.reduce_max)
    )
    scale = tf.where(high > low, 255.0 / tf.maximum(high - low, 1.0), 1.0)
    offset = tf.where(high > low, -low * scale, 0.0)
    stretched = rows * _per_channel(scale, image) + _per_channel(offset, image)
    return _image(tf.clip_by_value(stretched, 0.0, 255.0), image)


def equalize(image: tf.Tensor) -> tf.Tensor:
    """`ImageOps.equalize`: level the histogram of each channel."""
    channels = image.shape[-1]
    places = _rows(image, tf.int32) + _per_channel(256 * np.arange(channels, dtype=np.int32), image)
    counts = tf.math.bincount(tf.reshape(places, [-1]), minlength=256 * channels)
    counts = tf.reshape(counts, [channels, 256])
    last = 255 - tf.argmax(tf.reverse(tf.cast(counts > 0, tf.int32), [1]), 1, tf.int32)
    highest = tf.gather(counts, last, axis=1, batch_dims=1)
    step = (tf.reduce_sum(counts, 1) - highest)[:, None] // 255
    below = tf.cumsum(counts, axis=1, exclusive=True)
    levels = (step // 2 + below) // tf.maximum(step, 1)
    table = tf.where(step > 0, tf.minimum(levels, 255), tf.range(256))
    return tf.reshape(tf.gather(tf.cast(tf.reshape(table, [-1]), tf.uint8), places), image.shape)


def brightness(image: tf.Tensor, factor: Any) -> tf.Tensor:
    """`ImageEnhance.Brightness`: 0 is black, 1 the image itself."""
    return _enhanced(image, 0.0, factor)


def contrast(image: tf.Tensor, factor: Any) -> tf.Tensor:
    """`ImageEnhance.Contrast`: 0 is the mean grey, 1 the image itself."""
    mean = tf.floor(tf.reduce_mean(_grey(image)) + 0.5)
    return _enhanced(image, tf.cast(mean, tf.float32), factor)


def color(image: tf.Tensor, factor: Any) -> tf.Tensor:
    """`ImageEnhance.Color`: 0 is the image in grey, 1 the image itself."""
    grey = tf.repeat(_grey(image), image.shape[-1], axis=1)
    return _enhanced(image, tf.reshape(tf.cast(grey, tf.float32), [image.shape[0], -1]), factor)


def sharpness(image: tf.Tensor, factor: Any) -> tf.Tensor:
    """`ImageEnhance.Sharpness`: 0 is the image smoothed, 1 the image itself."""
    height, width, channels = image.shape
    if min(height, width) < 3:  # which Pillow leaves as they are
        return image
    rows = _rows(image)
    across = rows[:, : -2 * channels] + rows[:, channels:-channels] + rows[:, 2 * channels :]
    total = across[:-2] + across[1:-1] + across[2:] + 4.0 * rows[1:-1, channels:-channels]
    inner = tf.floor(total * (1 / 13) + 0.5)  # never a tie, 13 being odd
    middle = tf.concat([rows[1:-1, :channels], inner, rows[1:-1, -channels:]], 1)
    return _enhanced(image, tf.concat([rows[:1], middle, rows[-1:]], 0), factor)


def _grey(image: tf.Tensor) -> tf.Tensor:
    """Pillow's grey of RGB, float64 `[h * w, 1]`; of other channels the mean.

    In float64, which no device computes by halves.
    """
    channels = image.shape[-1]
    weights = _LUMA if channels == 3 else np.full(channels, 1 / channels)
    pixels = tf.reshape(_rows(image, tf.float64), [-1, channels])
    return tf.floor(pixels @ weights[:, None] + 0.5)


def _enhanced(image: tf.Tensor, plain: Any, factor: Any) -> tf.Tensor:
    """`ImageEnhance`: from `plain` (0) to the image (1) and beyond, in float32 as Pillow."""
    rows = _rows(image)
    mixed = plain + tf.cast(factor, tf.float32) * (rows - plain)
    return _image(tf.clip_by_value(mixed, 0.0, 255.0), image)


# ---------------------------------------------------------------- shape


def rotate(image: tf.Tensor, degrees: Any, fill: Sequence[int]) -> tf.Tensor:
    """`Image.rotate`: counter-clockwise about the centre."""
    angle = _double(degrees) * (-math.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    y, x = (edge / 2 for edge in image.shape[:2])
    return affine(image, (cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y), fill)


def shear_x(image: tf.Tensor, factor: Any, fill: Sequence[int]) -> tf.Tensor:
    """Move each row by `factor` times its height from the upper edge."""
    return affine(image, (1, factor, 0, 0, 1, 0), fill)


def shear_y(image: tf.Tensor, factor: Any, fill: Sequence[int]) -> tf.Tensor:
    """Move each column by `factor` times its distance from the left edge."""
    return affine(image, (1, 0, 0, factor, 1, 0), fill)


def translate_x(image: tf.Tensor, share: Any, fill: Sequence[int]) -> tf.Tensor:
    """Move to the left by a share of the width."""
    return _shifted(image, _double(share) * image.shape[1], 1, fill)


def translate_y(image: tf.Tensor, share: Any, fill: Sequence[int]) -> tf.Tensor:
    """Move up by a share of the height."""
    return _shifted(image, _double(share) * image.shape[0], 0, fill)


def _shifted(image: tf.Tensor, shift: tf.Tensor, axis: int, fill: Sequence[int]) -> tf.Tensor:
    """As `affine`, of pixels that come from `shift` further on: in a seventh of the time."""
    height, width, channels = image.shape
    unit = channels if axis else 1  # numbers that a pixel takes along the axis of the rows
    whole = tf.floor(shift)
    ends = tf.math.ceil(tf.constant([0, image.shape[axis]], tf.float64) - shift - 0.5)
    start, stop = tf.unstack(tf.cast(tf.clip_by_value(ends, 0.0, image.shape[axis]), tf.int32))
    first = start + tf.cast(whole, tf.int32) + 1  # in the padded rows
    length = tf.maximum(stop - start, 0) * unit

    def cut(rows: tf.Tensor, begin: Any, end: Any) -> tf.Tensor:
        return rows[:, begin:end] if axis else rows[begin:end]

    def filled(pixels: tf.Tensor) -> tf.Tensor:
        color = tf.constant(fill, tf.float32)
        return tf.tile(color[None], [height, pixels] if axis else [pixels, width])

    rows = _rows(image)
    padded = tf.concat([cut(rows, 0, unit), rows, cut(rows, -unit, None)], axis)
    near, far = (cut(padded, at * unit, at * unit + length) for at in (first, first + 1))
    moved = near + tf.cast(shift - whole, tf.float32) * (far - near) + _CUT
    parts = [filled(start), moved, filled(image.shape[axis] - tf.maximum(start, stop))]
    return _image(tf.concat(parts, axis), image)


def affine(image: tf.Tensor, matrix: Sequence[Any], fill: Sequence[int]) -> tf.Tensor:
    """`Image.transform(size, AFFINE, matrix, BILINEAR, fillcolor=fill)`.

    Args:
        image: uint8 `[h, w, c]`.
        matrix: `(a, b, c, d, e, f)`: the pixel at `(x, y)` comes from `(a x + b y + c, d x + e y +
            f)`, where the centre of the first pixel is at one half.
        fill: level of each channel outside of the image.
    """
    height, width, channels = image.shape
    a, b, c, d, e, f = map(_double, matrix)
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    source_x, source_y = a * x + b * y + c, d * x + e * y + f
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    # from centre to centre of pixels, as TensorFlow counts
    places = (a, b, c + (a + b - 1) / 2, d, e, f + (d + e - 1) / 2, 0, 0)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(image, tf.float32)[None],
        transforms=[tf.stack([tf.cast(value, tf.float32) for value in places])],
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )
    color = _per_channel(tf.constant(fill, tf.float32), image)
    shown = tf.repeat(tf.cast(inside, tf.float32), channels, axis=1)
    return _image(color + shown * (_rows(moved[0]) + _CUT - color), image)


# ---------------------------------------------------------------- RandAugment


def _both(level: float) -> tuple[float, float]:
    return -level, level


def _levels(strength: float, increasing: bool) -> Mapping[str, tuple[float, float]]:
    """The argument of each operation, for either outcome of its toss.

    Args:
        strength: 0 to 1, a tenth of timm's magnitude.
        increasing: let each operation grow with the strength, as timm's `inc1`. Without it some do
            the most at 0.
    """
    enhance = (1.8 * strength + 0.1,) * 2
    bits, threshold = int(4 * strength), min(256, int(256 * strength))
    if increasing:
        enhance = max(0.1, 1 - 0.9 * strength), max(0.1, 1 + 0.9 * strength)
        bits, threshold = 4 - bits, 256 - threshold
    return {
        "rotate": _both(30 * strength),
        "posterize": (bits, bits),
        "solarize": (threshold, threshold),
        "solarize_add": (min(128, int(110 * strength)),) * 2,
        "color": enhance,
        "contrast": enhance,
        "brightness": enhance,
        "sharpness": enhance,
        "shear_x": _both(0.3 * strength),
        "shear_y": _both(0.3 * strength),
        "translate_x": _both(0.45 * strength),
        "translate_y": _both(0.45 * strength),
    }


_PLAIN = (autocontrast, equalize, invert)
_WITH_LEVEL = (posterize, solarize, solarize_add, color, contrast, brightness, sharpness)
_WITH_FILL = (rotate, shear_x, shear_y, translate_x, translate_y)
RAND_AUGMENT: Mapping[str, Callable[..., tf.Tensor]] = MappingProxyType(
    {operation.__name__: operation for operation in (*_PLAIN, *_WITH_LEVEL, *_WITH_FILL)}
)


def rand_augment(
    image: tf.Tensor,
    draws: tf.Tensor,
    *,
    layers: int,
    magnitude: float,
    fill: Sequence[int],
    increasing: bool = True,
) -> tf.Tensor:
    """Apply `layers` operations, each drawn from all of them and left out by even chance.

    Args:
        image: uint8 `[h, w, c]`.
        draws: `[3 * layers]`.
        magnitude: 0 to 10.
        fill: level of each channel outside of what is moved.
        increasing: timm's `inc1`.

    Returns:
        uint8 `[h, w, c]`.
    """
    levels = _levels(min(10.0, max(0.0, magnitude)) / 10, increasing)

    def branch(name: str, image: tf.Tensor, toss: tf.Tensor) -> tf.Tensor:
        operation, args = RAND_AUGMENT[name], []
        if name in levels:
            low, high = levels[name]
            args.append(low if low == high else tf.where(toss < 0.5, *map(_double, (low, high))))
        return operation(image, *args, *([fill] if operation in _WITH_FILL else []))

    def layer(image: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        which, apply, toss = tf.unstack(draws)
        place = tf.cast(which * len(RAND_AUGMENT), tf.int32)
        branches = [functools.partial(branch, name, image, toss) for name in RAND_AUGMENT]
        branches.append(functools.partial(tf.identity, image))
        drawn = tf.switch_case(tf.where(apply < 0.5, place, len(RAND_AUGMENT)), branches)
        return tf.ensure_shape(drawn, image.shape)

    # in a graph, traced once for all layers
    run = layer if tf.executing_eagerly() else tf.function(layer, autograph=False)
    for k in range(layers):
        image = run(image, draws[LAYER_DRAWS * k : LAYER_DRAWS * (k + 1)])
    return image


def color_jitter(image: tf.Tensor, draws: tf.Tensor, strength: float) -> tf.Tensor:
    """Change brightness, contrast and saturation in any order, by `1 +- strength` at most each.

    Args:
        image: uint8 `[h, w, c]`.
        draws: `[6]`.
    """
    low = max(0.0, 1 - strength)
    factors = low + draws[:3] * (1 + strength - low)
    order = tf.argsort(draws[3:])
    for k in range(3):
        branches = [
            functools.partial(change, image, factors[place])
            for place, change in enumerate((brightness, contrast, color))
        ]
        image = tf.ensure_shape(tf.switch_case(order[k], branches), image.shape)
    return image


# ---------------------------------------------------------------- random erasing


def erase(
    image: tf.Tensor, draws: tf.Tensor, probability: float, mode: ErasingMode = "const"
) -> tf.Tensor:
    """Erase a random box of a normalised image.

    Its area is 2 % to a third of the image's, its height over width 0.3 to 1 / 0.3. The first of
    ten draws that is smaller than the image counts; where none is, nothing is erased.

    Args:
        image: float32 `[h, w, c]`.
        draws: float64 `[43]`.
        mode: `const` leaves zeros, the mean colour; `pixel` normal noise.
    """
    height, width, channels = image.shape
    attempts = tf.reshape(draws[3:], [4, _ERASING_ATTEMPTS])
    area = height * width * (0.02 + attempts[0] * (1 / 3 - 0.02))
    ratio = tf.exp(math.log(0.3) * (1 - 2 * attempts[1]))
    sizes = tf.math.rint(tf.sqrt(tf.stack([area * ratio, area / ratio])))
    free = np.array([[height], [width]]) - sizes
    offsets = tf.floor(attempts[2:] * (free + 1))
    fits = tf.reduce_all(free > 0, axis=0)
    boxes = tf.cast(tf.concat([offsets, sizes], 0), tf.int32)
    first = tf.argmax(tf.cast(fits, tf.int32))
    top, left, rows, columns = tf.unstack(tf.gather(boxes, first, axis=1))

    def erased() -> tf.Tensor:
        if mode == "pixel":
            seed = tf.cast(draws[1:3] * 2.0**31, tf.int32)
            patch = tf.random.stateless_normal(tf.stack([rows, columns, channels]), seed)
        else:
            patch = tf.zeros(tf.stack([rows, columns, channels]))
        return _pasted(image, patch, top, left)

    return tf.cond((draws[0] < probability) & tf.reduce_any(fits), erased, lambda: image)


def _pasted(image: tf.Tensor, patch: tf.Tensor, top: tf.Tensor, left: tf.Tensor) -> tf.Tensor:
    """The patch `[..., h, w, c]` laid on the image; joined, which is faster than a choice."""
    shape = tf.shape(patch)
    bottom, right = top + shape[-3], left + shape[-2]
    middle = image[..., top:bottom, :, :]
    middle = tf.concat([middle[..., :left, :], patch, middle[..., right:, :]], -2)
    whole = tf.concat([image[..., :top, :, :], middle, image[..., bottom:, :, :]], -3)
    return tf.ensure_shape(whole, image.shape)


# ---------------------------------------------------------------- mixup and cutmix


def mix(
    images: tf.Tensor, labels: tf.Tensor, seed: Any, mixup: float = 0.0, cutmix: float = 0.0
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mix each image of a batch with the one as far from the batch's end.

    Args:
        images: float32 `[n, h, w, c]`, h, w and c known.
        labels: float32 `[n, classes]`, which are mixed alike.
        seed: int32 `[2]`.
        mixup: parameter of the beta distribution of the share that stays, in mixup.
        cutmix: the same in cutmix, where a box of the other image is laid over. With both, one of
            them by even chance; 0 is none.

    Returns:
        Images and labels of the same shapes.
    """
    if not mixup and not cutmix:
        return images, labels
    draws = tf.random.stateless_uniform([7], seed, dtype=tf.float64)
    other = tf.reverse(images, [0])

    def blended() -> tuple[tf.Tensor, tf.Tensor]:
        share = tf.cast(_beta(mixup, draws), tf.float32)
        return images * share + other * (1 - share), share

    def pasted() -> tuple[tf.Tensor, tf.Tensor]:
        top, left, bottom, right = _cutmix_box(images.shape[1:3], _beta(cutmix, draws), draws)
        covered = tf.cast((bottom - top) * (right - left), tf.float64)
        share = 1 - covered / (images.shape[1] * images.shape[2])
        patch = other[:, top:bottom, left:right]
        return _pasted(images, patch, top, left), tf.cast(share, tf.float32)

    if mixup and cutmix:
        mixed, share = tf.cond(draws[0] < 0.5, pasted, blended)
    else:
        mixed, share = pasted() if cutmix else blended()
    soft = labels * share + tf.reverse(labels, [0]) * (1 - share)
    return tf.ensure_shape(mixed, images.shape), soft


def _beta(alpha: float, draws: tf.Tensor) -> tf.Tensor:
    """A float64 of the distribution beta(alpha, alpha): of two gammas, the share of the first."""
    seed = tf.cast(draws[1:3] * 2.0**31, tf.int32)
    first, second = tf.unstack(tf.random.stateless_gamma([2], seed, alpha, dtype=tf.float64))
    # where both are too small for a float, and come as the smallest, either end is as likely
    either = tf.cast(draws[3] < 0.5, tf.float64)
    return tf.where(first == second, either, first / (first + second))


def _cutmix_box(size: Sequence[int], share: tf.Tensor, draws: tf.Tensor) -> list[tf.Tensor]:
    """Top, left, bottom and right, int32: a box that leaves `share`, cut off at the edges."""
    edges = tf.constant(list(size), tf.int32)
    cut = tf.cast(tf.cast(edges, tf.float64) * tf.sqrt(1 - share), tf.int32)
    center = tf.cast(draws[4:6] * tf.cast(edges, tf.float64), tf.int32)
    low = tf.clip_by_value(center - cut // 2, 0, edges)
    high = tf.clip_by_value(center + (cut + 1) // 2, 0, edges)
    return [*tf.unstack(low), *tf.unstack(high)]
