"""The two binary formats of a Xet upload: xorbs, which carry chunks of files, and shards.

A xorb is a row of chunks, each compressed on its own behind a header of 8 bytes. A shard says of
which chunks of which xorbs each file consists. All numbers are little-endian. The formats are
specified in https://huggingface.co/docs/xet (pages "xorb" and "shard").
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import lz4.frame

from zoo.hub.errors import BadRequestError

MAX_XORB = 80 << 20  # bytes as sent; the client stops at 64 MiB
_MAX_CHUNK = 1 << 20  # bytes; the client cuts at 128 KiB
_HEADER = 8
_FOOTER = b"XETBLOB"  # where the chunks end and an index that nobody needs begins

_STORED, _LZ4, _GROUPED_LZ4 = range(3)

_RECORD = 48  # bytes; everything in a shard is a multiple of it
_HAS_VERIFICATION, _HAS_METADATA = 1 << 31, 1 << 30
_END_OF_SECTION = b"\xff" * 32
_SHARD_VERSION = 2


class XorbReader:
    """Takes a xorb piece by piece, and gives its chunks as they are in the file."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._ended = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The chunks that are whole now. Raises `BadRequestError`."""
        if self._ended:
            return
        self._rest += piece
        start = 0
        while len(self._rest) - start >= _HEADER:
            if self._rest.startswith(_FOOTER, start):
                self._ended = True
                break
            scheme, packed, size = _chunk_header(self._rest, start)
            end = start + _HEADER + packed
            if end > len(self._rest):
                break
            yield _unpacked(scheme, bytes(self._rest[start + _HEADER : end]), size)
            start = end
        del self._rest[:start]

    def finish(self) -> None:
        """Raises `BadRequestError` where the xorb ended in the middle of a chunk."""
        if self._rest and not self._ended:
            raise BadRequestError("The xorb breaks off in the middle of a chunk.")


def _chunk_header(data: bytearray, start: int) -> tuple[int, int, int]:
    """The compression scheme of a chunk, and its size as sent and as it is."""
    version, scheme = data[start], data[start + 4]
    packed = int.from_bytes(data[start + 1 : start + 4], "little")
    size = int.from_bytes(data[start + 5 : start + 8], "little")
    if version != 0 or scheme > _GROUPED_LZ4:
        raise BadRequestError(f"Unknown chunk: version {version}, compression {scheme}.")
    if not 0 < size <= _MAX_CHUNK or packed > 2 * _MAX_CHUNK:
        raise BadRequestError(f"A chunk of {size} bytes; the most is {_MAX_CHUNK}.")
    return scheme, packed, size


def _unpacked(scheme: int, data: bytes, size: int) -> bytes:
    if scheme != _STORED:
        try:
            # No more than one byte too many is ever unpacked of a chunk that lies about its size.
            data = lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=size + 1)
        except (RuntimeError, EOFError) as error:
            raise BadRequestError(f"A chunk is not LZ4: {error}") from None
    if len(data) != size:
        raise BadRequestError(f"A chunk has not the {size} bytes that it announces.")
    return _ungrouped(data) if scheme == _GROUPED_LZ4 else data


def _ungrouped(data: bytes) -> bytes:
    """Undo a grouping by position modulo 4: all the first bytes come first, and so on."""
    result, start = bytearray(len(data)), 0
    for position in range(min(4, len(data))):
        count = len(range(position, len(data), 4))
        result[position::4] = data[start : start + count]
        start += count
    return bytes(result)


@dataclass(frozen=True)
class Segment:
    """A part of a file: the chunks `[first, last)` of a xorb, `size` bytes together."""

    xorb: str
    first: int
    last: int
    size: int


@dataclass(frozen=True)
class ShardFile:
    """One file of a shard."""

    sha256: str
    segments: list[Segment]

    @property
    def size(self) -> int:
        return sum(segment.size for segment in self.segments)


def read_shard(file: BinaryIO) -> Iterator[ShardFile]:
    """The files of a shard. What else it says of xorbs is for the next client to read.

    Raises:
        BadRequestError: this is no shard, or one with a file whose sha256 it does not tell.
    """
    _, version, _ = struct.unpack("<32sQQ", _record(file))
    if version != _SHARD_VERSION:
        raise BadRequestError(f"A shard of version {version}; expected {_SHARD_VERSION}.")
    while not (header := _record(file)).startswith(_END_OF_SECTION):
        _, flags, count, _ = struct.unpack("<32sIIQ", header)
        segments = [_segment(_record(file)) for _ in range(count)]
        for _ in range(count if flags & _HAS_VERIFICATION else 0):
            _record(file)
        if not flags & _HAS_METADATA:
            raise BadRequestError("The shard tells no sha256 of a file.")
        yield ShardFile(_hex(_record(file)[:32]), segments)


def _record(file: BinaryIO) -> bytes:
    record = file.read(_RECORD)
    if len(record) < _RECORD:
        raise BadRequestError("The shard breaks off.")
    return record


def _segment(record: bytes) -> Segment:
    xorb, _, size, first, last = struct.unpack("<32sIIII", record)
    if first >= last:
        raise BadRequestError(f"A segment of the chunks from {first} to {last}.")
    return Segment(_hex(xorb), first, last, size)


def _hex(value: bytes) -> str:
    """A hash as text: it is four numbers of 64 bits to Xet."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", value))
