"""The host path of image preprocessing: files, bytes, addresses, pictures and arrays to a batch.

Pillow decodes and resizes, numpy normalises, each step in the order and the arithmetic of timm's
evaluation transform (`timm.data.create_transform`, is_training=False), so that the result is the
same to the last bit.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from zoo.errors import InputError
from zoo.preprocessing.pixels import decode, fit, normalize, pillow_errors, to_bands
from zoo.preprocessing.reading import download, file_errors, item_name
from zoo.preprocessing.spec import ImageSpec

if TYPE_CHECKING:
    from zoo.preprocessing.graph import GraphPreprocessor
    from zoo.preprocessing.training import TrainPreprocessor

ImageInput = str | os.PathLike | bytes | Image.Image | np.ndarray

_THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class ImagePreprocessor:
    """Turns images into the batch that a model takes, as the reference's evaluation does.

    Two of them are equal when they give equal results. It holds plain data only.

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
            return fit(to_bands(self.read(item, name), spec, name), spec, name)

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
            return decode(io.BytesIO(item), name, self.exif)
        if isinstance(item, str) and "://" in item:
            return decode(io.BytesIO(download(item, name, self.timeout)), name, self.exif)
        with file_errors(name, "an image file"), Path(item).expanduser().open("rb") as stream:
            return decode(stream, name, self.exif)


# Inputs: what the user passed, as a list of checked items with the names that errors give them


def _named(x: Any) -> list[tuple[str, Any]]:
    items = [_plain(item) for item in x] if isinstance(x, (list, tuple)) else [_plain(x)]
    if not isinstance(x, (list, tuple)) and isinstance(items[0], np.ndarray) and items[0].ndim == 4:
        items = list(items[0])
    named = [
        (item_name(item, i, len(items), alone="The image", among="Image"), item)
        for i, item in enumerate(items)
    ]
    for name, item in named:
        if isinstance(item, np.ndarray):
            _check_array(item, name)
        elif isinstance(item, Image.Image):
            with pillow_errors(name):
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
