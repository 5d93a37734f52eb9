"""Pixels on the host: from a picture's file to the uint8 array that becomes a model's input.

Pillow decodes and resizes, in the order and the arithmetic of timm's evaluation transform.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from zoo.errors import InputError
from zoo.preprocessing.spec import ImageSpec

_BOMB_ADVICE = (
    "It was left alone: small files can ask for all memory (decompression bombs). Reduce "
    "it, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it."
)
_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {  # EXIF orientation: what turns the stored picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


# ---------------------------------------------------------------- decoding


def decode(stream: BinaryIO, name: str, exif: bool) -> Image.Image:
    """Decode an image file. Its pixels are in memory when this returns."""
    start = stream.read(16)
    if not start:
        raise InputError(f"{name} is empty (zero bytes). An image file was expected.")
    stream.seek(0)
    with pillow_errors(name, start):
        image = Image.open(stream)
    if image.format == "EPS":  # its decoder runs another program on the file
        raise InputError(f"{name} is an EPS drawing. Convert it to PNG first.")
    _check_pixels(name, image.width, image.height)
    with pillow_errors(name, start):
        image.load()
    return _upright(image) if exif else image


@contextmanager
def pillow_errors(name: str, start: bytes = b"") -> Iterator[None]:
    """Decoders of broken files raise almost anything; all of it becomes an `InputError`."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise InputError(
            f"{name} is no image that Pillow can read: it starts with {start!r}. Expected JPEG, "
            "PNG, WebP, GIF, BMP, TIFF or the like."
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{name} is too large. {error} {_BOMB_ADVICE}") from error
    except Exception as error:
        raise InputError(
            f"{name} cannot be decoded: {error}. It is damaged or incomplete: replace it."
        ) from error


def _check_pixels(name: str, width: int, height: int) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise InputError(
            f"{name} is too large: {width} x {height} pixels, where Pillow's limit is {limit:,}. "
            f"{_BOMB_ADVICE}"
        )


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # a damaged EXIF block is no reason to lose the picture
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


# ---------------------------------------------------------------- to [height, width, channels]


def to_bands(image: Image.Image | np.ndarray, spec: ImageSpec, name: str) -> list[Image.Image]:
    """The image as Pillow resizes it: one RGB or grey picture, else a grey one per channel."""
    channels = spec.channels
    if isinstance(image, np.ndarray) and image.ndim == 2:
        image = image[:, :, None]
    if channels not in (1, 3):
        if not isinstance(image, np.ndarray) or image.shape[-1] != channels:
            raise InputError(
                f"{name} has other channels than this model, which takes {channels}: pass uint8 "
                f"arrays [h, w, {channels}]."
            )
        return [Image.fromarray(image[:, :, i]) for i in range(channels)]
    if isinstance(image, np.ndarray):
        if image.shape[-1] not in (1, 3, 4):
            hint = " Channels come last: transpose it." if image.shape[0] in (1, 3) else ""
            raise InputError(
                f"{name} is an array {list(image.shape)}; [h, w], [h, w, 1], [h, w, 3] or "
                f"[h, w, 4] was expected.{hint}"
            )
        image = Image.fromarray(image[:, :, 0] if image.shape[-1] == 1 else image)
    return [_convert(image, "RGB" if channels == 3 else "L", name, on_white=spec.alpha == "white")]


def _convert(image: Image.Image, mode: str, name: str, *, on_white: bool) -> Image.Image:
    if image.mode.startswith("I"):
        image = _eight_bits(image, name)
    if image.mode == "F":
        raise InputError(f"{name} holds floating-point pixels. Scale it to 8 bits (0 to 255).")
    try:
        if on_white and ("A" in image.getbands() or "transparency" in image.info):
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        if image.mode == mode:
            return image
        if "transparency" in image.info:  # `convert` drops it, but warns of some kinds
            image = image.copy()
            del image.info["transparency"]
        return image.convert(mode)
    except ValueError as error:
        raise InputError(
            f"{name} is of colour mode {image.mode}, which Pillow cannot make {mode}. Convert it."
        ) from error


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    """The high byte of 16-bit grey, as Pillow itself reads 16-bit colour."""
    pixels = np.asarray(image)
    if pixels.min() < 0 or pixels.max() > 0xFFFF:
        raise InputError(
            f"{name} holds integers from {pixels.min()} to {pixels.max()}. Scale it to 8 bits."
        )
    _warn_of_16_bits()
    return Image.fromarray((pixels >> 8).astype(np.uint8))


@cache
def _warn_of_16_bits() -> None:
    message = "A 16-bit image was scaled to 8 bits (its high byte). This is said once."
    warnings.warn(message, UserWarning, stacklevel=2)


def fit(bands: list[Image.Image], spec: ImageSpec, name: str) -> np.ndarray:
    """Resize, crop and pad: uint8 [height, width, channels]."""
    width, height = bands[0].size
    resized = spec.resized_size(float(height), float(width), np)
    top, left = (int(v) for v in spec.crop_offset(*resized, np))
    size = int(resized[1]), int(resized[0])
    _check_pixels(f"{name} resized", *size)
    resampling = Image.Resampling[spec.interpolation.upper()]
    colors = [spec.fill] if len(bands) == 1 else [(value,) for value in spec.fill]
    planes = []
    for band, color in zip(bands, colors, strict=True):
        canvas = Image.new(band.mode, spec.input_size[::-1], color)
        canvas.paste(band.resize(size, resampling), (-left, -top))
        planes.append(np.asarray(canvas))
    pixels = np.dstack(planes)
    return pixels[:, :, ::-1] if spec.channel_order == "bgr" else pixels


def normalize(pixels: np.ndarray, spec: ImageSpec) -> np.ndarray:
    """uint8 [..., channels] to float32: `(pixels / 255 - mean) / std`.

    Three roundings to float32 in this order, as torchvision's `ToTensor` and `Normalize`.
    """
    out = pixels.astype(np.float32)
    out /= np.float32(255)
    out -= np.asarray(spec.mean, np.float32)
    out /= np.asarray(spec.std, np.float32)
    return out
