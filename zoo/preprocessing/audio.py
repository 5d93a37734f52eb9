"""The host path of audio preprocessing: WAV files, their bytes and arrays to windows of samples.

Channels are averaged and other sampling rates are resampled with torchaudio's filter, as the
reference packages read audio (`silero_vad.utils_vad.read_audio`).
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import InputError
from zoo.preprocessing.reading import file_errors, item_name
from zoo.preprocessing.spec import AudioSpec
from zoo.preprocessing.wav import decode_wav

AudioInput = str | os.PathLike | bytes | np.ndarray

_FULL_SCALE = {"u1": 2**7, "i2": 2**15, "i4": 2**31}
_LOUDEST = 100.0  # floats are -1..1, and a bit more after filters; above this they are integers
_CHANNELS = 32  # the most; more are samples that stand where channels should
_RATES = (1_000, 1_000_000)  # Hz
_FILTER_WIDTH, _ROLLOFF = 6, 0.99  # torchaudio's defaults
_BLOCK = 1 << 16  # resampled values that are computed together


class MixdownWarning(UserWarning):
    """Several channels were averaged into one."""


@dataclass(frozen=True)
class AudioPreprocessor:
    """Turns recordings into the windows that a model takes.

    Args:
        spec: sampling rate, window and context.
    """

    spec: AudioSpec

    def __call__(
        self, x: AudioInput | Sequence[AudioInput], *, sampling_rate: int | None = None
    ) -> np.ndarray:
        """Preprocess one recording, or several with the same number of windows.

        Args:
            x: as `read` takes it, or a list or tuple of these.
            sampling_rate: of arrays, in Hz; None is the spec's. Files know their own.

        Returns:
            float32 `[n, windows, context + window]`; zeros fill up the last window.

        Raises:
            InputError: as `read`, or recordings with different numbers of windows.
            NotFoundError, AccessError: as `read`.
        """
        batch = [
            self.windows(self.read_named(name, item, sampling_rate=sampling_rate))
            for name, item in named_recordings(x)
        ]
        if not batch:
            return np.zeros((0, 0, self.spec.context + self.spec.window), np.float32)
        counts = {len(windows) for windows in batch}
        if len(counts) > 1:
            raise InputError(
                f"The recordings have from {min(counts)} to {max(counts)} windows; those of a "
                "batch need equally many. Preprocess them one by one, or give the list to a verb "
                "of the model, which takes any lengths."
            )
        return np.stack(batch)

    def read(self, x: AudioInput, *, sampling_rate: int | None = None) -> np.ndarray:
        """The samples of one recording at the spec's sampling rate.

        Args:
            x: the path of a WAV file, its bytes, or an array `[t]` or `[t, channels]`: uint8,
                int16, int32, or floats from -1 to 1. Several channels are averaged, with one
                warning per process.
            sampling_rate: of an array, in Hz; None is the spec's. Files know their own.

        Returns:
            float32 `[t]`, full scale -1 to 1.

        Raises:
            InputError: no WAV file, or one that is damaged, cut short or compressed; an array of
                another type or shape; nothing in it; NaN or infinity; an impossible rate.
            NotFoundError, AccessError: a path that is not there, or not for this user.
        """
        return self.read_named(*named_recordings([x])[0], sampling_rate=sampling_rate)

    def read_named(self, name: str, x: Any, *, sampling_rate: int | None = None) -> np.ndarray:
        """`read` for an item of `named_recordings`; `name` is what errors call it."""
        if sampling_rate is not None:
            sampling_rate = _checked_rate(sampling_rate, name)
        if isinstance(x, np.ndarray):
            samples, rate = x, sampling_rate or self.spec.sampling_rate
        else:
            samples, rate = decode_wav(_file(x, name), name)
            rate = _checked_rate(rate, name)
            if sampling_rate not in (None, rate):
                raise InputError(
                    f"{name} has a sampling rate of {rate} Hz by its header, and sampling_rate="
                    f"{sampling_rate} was given. That is for arrays; leave it out."
                )
        return resample(mono(samples, name), rate, self.spec.sampling_rate)

    def windows(self, samples: np.ndarray) -> np.ndarray:
        """Cut samples into windows with their context.

        Args:
            samples: float32 `[t]`.

        Returns:
            A read-only view `[ceil(t / window), context + window]` that takes no more memory than
            the samples; zeros stand before the first and fill up the last.
        """
        window, context = self.spec.window, self.spec.context
        padded = np.pad(samples, (context, -len(samples) % window))
        if len(padded) == context:
            return np.zeros((0, context + window), np.float32)
        return np.lib.stride_tricks.sliding_window_view(padded, context + window)[::window]


def named_recordings(x: Any) -> list[tuple[str, Any]]:
    """One recording or many, as a list, each with the name that errors give it."""
    items = list(x) if isinstance(x, (list, tuple)) else [x]
    return [
        (item_name(item, i, len(items), alone="The audio", among="Recording"), _plain(item))
        for i, item in enumerate(items)
    ]


# Inputs: from what the user passed to bytes or arrays


def _plain(item: Any) -> Any:
    if isinstance(item, (bytearray, memoryview)):
        return bytes(item)
    if isinstance(item, (str, bytes, os.PathLike, np.ndarray)):
        return item
    if hasattr(item, "__array__") and not np.isscalar(item):
        return np.asarray(item)  # a TensorFlow tensor, say
    raise InputError(
        f"{type(item).__name__} is no audio. Inputs are paths of WAV files, their bytes, and "
        "arrays [t] or [t, channels], or a list or tuple of these."
    )


def _file(item: Any, name: str) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str) and "://" in item:
        raise InputError(f"{name} is an address. Download it and pass the path of the file.")
    with file_errors(name, "a WAV file"):
        return Path(item).expanduser().read_bytes()


def _checked_rate(rate: Any, name: str) -> int:
    least, most = _RATES
    whole = isinstance(rate, (int, np.integer)) and not isinstance(rate, bool)
    if not whole or not least <= rate <= most:
        raise InputError(
            f"{name} has a sampling rate of {rate!r}; a whole number from {least:,} to {most:,} Hz "
            "was expected."
        )
    return int(rate)


# Samples: to float32, to one channel, to the spec's rate


def mono(array: np.ndarray, name: str) -> np.ndarray:
    """Samples `[t]` or `[t, channels]` of any type that audio has, as float32 `[t]`.

    Raises:
        InputError: another type or shape, nothing in it, NaN or infinity.
    """
    found = f"{name} is a {array.dtype} array {list(array.shape)}"
    kind = array.dtype.kind + str(array.dtype.itemsize)
    if kind not in _FULL_SCALE and array.dtype.kind != "f":
        raise InputError(f"{found}. Audio is uint8, int16, int32, or floats from -1 to 1: cast it.")
    if array.ndim not in (1, 2) or array.shape[1:] > (_CHANNELS,):
        hint = " Channels come last: transpose it." if array.ndim == 2 else ""
        raise InputError(f"{found}. Audio is [t] or [t, channels], t in samples.{hint}")
    if array.size == 0:
        raise InputError(f"{name} is empty: it has no samples.")
    if kind in _FULL_SCALE:
        middle = 128 if kind == "u1" else 0
        samples = (array.astype(np.float32) - middle) / np.float32(_FULL_SCALE[kind])
    else:
        _check_floats(array, name)
        samples = array.astype(np.float32, copy=False)
    if samples.ndim == 1:
        return samples
    if samples.shape[1] > 1:
        _warn_of_mixdown()
    return samples.mean(axis=1)


def _check_floats(array: np.ndarray, name: str) -> None:
    loudest = np.abs(array).max()
    if not np.isfinite(loudest):
        place = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
        raise InputError(
            f"{name} has {array[place]} at {list(place)}. Samples are finite numbers: repair what "
            "made them."
        )
    if loudest > _LOUDEST:
        raise InputError(
            f"{name} has floats up to {loudest:.6g}; from -1 to 1 was expected. Divide 16-bit "
            "integers by 32768, or pass them as int16."
        )


@cache
def _warn_of_mixdown() -> None:
    message = "A recording of several channels was averaged into one. This is said once."
    warnings.warn(message, MixdownWarning, stacklevel=2)


def resample(samples: np.ndarray, rate: int, target: int) -> np.ndarray:
    """Resample by a windowed sinc (Smith, "Digital Audio Resampling", CCRMA), in polyphase form.

    The filter is that of `torchaudio.functional.resample` with its defaults: six zero crossings
    under a Hann window, cut off at 0.99 of the lower Nyquist frequency.

    Args:
        samples: float32 `[t]`.
        rate, target: in Hz.

    Returns:
        float32 `[ceil(t * target / rate)]`.
    """
    if rate == target:
        return samples
    divisor = math.gcd(rate, target)
    old, new = rate // divisor, target // divisor
    starts, kernels = _filters(old, new)
    taps = kernels.shape[1]
    length = -(-new * len(samples) // old)
    frames = -(-length // new)  # of `new` values each, made of `old` samples
    padded = np.pad(samples, (taps // 2 - 1, taps // 2 + old))
    values = np.empty((frames, new), np.float32)
    for phase, (start, kernel) in enumerate(zip(starts, kernels, strict=True)):
        view = np.lib.stride_tricks.sliding_window_view(padded[start:], taps)[::old]
        for block in range(0, frames, _BLOCK):
            end = min(block + _BLOCK, frames)
            values[block:end, phase] = view[block:end] @ kernel
    return values.reshape(-1)[:length]


@lru_cache(maxsize=8)
def _filters(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each of `new` phases: its first sample, counted from the frame's, and its filter.

    Returns:
        Integers `[new]`, and float32 `[new, taps]`. The first tap lies `taps / 2 - 1` samples
        before the one at or before the phase's own place.
    """
    cutoff = _ROLLOFF * min(old, new)
    reach = math.ceil(_FILTER_WIDTH * old / cutoff)  # samples on each side
    places = np.arange(new, dtype=np.float64) * old / new
    starts = np.arange(new) * old // new
    taps = np.arange(1 - reach, reach + 1)
    times = ((starts[:, None] + taps) - places[:, None]) * cutoff / old  # in zero crossings
    times = times.clip(-_FILTER_WIDTH, _FILTER_WIDTH)
    window = np.cos(times * np.pi / (2 * _FILTER_WIDTH)) ** 2
    return starts, (np.sinc(times) * window * (cutoff / old)).astype(np.float32)
