"""What the sources of examples hold: folders of class folders, tables, pairs of arrays.

Nothing is decoded here; labels become places in the classes.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
from PIL import Image

from zoo.errors import AccessError, InputError, NotFoundError, did_you_mean
from zoo.preprocessing.spec import ImageSpec, Spec
from zoo.preprocessing.text_spec import TextSpec

Kind = Literal["image", "sequence"]


def kind_of(spec: Spec | None) -> tuple[Kind, bool]:
    """The kind of the inputs of a model with this preprocessing, and whether they are texts."""
    if isinstance(spec, ImageSpec):
        return "image", False
    return "sequence", isinstance(spec, TextSpec) or getattr(spec, "vocabulary", None) is not None


Skipped = tuple[tuple[str, str], ...]

PATH_COLUMNS = ("path", "image", "file")
VALUE_COLUMNS = ("text", "sequence", "input")
TABLES = (".csv", ".tsv", ".jsonl")
SEQUENCE_FILES = {False: (".npy", ".csv", ".txt"), True: (".txt",)}  # of numbers, of text
FORMS = (
    "a folder that has a folder of files for each class, a .csv, .tsv or .jsonl file, a pair "
    "(inputs, labels), or a list of pairs (input, label)"
)

_PARTS = {"train", "training", "val", "valid", "validation", "test", "testing"}


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a source holds, before its labels are understood."""

    inputs: Sequence[Any] | np.ndarray
    labels: Any
    names: Sequence[str]
    classes: Sequence[str] | None = None
    skipped: Skipped = ()


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """How a source is to be read; see `read_examples`."""

    kind: Kind
    text: bool
    input_column: str | None
    label_column: str

    @property
    def suffixes(self) -> Iterable[str]:
        """Of the files of a folder that count."""
        return image_suffixes() if self.kind == "image" else SEQUENCE_FILES[self.text]

    @property
    def nouns(self) -> str:
        """What the files of a folder are, for errors."""
        if self.kind == "image":
            return "images (.jpg, .png, .webp or another suffix that Pillow opens)"
        return f"files with the suffix {' or '.join(self.suffixes)}"


def gathered(source: Any, wanted: Wanted) -> Found:
    """What a source holds.

    Raises:
        InputError: it is none, or of a form that cannot be read.
        NotFoundError, AccessError: a path that is not there, or not for this user.
    """
    if isinstance(source, (str, os.PathLike)):
        path = Path(source).expanduser()
        if path.is_dir():
            return _from_folder(path, wanted)
        if path.is_file():
            return _from_table(path, wanted)
        near: list[str] = []
        with suppress(OSError):
            near = os.listdir(path.parent)  # noqa: PTH208  (names are what is wanted)
        raise NotFoundError(
            f"{path} is not there.{did_you_mean(path.name, near)} Examples are {FORMS}."
        )
    if isinstance(source, tuple) and len(source) == 2:
        return _from_pair(*source, wanted)
    if isinstance(source, list):
        for k, pair in enumerate(source):
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise InputError(
                    f"Item {k} of the list is {short(pair)}; a pair (input, label) was expected. "
                    "Inputs and labels that are apart make a tuple: (inputs, labels)."
                )
        return _from_pair([pair[0] for pair in source], [pair[1] for pair in source], wanted)
    raise InputError(f"Examples cannot be {short(source)}. Expected {FORMS}.")


def _from_pair(inputs: Any, labels: Any, wanted: Wanted) -> Found:
    if isinstance(inputs, (str, bytes, os.PathLike, dict)) or not hasattr(inputs, "__len__"):
        raise InputError(f"The inputs are {short(inputs)}; a list or an array was expected.")
    if not isinstance(inputs, (list, tuple)):
        inputs = np.asarray(inputs)
        if inputs.ndim == 0:
            raise InputError(f"The inputs are {inputs!r}; a list or an array was expected.")
    if not isinstance(inputs, np.ndarray) or inputs.dtype.kind in "OUS":
        inputs = [_item(item, wanted) for item in inputs]
    names = [
        os.fspath(item) if is_file(item, wanted.text) else f"example {k}"
        for k, item in enumerate(inputs)
    ]
    return Found(inputs=inputs, labels=_plain_labels(labels), names=names)


def _item(item: Any, wanted: Wanted) -> Any:
    if isinstance(item, os.PathLike) and wanted.kind == "image":
        return os.fspath(item)
    if isinstance(item, (str, bytes, os.PathLike, Image.Image)) or not hasattr(item, "__array__"):
        return item
    return np.asarray(item)


def is_file(item: Any, text: bool) -> bool:
    """Whether an input is the path of a file; a str is one where it can be nothing else."""
    return isinstance(item, os.PathLike) or (isinstance(item, str) and not text)


# ---------------------------------------------------------------- folders


@cache
def image_suffixes() -> frozenset[str]:
    """Suffixes, in small letters, of the formats that Pillow can open."""
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, name in known.items() if name in Image.OPEN)


def _from_folder(path: Path, wanted: Wanted) -> Found:
    try:
        entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        _refuse_folder(error)
    folders = [entry for entry in entries if entry.is_dir()]
    if not folders:
        raise InputError(
            f"{path} has no class folders; {len(entries):,} files lie in it. Expected a folder for "
            f"each class, named after it, with {wanted.nouns} in it; or a .csv with the columns "
            "path and label."
        )
    if {folder.name.lower() for folder in folders} <= _PARTS:
        raise InputError(
            f"The folders in {path} are {listed(folder.name for folder in folders)}, which are no "
            "classes but parts of a data set. Give each part by its own path, as train and as "
            "validation."
        )
    skipped = [(str(entry), "lies in no class folder") for entry in entries if entry.is_file()]
    files: list[str] = []
    labels: list[str] = []
    for folder in folders:
        inside, others = _files_below(folder, wanted.suffixes)
        skipped += [(name, "is of another kind, by its suffix") for name in others]
        if not inside:
            raise InputError(
                f"The class folder {folder} has no example in it, and {len(others):,} other files. "
                f"Expected {wanted.nouns}: add some, or remove the folder."
            )
        files += inside
        labels += [folder.name] * len(inside)
    return Found(
        inputs=files if wanted.kind == "image" else list(map(Path, files)),
        labels=labels,
        names=files,
        classes=[folder.name for folder in folders],
        skipped=tuple(skipped),
    )


def _files_below(folder: Path, suffixes: Iterable[str]) -> tuple[list[str], list[str]]:
    """Files with one of the suffixes and the others, sorted; links to folders are followed."""
    inside: list[str] = []
    others: list[str] = []
    seen: set[str] = set()
    for base, folders, files in os.walk(folder, onerror=_refuse_folder, followlinks=True):
        seen.add(os.path.realpath(base))
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(Path(base, name)) not in seen
        ]
        for name in files:
            if not name.startswith("."):
                kept = Path(name).suffix.lower() in suffixes
                (inside if kept else others).append(str(Path(base, name)))
    return sorted(inside), sorted(others)


def _refuse_folder(error: OSError) -> NoReturn:
    raise AccessError(
        f"The folder {error.filename} cannot be listed: {error.strerror}. Nothing was read."
    ) from error


# ---------------------------------------------------------------- tables


def _from_table(path: Path, wanted: Wanted) -> Found:
    if path.suffix.lower() not in TABLES:
        raise InputError(
            f"{path} is a file, and none of {', '.join(TABLES)}. Examples are {FORMS}."
        )
    read = _json_lines if path.suffix.lower() == ".jsonl" else _csv_rows
    inputs, labels, names = [], [], []
    column: str | None = None
    try:
        for name, row in read(path):
            if column is None:
                column = _input_column(row, path, wanted)
                _check_column(wanted.label_column, row, path)
            if missing := [key for key in (column, wanted.label_column) if key not in row]:
                raise InputError(f"{name} has no {missing[0]!r}; it has {listed(row)}.")
            inputs.append(_cell(row[column], column, path, name, wanted))
            labels.append(row[wanted.label_column])
            names.append(name)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is no text in UTF-8 (byte {error.start}), so it is no {path.suffix} file. "
            "Save it as one."
        ) from error
    except csv.Error as error:
        raise InputError(
            f"{path} cannot be read as {path.suffix}: {error}. A .jsonl file may hold anything."
        ) from error
    except OSError as error:
        raise AccessError(f"{path} cannot be read: {error.strerror}.") from error
    return Found(inputs=inputs, labels=labels, names=names)


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and cells of each row; the first row names the columns."""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = enumerate(csv.reader(file, delimiter=delimiter), 1)
        _, header = next(rows, (0, []))
        header = [column.strip() for column in header]
        for number, cells in rows:
            if not cells:
                continue
            name = f"row {number} of {path.name}"
            if len(cells) != len(header):
                raise InputError(
                    f"{name} has {len(cells)} cells, and the first row names {len(header)} "
                    f"columns, {listed(header)}. Put values that hold a {delimiter!r} in quotes."
                )
            yield name, dict(zip(header, cells, strict=True))


def _json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and object of each line."""
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            name = f"line {number} of {path.name}"
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{name} is no JSON: {error}.") from error
            if not isinstance(row, dict):
                raise InputError(
                    f'{name} is {short(row)}; an object such as {{"path": ..., "label": ...}} was '
                    "expected."
                )
            yield name, row


def _input_column(row: dict[str, Any], path: Path, wanted: Wanted) -> str:
    if wanted.input_column is not None:
        return _check_column(wanted.input_column, row, path)
    known = PATH_COLUMNS if wanted.kind == "image" else (*VALUE_COLUMNS, *PATH_COLUMNS)
    for column in known:
        if column in row:
            return column
    raise InputError(
        f"{path} has no column of inputs, {' or '.join(map(repr, known))}; its columns are "
        f"{listed(row)}. Name it with input_column=."
    )


def _check_column(column: str, row: dict[str, Any], path: Path) -> str:
    if column not in row:
        raise InputError(
            f"{path} has no column {column!r}.{did_you_mean(column, row)} Its columns, by its "
            f"first line, are {listed(row)}."
        )
    return column


def _cell(value: Any, column: str, path: Path, name: str, wanted: Wanted) -> Any:
    """The input that a cell of a table holds."""
    if wanted.kind == "image" or column in PATH_COLUMNS:
        if not isinstance(value, str) or not value:
            raise InputError(f"{name} has {value!r} for {column!r}; a path was expected.")
        if "://" in value:
            return value
        file = path.parent / value
        return str(file) if wanted.kind == "image" else file
    if wanted.text:
        return value
    try:
        if isinstance(value, str):
            value = json.loads(value) if value.lstrip().startswith("[") else value.split()
        return np.array(value, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name} has {short(value)} for {column!r}, which are no numbers: {error}. Expected "
            "JSON, or numbers parted by spaces."
        ) from error


# ---------------------------------------------------------------- labels


def _plain_labels(labels: Any) -> list[Any]:
    """Labels as a list of Python's own values."""
    if isinstance(labels, (list, tuple)):
        return list(labels)
    if not hasattr(labels, "__array__"):
        raise InputError(f"The labels are {short(labels)}; a list or an array was expected.")
    array = np.asarray(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise InputError(
            f"The labels are an array {list(array.shape)}; one class for each input, [n], was "
            "expected. Of one-hot rows take labels.argmax(-1)."
        )
    return array.tolist()


def as_places(
    labels: Sequence[Any], names: Sequence[str], classes: Sequence[str] | None
) -> tuple[np.ndarray, Sequence[str]]:
    """Labels as places in the classes, int32 `[n]`, and the classes.

    Args:
        names: of the examples, for errors.
        classes: None: those that occur.

    Raises:
        InputError: a label that is missing, of another type, or no class.
    """
    labels = [label.item() if isinstance(label, np.generic) else label for label in labels]
    _check_labels(labels, names)
    if isinstance(labels[0], str):
        classes = sorted(set(labels)) if classes is None else classes
        known = _by_name(classes)
        numbers = all(label.isdecimal() for label in labels)
        if not numbers or any(name.isdecimal() for name in known):
            pairs = zip(labels, names, strict=True)
            found = [_place(label, name, known, classes) for label, name in pairs]
            return np.array(found, np.int32), classes
        labels = [int(label) for label in labels]  # places of classes with names, in a .csv
    if classes is None:
        classes = _numbered(labels)
    for label, name in zip(labels, names, strict=True):
        if not 0 <= label < len(classes):
            raise InputError(
                f"The label of {name} is {label}; there are {len(classes):,} classes, 0 to "
                f"{len(classes) - 1}."
            )
    return np.array(labels, np.int32), classes


def _check_labels(labels: Sequence[Any], names: Sequence[str]) -> None:
    pairs = list(zip(labels, names, strict=True))
    for label, name in pairs:  # first, since a cast would make numbers of them
        if label is None or label == "" or label != label:
            raise InputError(
                f"The label of {name} is missing ({label!r}). Give it one, or leave the example "
                "out."
            )
    for label, name in pairs:
        if not isinstance(label, (str, int)):
            raise InputError(
                f"The label of {name} is {label!r}, of type {type(label).__name__}. Labels are "
                "names of classes, or whole numbers: labels.astype(int)."
            )
        if isinstance(label, str) != isinstance(labels[0], str):
            raise InputError(
                f"The label of {name} is {label!r}, and the first one {labels[0]!r}: all of them "
                "are names, or all are whole numbers."
            )


def _numbered(labels: Sequence[int]) -> list[str]:
    """The names of classes that are known by number alone."""
    found = sorted(set(labels))
    missing = next((k for k, label in enumerate(found) if k != label), None)
    if missing is not None:
        raise InputError(
            f"The labels are {len(found):,} different numbers from {found[0]} to {found[-1]}, and "
            f"none is {missing}. Number the classes from 0 with none left out, or give them names."
        )
    return [str(int(label)) for label in found]


def _by_name(classes: Sequence[str]) -> dict[str, list[int]]:
    """Places by name; the names that a class lists between commas are names of it too."""
    known: dict[str, list[int]] = {}
    for place, label in enumerate(classes):
        known.setdefault(label, []).append(place)
    whole = set(known)
    for place, label in enumerate(classes):
        for name in {part.strip() for part in label.split(",")} - whole:
            known.setdefault(name, []).append(place)
    return known


def _place(label: str, name: str, known: dict[str, list[int]], classes: Sequence[str]) -> int:
    places = known.get(label, [])
    if len(places) > 1:
        raise InputError(
            f"The label of {name} is {label!r}, the name of {len(places)} classes, "
            f"{listed(places)}. Give the whole name, or the class's number."
        )
    if not places:
        raise InputError(
            f"The label of {name} is {label!r}, which is no class.{did_you_mean(label, known)} "
            f"The {len(classes):,} classes are {listed(classes)}."
        )
    return places[0]


# ---------------------------------------------------------------- words


def listed(names: Iterable[Any], limit: int = 8) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(repr(name) for name in names[:limit]) + more


def short(value: Any) -> str:
    """A value in a few words, for errors."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (str, int, float)) or value is None:
        text = repr(value)
        return text if len(text) <= 200 else f"{text[:200]}..."
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array {value.dtype} {list(value.shape)}"
    size = f" of {len(value):,}" if hasattr(value, "__len__") else ""
    return f"a {type(value).__name__}{size}"
