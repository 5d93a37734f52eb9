"""How uploads by Xet become contents: chunks are kept until the files they are of are whole.

Of a file, the client sends only the chunks that it did not send before. Once a file is put together
and stored, the chunks are found in there (the table `spans`), and the xorb that brought them goes.
A client remembers for weeks which chunks a *space* has; each repo has a space of its own, and gets
a new one when `Storage.gc` removes something.

    incoming/<space>/<xorb>          the chunks of a xorb, unpacked
    incoming/<space>/<xorb>.ends     where each of them ends, as 32-bit numbers
"""

from __future__ import annotations

import uuid
from array import array
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.dialects.sqlite import insert as upsert

from zoo.hub import database as db
from zoo.hub.blobs import CHUNK, BlobFolder, full_disk_is_an_error
from zoo.hub.errors import BadRequestError, ContentError
from zoo.hub.xorbs import Segment, ShardFile, XorbReader

_MAX_UNPACKED = 256 << 20  # bytes of a xorb


class IncomingXorb:
    """A xorb that is being received."""

    def __init__(self, folder: Path, name: str) -> None:
        self._target = folder / name
        self._draft = folder / f"{name}.{uuid.uuid4().hex}"
        self._reader = XorbReader()
        self._ends = array("I")
        with full_disk_is_an_error():
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._draft.open("xb")

    def write(self, piece: bytes) -> None:
        with full_disk_is_an_error():
            for chunk in self._reader.feed(piece):
                end = (self._ends[-1] if self._ends else 0) + len(chunk)
                if end > _MAX_UNPACKED:
                    raise BadRequestError(f"A xorb of more than {_MAX_UNPACKED} bytes.")
                self._file.write(chunk)
                self._ends.append(end)

    def keep(self) -> None:
        self._reader.finish()
        with full_disk_is_an_error():
            self._file.close()
            _ends_file(self._target).write_bytes(self._ends.tobytes())
            self._draft.replace(self._target)

    def close(self) -> None:
        self._draft.unlink(missing_ok=True)
        with suppress(OSError):  # what was not written yet need not be written any more
            self._file.close()


@dataclass(frozen=True)
class _Extent:
    """Bytes of a file that hold the chunks `[first, last)` of a xorb, the last ending at `ends`."""

    xorb: str
    first: int
    last: int
    file: Path
    offset: int
    ends: array[int]  # of each chunk, from `offset`

    @property
    def size(self) -> int:
        return self.ends[-1]

    def cut(self, first: int, last: int) -> _Extent:
        """The part with these chunks, which are some of its own."""
        skipped = self.ends[first - self.first - 1] if first > self.first else 0
        ends = self.ends[first - self.first : last - self.first]
        ends = array("I", (end - skipped for end in ends))
        return _Extent(self.xorb, first, last, self.file, self.offset + skipped, ends)

    def read(self) -> Iterator[bytes]:
        with self.file.open("rb") as file:
            file.seek(self.offset)
            left = self.size
            while left and (piece := file.read(min(CHUNK, left))):
                yield piece
                left -= len(piece)


class Assembly:
    """Puts the files of one space together."""

    def __init__(self, database: db.Database, blobs: BlobFolder, space: str) -> None:
        self._db = database
        self._blobs = blobs
        self._space = space
        self._folder = blobs.incoming / space

    def receive(self, xorb: str) -> IncomingXorb:
        """A xorb to be written, kept and closed."""
        return IncomingXorb(self._folder, xorb)

    def assemble(self, file: ShardFile) -> None:
        """Store the content of a file.

        Raises:
            ContentError: chunks that have not come in, or that are not what the file should be.
        """
        try:
            extents = self._store(file)
        except FileNotFoundError:
            # Another upload of the same chunks was faster: they have moved to a content by now.
            extents = self._store(file)
        self._remember(file, extents)
        for xorb in {segment.xorb for segment in file.segments}:
            self._drop_if_covered(xorb)

    def _store(self, file: ShardFile) -> list[_Extent]:
        extents = [extent for segment in file.segments for extent in self._extents(segment)]
        with self._blobs.receive() as content:
            for extent in extents:
                for piece in extent.read():
                    content.write(piece)
            content.check(file.sha256, file.size)
            self._blobs.keep(content)
        return extents

    def _extents(self, segment: Segment) -> Iterator[_Extent]:
        """Where the chunks of a segment are, in order."""
        first = segment.first
        while first < segment.last:
            extent = self._find(segment.xorb, first)
            last = min(extent.last, segment.last)
            yield extent.cut(first, last)
            first = last

    def _find(self, xorb: str, chunk: int) -> _Extent:
        """An extent that has the chunk."""
        ends = self._ends(xorb)
        if chunk < len(ends):
            return _Extent(xorb, 0, len(ends), self._folder / xorb, 0, ends)
        span = db.spans.c
        query = self._spans(xorb).where(span.first <= chunk, span.last > chunk)
        with self._db.read() as connection:
            row = connection.execute(query.order_by(span.last.desc()).limit(1)).one_or_none()
        if row is None:
            raise ContentError(f"Chunk {chunk} of xorb {xorb} has not come in: start over.")
        path = self._blobs.path(row.sha256)
        return _Extent(xorb, row.first, row.last, path, row.offset, array("I", row.ends))

    def _ends(self, xorb: str) -> array[int]:
        """Where the chunks of a xorb that is here end; of none where it is not."""
        file = self._folder / xorb
        return array("I", _ends_file(file).read_bytes() if file.exists() else b"")

    def _spans(self, xorb: str) -> Select[Any]:
        return select(db.spans).where(db.spans.c.space == self._space, db.spans.c.xorb == xorb)

    def _remember(self, file: ShardFile, extents: Iterable[_Extent]) -> None:
        rows, offset = [], 0
        for extent in extents:
            chunks = {"first": extent.first, "last": extent.last, "ends": extent.ends.tobytes()}
            place = {"space": self._space, "xorb": extent.xorb, "sha256": file.sha256}
            rows.append({**place, **chunks, "offset": offset})
            offset += extent.size
        with self._db.write() as connection:
            connection.execute(upsert(db.spans).on_conflict_do_nothing(), rows)

    def _drop_if_covered(self, xorb: str) -> None:
        """Remove a xorb of which every chunk is in some content now."""
        reach = 0
        with self._db.read() as connection:
            for row in connection.execute(self._spans(xorb).order_by(db.spans.c.first)):
                if row.first <= reach:
                    reach = max(reach, row.last)
        if reach >= len(self._ends(xorb)):
            (self._folder / xorb).unlink(missing_ok=True)
            _ends_file(self._folder / xorb).unlink(missing_ok=True)


def _ends_file(xorb: Path) -> Path:
    return xorb.with_name(f"{xorb.name}.ends")
