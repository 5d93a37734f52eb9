"""The graph path of image preprocessing: TensorFlow ops, for tf.data, SavedModel and LiteRT.

It gives what the host path gives because it does what Pillow's 8-bit resize does
(`libImaging/Resample.c`): one axis after the other, each with filter weights in 22-bit fixed point,
sums of integers and one rounding to 8 bits. Each pass is a product with the weights, which the
graph makes for the image's own size and for the rows of the crop alone; padding is what lies
outside of the image. The pixels are the same but for a rare one, off by 1, where the last bit of a
sine decides a weight of `hamming` or `lanczos`.

TensorFlow decodes JPEG, PNG, BMP (8, 24 and 32 bits) and the first frame of a GIF as Pillow does,
with two exceptions: the colours of CMYK JPEG files are rounded down, by up to 1, and transparent
pixels of a GIF become black, also where the spec lays them on white. EXIF orientation is read from
the EXIF blocks of JPEG and PNG files, not from XMP.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import PIL
import tensorflow as tf

from zoo.errors import InputError
from zoo.preprocessing.pixels import normalize
from zoo.preprocessing.spec import Alpha, ImageSpec

_BITS = 22  # of the fixed-point weights
_LOW_BITS = 12  # of which the lower half
_TALL_FIRST = int(PIL.__version__.split(".")[0]) >= 13
_BLOCK = 32  # new rows that are computed together


# There is no Python control flow to convert, and looking for it would take seconds.
traced_as_it_is = tf.autograph.experimental.do_not_convert


def _divide(x: Any, y: Any) -> tf.Tensor:
    """Graph optimisers make `x / constant` a product, which rounds otherwise, but not this."""
    return tf.math.divide_no_nan(x, tf.cast(y, tf.float64))


_SAME_NAMES = ("minimum", "maximum", "floor", "ceil", "rint")
_FLOAT64 = SimpleNamespace(divide=_divide, **{name: getattr(tf.math, name) for name in _SAME_NAMES})


@dataclass(frozen=True)
class GraphPreprocessor:
    """`ImagePreprocessor` as TensorFlow ops.

    Args:
        spec: what the images go through.
        exif: turn decoded files upright.
    """

    spec: ImageSpec
    exif: bool = True

    @traced_as_it_is
    def __call__(self, images: Any) -> tf.Tensor:
        """Preprocess uint8 [h, w, c] or [n, h, w, c] into float32 [..., height, width, channels].

        The rank must be known when the graph is traced; the sizes need not be.

        Raises:
            InputError: another dtype, rank or number of channels.
        """
        return _normalized(self.pixels(images), self.spec)

    @traced_as_it_is
    def pixels(self, images: Any) -> tf.Tensor:
        """What a call gives before it normalises: int32 pixels 0 to 255, red first."""
        images = with_channels(checked(images, ranks=(3, 4)), self.spec)
        if images.shape.rank == 3:
            return self.pixels(images[None])[0]
        resized = self.spec.resized_size(*image_size(images), _FLOAT64)
        height, width = (tf.cast(edge, tf.float64) for edge in resized)
        top, left = self.spec.crop_offset(height, width, _FLOAT64)
        rows, columns = (tf.range(edge, dtype=tf.float64) for edge in self.spec.input_size)
        rows, columns = top + rows, left + columns
        pixels = resample(images, rows, columns, (height, width), self.spec.interpolation)
        inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
        fill = tf.constant(self.spec.fill, tf.int32)
        return tf.where(inside[:, :, None], tf.cast(pixels, tf.int32), fill)

    @traced_as_it_is
    def from_bytes(self, data: Any) -> tf.Tensor:
        """Decode and preprocess the bytes of image files.

        Args:
            data: string tensor [] or [n].

        Returns:
            float32 [height, width, channels] or [n, height, width, channels].
        """
        data = tf.convert_to_tensor(data, tf.string)
        if data.shape.rank == 0:
            return self(decode(data, self.exif, self.spec.alpha))
        shape = (*self.spec.input_size, self.spec.channels)
        return tf.map_fn(self.from_bytes, data, fn_output_signature=tf.TensorSpec(shape))


# Pixels


def checked(images: Any, ranks: tuple[int, ...]) -> tf.Tensor:
    images = tf.convert_to_tensor(images)
    if images.dtype != tf.uint8 or images.shape.rank not in ranks:
        shapes = " or ".join("[n, h, w, c]" if rank == 4 else "[h, w, c]" for rank in ranks)
        raise InputError(
            f"Images are uint8 tensors {shapes} with values 0 to 255; found {images.dtype.name} "
            f"of shape {images.shape}."
        )
    return images


def image_size(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Height and width, float64: constants, and all that follows from them, where known."""
    known, dynamic = images.shape, tf.shape(images)
    height, width = (dynamic[a] if known[a] is None else known[a] for a in (-3, -2))
    return tf.cast(height, tf.float64), tf.cast(width, tf.float64)


def with_channels(images: tf.Tensor, spec: ImageSpec) -> tf.Tensor:
    """As Pillow's `convert` between grey, RGB and RGBA."""
    channels, found = spec.channels, images.shape[-1]
    if found is None or found == channels:
        return tf.ensure_shape(images, [*images.shape[:-1], channels])
    if channels not in (1, 3) or found not in (1, 3, 4):
        raise InputError(f"Images have {found} channels; this model takes {channels}.")
    if found == 4 and spec.alpha == "white":
        return _on_white(images)
    if channels == 3:
        return tf.repeat(images, 3, axis=-1) if found == 1 else images[..., :3]
    luma = tf.reduce_sum(tf.cast(images[..., :3], tf.int32) * [19595, 38470, 7471], -1)
    return tf.cast(tf.bitwise.right_shift(luma + 2**15, 16), tf.uint8)[..., None]


def _on_white(images: tf.Tensor) -> tf.Tensor:
    """RGBA to RGB, with the rounding of Pillow's `alpha_composite` on opaque white."""
    color, alpha = (tf.cast(part, tf.int32) for part in (images[..., :3], images[..., 3:]))
    return tf.cast((color * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def _normalized(pixels: tf.Tensor, spec: ImageSpec) -> tf.Tensor:
    """Normalise uint8 pixels by table, since graph optimisers turn divisions into products."""
    if spec.channel_order == "bgr":
        pixels = pixels[..., ::-1]
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None], spec.channels, axis=1)
    table = tf.constant(normalize(levels, spec).ravel())
    return tf.gather(table, tf.cast(pixels, tf.int32) * spec.channels + tf.range(spec.channels))


# Resize


class _Filters(NamedTuple):
    """First and last old row that each new one sees, int32 [p], and weights, int32 [p, taps].

    The last new row is repeated to fill whole blocks.
    """

    first: tf.Tensor
    last: tf.Tensor
    weights: tf.Tensor


def resample(
    images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor, resized: tuple, interpolation: str
) -> tf.Tensor:
    """Pixels of the images resized to `resized`, at `rows` x `columns`.

    Width before height, as Pillow does it; since version 13 Pillow begins with the height where
    that loses more than twice as many pixels.

    Args:
        images: uint8 [n, h, w, c].
        rows, columns: float64 [r] and [s]. Those outside of the resized image repeat its edge.
        resized: height and width of the resized image, float64 scalars.

    Returns:
        uint8 [n, r, s, c].
    """
    height, width = image_size(images)
    down = _filters(height, rows, resized[0], interpolation)
    across = _filters(width, columns, resized[1], interpolation)
    loss_y, loss_x = height - resized[0], width - resized[1]
    x = tf.cond(
        _TALL_FIRST & (loss_y > 0) & (loss_y > 2 * loss_x),
        lambda: _swap(_filtered(_swap(_filtered(images, down)), across)),
        lambda: _filtered(_swap(_filtered(_swap(images), across)), down),
    )
    x = x[:, : rows.shape[0], : columns.shape[0]]
    return tf.ensure_shape(x, [images.shape[0], *rows.shape, *columns.shape, images.shape[-1]])


def _swap(x: tf.Tensor) -> tf.Tensor:
    return tf.transpose(x, [0, 2, 1, 3])


def _filtered(images: tf.Tensor, filters: _Filters) -> tf.Tensor:
    """Resize the rows: uint8 [n, h, w, c] to uint8 [n, p, w, c].

    New rows go in blocks, each a product of their weights with the few old rows that they see.
    The weights go as two halves, because float32 products of 8-bit pixels with 11-bit integers
    are exact, and so are their sums: on a CPU, on a GPU and in its TensorFloat-32. (The sums of
    the low half are exact for 32 weights, and for more off by a few 2^-22 of a level at worst.)
    """
    n, height, width, channels = tf.unstack(tf.shape(images))
    start = filters.first[::_BLOCK]
    span = tf.reduce_max(filters.last[_BLOCK - 1 :: _BLOCK] - start) + 1
    seen = tf.minimum(start[:, None] + tf.range(span), height - 1)
    pixels = tf.cast(tf.gather(images, seen, axis=1), tf.float32)  # [n, blocks, span, w, c]
    pixels = tf.reshape(pixels, [n, -1, span, width * channels])
    matrix = tf.reshape(_matrix(filters, start, span), [-1, _BLOCK, span])
    high = tf.bitwise.right_shift(matrix + 2 ** (_LOW_BITS - 1), _LOW_BITS)
    halves = tf.cast(tf.concat([high, matrix - high * 2**_LOW_BITS], axis=1), tf.float32)
    high, low = tf.split(tf.cast(halves @ pixels, tf.int32), 2, axis=2)
    levels = tf.bitwise.right_shift(high * 2**_LOW_BITS + low + 2 ** (_BITS - 1), _BITS)
    levels = tf.cast(tf.clip_by_value(levels, 0, 255), tf.uint8)
    return tf.reshape(levels, [n, -1, width, images.shape[-1]])


def _matrix(filters: _Filters, start: tf.Tensor, span: tf.Tensor) -> tf.Tensor:
    """The weights as a matrix, int32 [p, span]: from the first row that a block sees on."""
    p, taps = tf.unstack(tf.shape(filters.weights))
    column = tf.minimum(filters.first[:, None] + tf.range(taps), filters.last[:, None])
    column -= tf.repeat(start, _BLOCK)[:, None]
    row = tf.broadcast_to(tf.range(p)[:, None], [p, taps])
    return tf.scatter_nd(tf.stack([row, column], axis=-1), filters.weights, [p, span])


def _filters(length: tf.Tensor, positions: tf.Tensor, resized: tf.Tensor, name: str) -> _Filters:
    """Pillow's filters from `length` pixels to `positions` of `resized` ones.

    All in float64 and in Pillow's order: its last bit decides the ties of the box filter.
    """
    scale = _divide(length, resized)
    missing = -positions.shape[0] % _BLOCK
    positions = tf.concat([positions, tf.repeat(positions[-1:], missing)], 0)
    positions = tf.clip_by_value(positions, 0.0, resized - 1.0)
    if name == "nearest":  # Pillow adds up steps, rounding errors included
        steps = tf.concat([[0.5 * scale], tf.fill([tf.cast(resized, tf.int32) - 1], scale)], 0)
        source = tf.cast(tf.gather(tf.cumsum(steps), tf.cast(positions, tf.int32)), tf.int32)
        return _Filters(source, source, tf.fill([positions.shape[0], 1], 2**_BITS))
    kernel, support = _KERNELS[name]
    stretch = tf.maximum(scale, 1.0)
    reach = support * stretch
    center = (positions + 0.5) * scale
    first = tf.maximum(tf.floor(center - reach + 0.5), 0.0)
    last = tf.minimum(tf.floor(center + reach + 0.5), length) - 1.0
    x = first[:, None] + tf.range(2.0 * tf.math.ceil(reach) + 1.0, dtype=tf.float64)
    weights = kernel((x - center[:, None] + 0.5) * (1.0 / stretch))
    weights *= tf.cast(x <= last[:, None], tf.float64)
    weights = weights * 2.0**_BITS / tf.reduce_sum(weights, axis=-1, keepdims=True)
    weights += 0.5 * tf.sign(weights)  # rounds, since the cast cuts
    first, last, weights = (tf.cast(values, tf.int32) for values in (first, last, weights))
    return _Filters(first, last, weights)


def _sinc(x: tf.Tensor) -> tf.Tensor:
    angle = x * math.pi
    return tf.where(x == 0, tf.ones_like(x), tf.math.divide_no_nan(tf.sin(angle), angle))


def _hamming(x: tf.Tensor) -> tf.Tensor:
    mean, swing = (float(np.float32(v)) for v in (0.54, 0.46))  # single in Pillow
    value = _sinc(x) * (mean + swing * tf.cos(x * math.pi))
    return tf.where(tf.abs(x) < 1, value, tf.zeros_like(x))


def _bicubic(x: tf.Tensor, a: float = -0.5) -> tf.Tensor:
    """Keys' cubic convolution, https://doi.org/10.1109/TASSP.1981.1163711, equation 15."""
    x = tf.abs(x)
    inner = ((a + 2) * x - (a + 3)) * x * x + 1
    outer = (((x - 5) * x + 8) * x - 4) * a
    return tf.where(x < 1, inner, tf.where(x < 2, outer, tf.zeros_like(x)))


def _lanczos(x: tf.Tensor) -> tf.Tensor:
    return tf.where(tf.abs(x) < 3, _sinc(x) * _sinc(x / 3), tf.zeros_like(x))


_KERNELS = {  # the kernel, and how far it reaches
    "box": (lambda x: tf.cast((x > -0.5) & (x <= 0.5), x.dtype), 0.5),
    "bilinear": (lambda x: tf.maximum(1.0 - tf.abs(x), 0.0), 1.0),
    "hamming": (_hamming, 1.0),
    "bicubic": (_bicubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}


# Files


def decode(data: Any, exif: bool = True, alpha: Alpha = "drop") -> tf.Tensor:
    """Decode the bytes of an image file, a string tensor [], into uint8 [h, w, 3].

    Args:
        exif: turn the image upright.
        alpha: what becomes of the transparency of PNG files, as in `ImageSpec`.
    """
    data = tf.convert_to_tensor(data, tf.string)
    raw = tf.io.decode_raw(data, tf.uint8)
    is_jpeg, is_png, is_bmp = (_starts(data, m) for m in (b"\xff\xd8", b"\x89PNG", b"BM"))
    image = tf.case(
        [
            # The default arithmetic of TensorFlow is off by up to 18.
            (is_jpeg, lambda: tf.io.decode_jpeg(data, 3, dct_method="INTEGER_ACCURATE")),
            (is_bmp, lambda: _decode_bmp(data, raw)),
            *([(is_png, lambda: _decode_png_on_white(data, raw))] if alpha == "white" else []),
        ],
        default=lambda: tf.io.decode_image(data, 3, expand_animations=False),
    )
    image = tf.ensure_shape(image, [None, None, 3])
    if not exif:
        return image
    header = tf.case(
        [
            (is_jpeg, lambda: _exif_in_jpeg(raw)),
            (is_png, lambda: _chunk_in_png(raw, b"eXIf", before=b"IEND")),
        ],
        default=lambda: tf.constant(-1, tf.int64),
    )
    return tf.cond(header < 0, lambda: image, lambda: _upright(image, raw, header))


def _starts(data: tf.Tensor, magic: bytes) -> tf.Tensor:
    return tf.strings.substr(data, 0, len(magic)) == magic


def _decode_bmp(data: tf.Tensor, raw: tf.Tensor) -> tf.Tensor:
    """TensorFlow's decoder gives the indices of 8-bit files, and leaves their palette unread."""

    def from_palette() -> tf.Tensor:
        start = 14 + _number(raw, 14, 4)
        colors = tf.reshape(raw[start : start + 4 * 256], [-1, 4])[:, 2::-1]
        return tf.gather(colors, tf.cast(tf.io.decode_bmp(data)[..., 0], tf.int32))

    is_indexed = _number(raw, 28, 2) == 8
    return tf.cond(is_indexed, from_palette, lambda: tf.io.decode_image(data, 3))


def _decode_png_on_white(data: tf.Tensor, raw: tf.Tensor) -> tf.Tensor:
    """TensorFlow makes up a wrong alpha for files of less than 8 bits that have none."""
    has_channel = _number(raw, 25, 1) & 4 != 0  # the colour type
    has_color = _chunk_in_png(raw, b"tRNS", before=b"IDAT") >= 0
    return tf.cond(
        has_channel | has_color,
        lambda: _on_white(tf.io.decode_png(data, 4)),
        lambda: tf.io.decode_png(data, 3),
    )


def _number(raw: tf.Tensor, at: Any, count: int, big: Any = False) -> tf.Tensor:
    """The `count`-byte unsigned integers at offsets `at`, int64; the last byte repeats forever."""
    places = tf.range(count, dtype=tf.int64)
    index = tf.cast(at, tf.int64)[..., None] + places
    digits = tf.gather(raw, tf.minimum(index, tf.size(raw, tf.int64) - 1))
    shifts = 8 * tf.where(big, count - 1 - places, places)
    return tf.reduce_sum(tf.bitwise.left_shift(tf.cast(digits, tf.int64), shifts), -1)


def _exif_in_jpeg(raw: tf.Tensor) -> tf.Tensor:
    """Offset of the TIFF header in the EXIF segment of a JPEG file, else -1."""

    def is_exif(at: tf.Tensor) -> tf.Tensor:
        name = _number(raw, at + 4, 6, big=True) == int.from_bytes(b"Exif\0\0")
        return (_number(raw, at, 2, big=True) == 0xFFE1) & name

    def is_last(at: tf.Tensor) -> tf.Tensor:
        marker = _number(raw, at, 2, big=True)
        return (marker < 0xFF00) | (marker == 0xFFDA)

    return _walk(raw, 2, is_exif, is_last, lambda at: 2 + _number(raw, at + 2, 2, big=True), 10)


def _chunk_in_png(raw: tf.Tensor, name: bytes, before: bytes) -> tf.Tensor:
    """Offset of the content of a PNG file's first chunk of this name, else -1."""

    def is_chunk(name: bytes, at: tf.Tensor) -> tf.Tensor:
        return _number(raw, at + 4, 4, big=True) == int.from_bytes(name)

    is_found, is_last = (functools.partial(is_chunk, name) for name in (name, before))
    return _walk(raw, 8, is_found, is_last, lambda at: 12 + _number(raw, at, 4, big=True), 8)


def _walk(raw, start: int, is_found, is_last, length, header: int) -> tf.Tensor:
    """Go from block to block of a file: `header` past the start of the one looked for, else -1."""

    def passes(at: tf.Tensor) -> tf.Tensor:
        return (at + 12 < tf.size(raw, tf.int64)) & ~is_found(at) & ~is_last(at)

    first = tf.constant(start, tf.int64)
    at = tf.while_loop(passes, lambda at: [at + length(at)], [first])[0]
    return tf.where(is_found(at), at + header, -1)


def _upright(image: tf.Tensor, raw: tf.Tensor, header: tf.Tensor) -> tf.Tensor:
    """Turn an image by the orientation (tag 0x0112) of the TIFF directory that begins its EXIF."""
    big = _number(raw, header, 1) == ord("M")
    directory = header + _number(raw, header + 4, 4, big)
    entries = directory + 2 + 12 * tf.range(_number(raw, directory, 2, big))
    is_orientation = _number(raw, entries, 2, big) == 0x0112
    values = tf.boolean_mask(_number(raw, entries + 8, 2, big), is_orientation)

    def among(*orientations: int) -> tf.Tensor:
        return tf.reduce_any(values[:1, None] == tf.constant(orientations, tf.int64))

    image = tf.cond(among(5, 6, 7, 8), lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    image = tf.cond(among(2, 3, 6, 7), lambda: image[:, ::-1], lambda: image)
    return tf.cond(among(3, 4, 7, 8), lambda: image[::-1], lambda: image)
