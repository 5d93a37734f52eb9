"""The files that a verb is given: folders to files, and what to do with those that are broken."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from zoo.cli.output import note
from zoo.errors import AccessError, DownloadError, InputError, NotFoundError, ZooError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
Verb = Callable[[list[str]], Iterable[Any]]  # of some inputs, a result for each
_UNREADABLE = (InputError, NotFoundError, AccessError, DownloadError)


class Inputs:
    """Inputs by path or address. One that cannot be read is reported, and the others go on.

    Args:
        inputs: paths, `https://` addresses, and folders, which stand for the files in them that
            have one of `suffixes`.

    Attributes:
        names: paths and addresses, in the order given, those of a folder sorted.
        failed: how many could not be read so far.
        noun: what one is called.
        suffixes: of the files that count in a folder.
    """

    noun: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]

    def __init__(self, inputs: Iterable[str]) -> None:
        self.failed = 0
        self.names = [name for entry in inputs for name in self._expanded(entry)]

    def through(self, verb: Verb, batch_size: int, at_once: int = 1) -> Iterator[tuple[str, Any]]:
        """Each input that can be read, and what `verb` gives for it.

        Args:
            verb: takes a list of inputs, gives one result for each.
            batch_size: inputs of a batch.
            at_once: batches for one call; after a failure they are done one by one, and the inputs
                of one that fails again, too.
        """
        sizes = sorted({batch_size * at_once, batch_size, 1}, reverse=True)
        yield from self._pieces(self.names, verb, sizes)

    def _pieces(
        self, names: list[str], verb: Verb, sizes: Sequence[int]
    ) -> Iterator[tuple[str, Any]]:
        for start in range(0, len(names), sizes[0]):
            piece = names[start : start + sizes[0]]
            try:
                yield from zip(piece, verb(piece), strict=True)
            except _UNREADABLE as error:
                if len(piece) > 1:
                    yield from self._pieces(piece, verb, sizes[1:])
                else:
                    self._report(error)

    def _expanded(self, entry: str) -> list[str]:
        path = Path(entry)
        if "://" in entry or path.is_file():
            return [entry]
        if not path.is_dir():
            self._report(NotFoundError(f"{entry} is not there."))
            return []
        found = sorted(str(file) for file in self._in(path))
        below = sorted(folder.name for folder in path.iterdir() if folder.is_dir())
        deeper = [name for name in below if any(self._in(path / name))]
        if not found:
            kinds = ", ".join(self.suffixes)
            message = f"The folder {entry} has no {self.noun} in it ({kinds})."
            self._report(NotFoundError(f"{message}{_give(path, deeper)}"))
        elif deeper:
            note(f"Of {entry}, its own files are taken alone.{_give(path, deeper)}")
        return found

    def _in(self, folder: Path) -> Iterator[Path]:
        files = (file for file in folder.iterdir() if file.suffix.lower() in self.suffixes)
        return (file for file in files if file.is_file())

    def _report(self, error: ZooError) -> None:
        from tqdm import tqdm

        self.failed += 1
        tqdm.write(f"Skipped: {error}", file=sys.stderr)  # it goes round a bar


def _give(folder: Path, names: Sequence[str]) -> str:
    """What to do for the folders in a folder, which have inputs; empty where there are none."""
    if not names:
        return ""
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f" There are more in its folders {shown}: give these, such as {folder / '*'}/."


class Images(Inputs):
    """Pictures."""

    noun = "image"
    suffixes = SUFFIXES


class Recordings(Inputs):
    """Audio files."""

    noun = "recording"
    suffixes = (".wav",)


def progress(
    results: Iterator[tuple[str, Any]], total: int, noun: str = Images.noun
) -> Iterator[tuple[str, Any]]:
    """The results with a bar on standard error, if that is a terminal."""
    from tqdm import tqdm

    return tqdm(results, total=total, unit=noun, leave=False, disable=None)
