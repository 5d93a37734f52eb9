"""The host path of image preprocessing: files, bytes, addresses, pictures and arrays to a batch.

Pillow decodes and resizes, numpy normalises, each step in the order and the arithmetic of timm's
evaluation transform (`timm.data.create_transform`, is_training=False), so that the result is the
same to the last bit.
"""

from __future__ import annotations

import io
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from zoo.errors import AccessError, DownloadError, InputError, NotFoundError
from zoo.preprocessing.spec import ImageSpec

if TYPE_CHECKING:
    from zoo.preprocessing.graph import GraphPreprocessor
    from zoo.preprocessing.training import TrainPreprocessor

ImageInput = str | os.PathLike | bytes | Image.Image | np.ndarray

_MAX_DOWNLOAD = 64 * 2**20  # bytes
_MAX_TIMEOUTS = 6  # a whole download may take this many times as long as a server may be silent
_BOMB_ADVICE = (
    "It was left alone: small files can ask for all memory (decompression bombs). Reduce "
    "it, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it."
)
_THREADS = min(8, os.cpu_count() or 1)
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


@dataclass(frozen=True)
class ImagePreprocessor:
    """Turns images into the batch that a model takes, as the reference's evaluation does.

    Two of them are equal when they give equal results. It holds plain data only: it pickles, and
    `get_config` is JSON.

    Args:
        spec: what the images go through.
        exif: turn the images of paths, bytes and addresses upright by their EXIF orientation. The
            reference itself does not.
        timeout: seconds that a server may keep silent when an address is read.
    """

    spec: ImageSpec
    _: KW_ONLY
    exif: bool = True
    timeout: float = field(default=10.0, compare=False)

    def __call__(
        self,
        x: ImageInput | Sequence[ImageInput],
        *,
        input_size: int | tuple[int, int] | None = None,
    ) -> np.ndarray:
        """Preprocess one image or many.

        Args:
            x: a path, the bytes of a file, an `https://` address, a PIL image or a uint8 array
                [h, w], [h, w, 1], [h, w, 3] or [h, w, 4]; a list or tuple of these; or a uint8
                array [n, h, w, c]. PIL images and arrays are taken as they are: no orientation is
                applied.
            input_size: height and width, or an edge, in place of the spec's.

        Returns:
            float32 [n, height, width, channels].

        Raises:
            InputError: an input that is no image, cannot be decoded or is too large.
            NotFoundError, AccessError: a path or address that is not there, or not for this user.
            DownloadError: an address that could not be read.
        """
        spec = self.spec if input_size is None else self.spec.at_size(input_size)
        named = _named(x)

        def prepare(name: str, item: Any) -> np.ndarray:
            return _fit(_bands(self.read(item, name), spec, name), spec, name)

        if len(named) > 1:  # Pillow and numpy let go of the interpreter lock
            with ThreadPoolExecutor(min(_THREADS, len(named))) as pool:
                pixels = list(pool.map(prepare, *zip(*named, strict=True)))
        else:
            pixels = [prepare(name, item) for name, item in named]
        shape = (*spec.input_size, spec.channels)
        return normalize(np.stack(pixels) if pixels else np.empty((0, *shape), np.uint8), spec)

    def at_test_size(self) -> ImagePreprocessor:
        """The same with the reference's larger evaluation setting, where there is one."""
        return ImagePreprocessor(self.spec.at_test_size(), exif=self.exif, timeout=self.timeout)

    @property
    def graph(self) -> GraphPreprocessor:
        """The same preprocessing in TensorFlow ops, for `ds.map` and export."""
        from zoo.preprocessing.graph import GraphPreprocessor

        return GraphPreprocessor(self.spec, exif=self.exif)

    @property
    def train(self) -> TrainPreprocessor:
        """The augmenting preprocessing of training, in TensorFlow ops, for `ds.map`."""
        from zoo.preprocessing.training import TrainPreprocessor

        return TrainPreprocessor(self.spec, exif=self.exif)

    def get_config(self) -> dict[str, Any]:
        """Plain JSON data, which `from_config` takes back."""
        return {"spec": self.spec.to_dict(), "exif": self.exif, "timeout": self.timeout}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ImagePreprocessor:
        """The inverse of `get_config`."""
        options = {**config, "spec": ImageSpec.from_dict(config["spec"])}
        return cls(options.pop("spec"), **options)

    def read(self, item: Any, name: str = "The image") -> Image.Image | np.ndarray:
        """One input as it is before preprocessing; a file's picture upright, if `exif`.

        Args:
            item: in any form that a call takes.
            name: what errors call it.

        Raises:
            InputError, NotFoundError, AccessError, DownloadError: as for a call.
        """
        if isinstance(item, (Image.Image, np.ndarray)):
            return item
        if isinstance(item, bytes):
            return _decode(io.BytesIO(item), name, self.exif)
        if isinstance(item, str) and "://" in item:
            return _decode(io.BytesIO(_download(item, name, self.timeout)), name, self.exif)
        try:
            with Path(item).expanduser().open("rb") as stream:
                return _decode(stream, name, self.exif)
        except FileNotFoundError as error:
            raise NotFoundError(f"{name} is not there. Give the path of an image file.") from error
        except IsADirectoryError as error:
            raise InputError(f"{name} is a folder. Give the paths of its files.") from error
        except PermissionError as error:
            raise AccessError(f"{name} may not be read by this user.") from error
        except OSError as error:
            raise InputError(f"{name} cannot be opened: {error.strerror}.") from error


def normalize(pixels: np.ndarray, spec: ImageSpec) -> np.ndarray:
    """uint8 [..., channels] to float32: `(pixels / 255 - mean) / std`.

    Three roundings to float32 in this order, as torchvision's `ToTensor` and `Normalize`.
    """
    out = pixels.astype(np.float32)
    out /= np.float32(255)
    out -= np.asarray(spec.mean, np.float32)
    out /= np.asarray(spec.std, np.float32)
    return out


# Inputs: what the user passed, as a list of checked items with the names that errors give them


def _named(x: Any) -> list[tuple[str, Any]]:
    items = [_plain(item) for item in x] if isinstance(x, (list, tuple)) else [_plain(x)]
    if not isinstance(x, (list, tuple)) and isinstance(items[0], np.ndarray) and items[0].ndim == 4:
        items = list(items[0])
    named = [(_name(item, i, len(items)), item) for i, item in enumerate(items)]
    for name, item in named:
        if isinstance(item, np.ndarray):
            _check_array(item, name)
        elif isinstance(item, Image.Image):
            with _pillow_errors(name):
                item.load()  # here, since two threads must not load one and the same image
        elif not isinstance(item, (str, os.PathLike, bytes)):
            raise InputError(
                f"{name} is of type {type(item).__name__}. Inputs are paths, bytes, https "
                "addresses, PIL images and uint8 arrays [h, w, 3], or a list or tuple of these."
            )
    return named


def _plain(item: Any) -> Any:
    if isinstance(item, (bytearray, memoryview)):
        return bytes(item)
    if isinstance(item, (str, bytes, os.PathLike, Image.Image)) or not hasattr(item, "__array__"):
        return item
    try:
        return np.asarray(item)  # a TensorFlow tensor, say
    except Exception as error:
        raise InputError(
            f"A {type(item).__name__} could not be read as an array: {error} Inside of tf.data and "
            "tf.function use `preprocess.graph`."
        ) from error


def _name(item: Any, index: int, count: int) -> str:
    name = "The image" if count == 1 else f"Image {index} of {count} (counted from 0)"
    if isinstance(item, (str, os.PathLike)):
        return f"{name}, {os.fspath(item)!r},"
    return f"{name}, {len(item):,} bytes," if isinstance(item, bytes) else name


def _check_array(array: np.ndarray, name: str) -> None:
    found = f"{name} is a {array.dtype} array {list(array.shape)}"
    if array.dtype.kind == "f":
        extent = f", values {array.min():.3g} to {array.max():.3g}" if array.size else ""
        raise InputError(
            f"{found}{extent}. Images are uint8 arrays with values 0 to 255. If yours are 0 to 1: "
            "(255 * x).round().astype('uint8'). If they are preprocessed already, pass them to "
            "the model itself."
        )
    if array.dtype != np.uint8:
        raise InputError(f"{found}. Images are uint8 arrays with values 0 to 255: cast them.")
    if array.ndim not in (2, 3) or array.size == 0:
        raise InputError(f"{found}. Images are uint8 arrays [h, w, 3] with no empty edge.")


# Reading: from a file's bytes to a decoded picture


def _decode(stream: BinaryIO, name: str, exif: bool) -> Image.Image:
    """Decode an image file. Its pixels are in memory when this returns."""
    start = stream.read(16)
    if not start:
        raise InputError(f"{name} is empty (zero bytes). An image file was expected.")
    stream.seek(0)
    with _pillow_errors(name, start):
        image = Image.open(stream)
    if image.format == "EPS":  # its decoder runs another program on the file
        raise InputError(f"{name} is an EPS drawing. Convert it to PNG first.")
    _check_pixels(name, image.width, image.height)
    with _pillow_errors(name, start):
        image.load()
    return _upright(image) if exif else image


@contextmanager
def _pillow_errors(name: str, start: bytes = b"") -> Iterator[None]:
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


def _download(address: str, name: str, timeout: float) -> bytes:
    """Read an https address. A redirect to plain http is refused before it is followed."""
    import requests

    if not address.startswith("https://"):
        raise InputError(f"{name} is no https address. Only these are read, besides paths.")
    session = requests.Session()
    session.adapters.pop("http://")
    try:
        with session.get(address, stream=True, timeout=timeout) as response:
            if response.status_code in (404, 410):
                raise NotFoundError(f"{name} is not there: the server says {response.status_code}.")
            if response.status_code in (401, 403):
                raise AccessError(f"{name} is not open: the server says {response.status_code}.")
            response.raise_for_status()
            return _body(response, name, deadline=time.monotonic() + _MAX_TIMEOUTS * timeout)
    except requests.exceptions.InvalidSchema as error:
        raise InputError(f"{name} redirects to an address that is not https.") from error
    except requests.RequestException as error:
        raise DownloadError(
            f"{name} could not be downloaded: {error}. Check the network and the address, or pass "
            "the path of a local file."
        ) from error
    finally:
        session.close()


def _body(response: Any, name: str, deadline: float) -> bytes:
    body = bytearray()
    for chunk in response.iter_content(2**16):
        body += chunk
        if len(body) > _MAX_DOWNLOAD:
            raise InputError(
                f"{name} is larger than {_MAX_DOWNLOAD:,} bytes; the download was stopped. "
                "Download it yourself and pass its path."
            )
        if time.monotonic() > deadline:
            raise DownloadError(f"{name} comes too slowly; the download was stopped. Try again.")
    return bytes(body)


# Pixels: from a decoded picture to uint8 [height, width, channels]


def _bands(image: Image.Image | np.ndarray, spec: ImageSpec, name: str) -> list[Image.Image]:
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


def _fit(bands: list[Image.Image], spec: ImageSpec, name: str) -> np.ndarray:
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
