"""WAV files: samples and sampling rate from the bytes of a RIFF container.

Multimedia Programming Interface and Data Specifications 1.0 (IBM, Microsoft, 1991) and Microsoft's
WAVEFORMATEXTENSIBLE. Read here, and not by the standard library's `wave`, since that refuses IEEE
floats and, before Python 3.12, the extensible header.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from zoo.errors import InputError

_PCM, _IEEE_FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_CODECS = {2: "ADPCM", 6: "A-law", 7: "mu-law", 0x11: "IMA ADPCM", 0x31: "GSM", 0x55: "MP3"}
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")  # after the tag, in an extensible header
_UNKNOWN_SIZE = 0xFFFFFFFF  # of a writer that cannot go back to the header, such as a pipe
_CONVERT = "ffmpeg -i INPUT -c:a pcm_s16le output.wav"
_OTHER_FORMATS = {  # first bytes: format
    b"ID3": "an MP3 file",
    b"\xff\xfb": "an MP3 file",
    b"\xff\xf3": "an MP3 file",
    b"\xff\xf2": "an MP3 file",
    b"\xff\xf1": "an AAC file",
    b"\xff\xf9": "an AAC file",
    b"OggS": "an Ogg file (Vorbis or Opus)",
    b"fLaC": "a FLAC file",
    b"FORM": "an AIFF file",
    b".snd": "a Sun AU file",
    b"\x1aE\xdf\xa3": "a WebM or Matroska file",
    b"#!AMR": "an AMR file",
    b"RF64": "a WAV file of more than 4 GB (RF64)",
    b"RIFX": "a big-endian WAV file (RIFX)",
}


class _Format(NamedTuple):
    """What the `fmt ` chunk says."""

    tag: int
    channels: int
    sampling_rate: int
    width: int  # bytes of one sample


def decode_wav(data: bytes, name: str) -> tuple[np.ndarray, int]:
    """Decode a WAV file: PCM of 8, 16, 24 or 32 bits, or IEEE floats of 32 or 64.

    Args:
        data: the whole file.
        name: what errors call it.

    Returns:
        Samples `[t, channels]`, uint8, int16, int32 (24 bits in the upper three bytes) or floats,
        and the sampling rate in Hz.

    Raises:
        InputError: another format or codec; a header that makes no sense; a file cut short.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise InputError(f"{name} is no WAV file: it {_guess(data)}. Convert it first: {_CONVERT}")
    layout: _Format | None = None
    start = 12
    while start + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, start)
        start += 8
        if kind == b"fmt ":
            layout = _read_format(data[start : start + size], name)
        elif kind == b"data":
            if layout is None:
                raise InputError(f"{name} is damaged: samples come before their format (fmt).")
            return _read_samples(data, start, size, layout, name), layout.sampling_rate
        start += size + size % 2  # chunks begin at even places
    raise InputError(
        f"{name} is damaged or cut short: a WAV file with no samples in it (no data chunk in "
        f"{len(data):,} bytes)."
    )


def _guess(data: bytes) -> str:
    """What a file that is no WAV seems to be."""
    if data[4:8] == b"ftyp":
        return "seems to be an MP4 file (M4A, AAC)"
    for magic, title in _OTHER_FORMATS.items():
        if data.startswith(magic):
            return f"seems to be {title}"
    return f"starts with {data[:12]!r}" if data else "is empty (zero bytes)"


def _read_format(chunk: bytes, name: str) -> _Format:
    if len(chunk) < 16:
        raise InputError(f"{name} is damaged: its format (fmt) has {len(chunk)} bytes, not 16.")
    tag, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == _EXTENSIBLE and chunk[26:40] == _GUID_TAIL:
        tag = int.from_bytes(chunk[24:26], "little")
    if tag not in (_PCM, _IEEE_FLOAT):
        raise InputError(
            f"{name} is a WAV file whose samples are compressed ({_CODECS.get(tag, hex(tag))}); "
            f"PCM or IEEE floats were expected. Convert it first: {_CONVERT}"
        )
    width = block // channels if channels else 0
    widths = (1, 2, 3, 4) if tag == _PCM else (4, 8)
    if width not in widths or width * channels != block or not 0 < bits <= 8 * width:
        raise InputError(
            f"{name} is damaged: its header says {channels} channels of {bits} bits in blocks of "
            f"{block} bytes."
        )
    return _Format(tag, channels, rate, width)


def _read_samples(data: bytes, start: int, size: int, layout: _Format, name: str) -> np.ndarray:
    there = len(data) - start
    if size == _UNKNOWN_SIZE:
        size = there
    if there < size:
        raise InputError(
            f"{name} is cut short: its header says {size:,} bytes of samples, and {there:,} are "
            "there. Get the whole file."
        )
    frames = size // (layout.width * layout.channels)
    count = frames * layout.channels
    if layout.tag == _IEEE_FLOAT:
        samples = np.frombuffer(data, f"<f{layout.width}", count, start)
    elif layout.width == 3:
        wide = np.zeros((count, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8, 3 * count, start).reshape(count, 3)
        samples = wide.view("<i4")
    else:
        samples = np.frombuffer(data, {1: "u1", 2: "<i2", 4: "<i4"}[layout.width], count, start)
    return samples.reshape(frames, layout.channels)
