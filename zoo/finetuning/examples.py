"""What a model learns from, or is measured by: inputs with classes, from folders, tables, arrays.

Nothing is decoded here but sequences; `readable` tries every image once, before hours of training
find the one that is damaged.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from zoo.errors import AccessError, InputError, NotFoundError, OptionError, ZooError
from zoo.finetuning.sources import (
    FORMS,
    Kind,
    Skipped,
    Wanted,
    as_places,
    gathered,
    is_file,
    listed,
    short,
)
from zoo.preprocessing.image import ImagePreprocessor
from zoo.preprocessing.spec import ImageSpec

# Whoever always names the larger of two classes is right in 80 % of cases when it is 4 times as
# large: from there on accuracy alone says little.
IMBALANCE = 4

_THREADS = min(8, os.cpu_count() or 1)
_CHUNK = 128  # inputs that are handed to the threads at a time: an error waits for these alone
_BAR_FROM = 256  # inputs from which work shows a bar
_UNREADABLE = (InputError, NotFoundError, AccessError)
# Pictures that preprocessing takes without fail: of these modes, and of no extreme shape.
_PLAIN_MODES = {"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"}
_PLAIN_RATIO = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """Inputs, and the class of each.

    Attributes:
        inputs: of images: paths (str), bytes, PIL images or uint8 arrays `[h, w, c]`; of
            sequences: texts, lists of tokens, or arrays `[t, features]`.
        labels: int32 `[n]`, places in `classes`.
        classes: names of the classes.
        names: what reports call each input: its path, "row 17 of flowers.csv", "example 17".
        skipped: name and reason of what was left out.
        kind: of the inputs; a str is a path for images, and a text for sequences.
        encoded: what `pipeline.encode` made of sequences, and the spec that it is for.

    Raises:
        InputError: there are not as many labels and names as inputs.
    """

    inputs: Sequence[Any] | np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    names: tuple[str, ...]
    skipped: Skipped = ()
    kind: Kind = "image"
    encoded: list[tuple[Any, list[Any]]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        if not len(self.inputs) == len(self.labels) == len(self.names):
            raise InputError(
                f"There are {len(self.inputs):,} inputs, {len(self.labels):,} labels and "
                f"{len(self.names):,} names; one label for each input was expected."
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: np.ndarray | slice) -> Examples:
        """Some of the examples, in the order of `rows`."""
        places = np.arange(len(self))[rows]
        held = self.inputs
        chosen = held[places] if isinstance(held, np.ndarray) else [held[k] for k in places]
        names = tuple(self.names[k] for k in places)
        return replace(self, inputs=chosen, labels=self.labels[places], names=names)

    def counts(self) -> np.ndarray:
        """Examples of each class, int64 `[classes]`."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def fingerprint(self) -> str:
        """The sha256, in hex, of what the examples are.

        Files count by path, size and time of change, other inputs by their contents; besides come
        labels and classes.
        """
        digest = hashlib.sha256(json.dumps(self.classes).encode())
        digest.update(self.labels.astype("<i4").tobytes())
        for item in self.inputs:
            for part in _identity(item, path=self.kind == "image"):
                digest.update(len(part).to_bytes(8, "little"))
                digest.update(part)
        return digest.hexdigest()

    def imbalance(self) -> str | None:
        """A sentence on the largest and the smallest class where they are far apart, else None."""
        counts = self.counts()
        present = np.flatnonzero(counts)
        if not len(present):
            return None
        most, least = (int(present[f(counts[present])]) for f in (np.argmax, np.argmin))
        if counts[most] < IMBALANCE * counts[least]:
            return None
        return (
            f"The classes are of unequal size: {self.classes[most]!r} has {counts[most]:,} "
            f"examples, {self.classes[least]!r} {counts[least]:,}. Look at macro F1 besides "
            "accuracy, and consider class_weights='balanced'."
        )


def _identity(item: Any, *, path: bool) -> Iterator[bytes]:
    if isinstance(item, str) and path:
        yield from (b"path", os.fsencode(item))
        try:
            status = Path(item).expanduser().stat()
            yield f"{status.st_size} {status.st_mtime_ns}".encode()
        except OSError:  # an address, or a file that reading will tell of
            yield b"no file"
    elif isinstance(item, str):
        yield from (b"text", item.encode("utf-8", "surrogatepass"))
    elif isinstance(item, bytes):
        yield from (b"bytes", item)
    elif isinstance(item, Image.Image):
        yield from (f"{item.mode} {item.size} {item.getpalette()}".encode(), item.tobytes())
    else:
        array = np.ascontiguousarray(item)
        yield from (f"{array.dtype} {array.shape}".encode(), array.tobytes())


# ---------------------------------------------------------------- reading


def read_examples(
    source: Any,
    *,
    kind: Kind,
    classes: Sequence[str] | None = None,
    strict: bool = False,
    input_column: str | None = None,
    label_column: str = "label",
    text: bool = False,
) -> Examples:
    """Examples from any of the forms that they may come in.

    Folders: the files of each class in a folder of its name, at any depth; hidden files do not
    count, and files of another kind are listed as skipped. Tables: a row for each example, with a
    column `path`, `image` or `file` (relative to the table), or, for sequences, `text`, `sequence`
    or `input` (a text; or numbers, as JSON or parted by spaces).

    Args:
        source: a folder of class folders, a .csv, .tsv or .jsonl file, a pair (a tuple)
            `(inputs, labels)`, or a list of pairs `(input, label)`. For sequences of numbers an
            input that is a str is the path of a file; for texts only a `Path` is.
        kind: of the inputs.
        classes: names and order of the classes. Labels are then these names, or one of the names
            that a class lists between commas, or int places; not every class must occur. None: the
            names that occur, sorted, or "0", "1", ... for int labels.
        strict: a file of a sequence that cannot be read is an error. (Images: see `readable`.)
        input_column, label_column: of a table.
        text: sequences are texts, not numbers.

    Raises:
        InputError: a source that is none of these, a class without examples, one class alone, a
            label that is no class, inputs that are no images.
        NotFoundError, AccessError: a path that is not there, or not for this user.
    """
    wanted = Wanted(kind=kind, text=text, input_column=input_column, label_column=label_column)
    found = gathered(source, wanted)
    if not len(found.inputs):
        raise InputError(f"There is no example in {short(source)}. Expected {FORMS}.")
    if len(found.inputs) != len(found.labels):
        raise InputError(
            f"There are {len(found.inputs):,} inputs and {len(found.labels):,} labels; one label "
            "for each input was expected."
        )
    names = found.classes if classes is None else classes
    labels, names = as_places(found.labels, found.names, names)
    examples = Examples(
        inputs=found.inputs,
        labels=labels,
        classes=tuple(names),
        names=tuple(found.names),
        skipped=found.skipped,
        kind=kind,
    )
    if kind == "image":
        _check_images(examples)
    elif not isinstance(examples.inputs, np.ndarray):
        examples = _through(examples, lambda item: _loaded(item, text), strict)
    if classes is None:
        _check_classes(examples)
    return examples


def _check_classes(examples: Examples) -> None:
    """Refuse what nothing can be learned from."""
    if len(examples.classes) < 2:
        raise InputError(
            f"All {len(examples):,} examples are of one class, {examples.classes[0]!r}; at least "
            "two classes were expected."
        )


# ---------------------------------------------------------------- inputs


def _check_images(examples: Examples) -> None:
    """Refuse arrays that are no images, which no file's fate excuses."""
    held = examples.inputs
    if isinstance(held, np.ndarray):
        _check_array(held, "The inputs are", "[n, h, w, 3]", (3, 4))
        return
    for name, item in zip(examples.names, held, strict=True):
        if isinstance(item, np.ndarray):
            _check_array(item, f"{name} is", "[h, w, 3]", (2, 3))
        elif not isinstance(item, (str, bytes, Image.Image)):
            raise InputError(
                f"{name} is {short(item)}. Images are paths, bytes, PIL images and uint8 arrays "
                "[h, w, 3]."
            )


def _check_array(array: np.ndarray, start: str, shape: str, ranks: tuple[int, ...]) -> None:
    found = f"{start} {array.dtype} {list(array.shape)}"
    if array.dtype.kind == "f":
        extent = f", values {array.min():.3g} to {array.max():.3g}" if array.size else ""
        raise InputError(
            f"{found}{extent}. Images are uint8 with values 0 to 255. If yours are 0 to 1: "
            "(255 * x).round().astype('uint8'). If they are preprocessed already, give a "
            "tf.data.Dataset of batches (x, y)."
        )
    if array.dtype != np.uint8 or array.ndim not in ranks:
        raise InputError(f"{found}. Images are uint8 arrays {shape} with values 0 to 255.")


def _loaded(item: Any, text: bool) -> Any:
    """A text, a list of tokens, or an array; read from its file if it is one."""
    if not is_file(item, text):
        return item if text else _as_array(item)
    path = Path(item).expanduser()
    try:
        if path.suffix.lower() == ".npy" and not text:
            return np.load(path, allow_pickle=False)
        content = path.read_text("utf-8-sig")
        return content if text else _numbers(content, path)
    except FileNotFoundError as error:
        raise NotFoundError(f"{path} is not there.") from error
    except OSError as error:
        raise AccessError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, EOFError) as error:  # of text too: UnicodeDecodeError is one
        raise InputError(
            f"{path} cannot be read as {'text' if text else 'numbers'}: {error}."
        ) from error


def _as_array(item: Any) -> np.ndarray:
    try:
        return np.asarray(item)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"It is {short(item)}, which makes no array of numbers: {error}."
        ) from error


def _numbers(content: str, path: Path) -> np.ndarray:
    """float64 `[t, features]` of a text with a line for each step."""
    delimiter = "," if path.suffix.lower() == ".csv" else None
    lines = [line for line in content.splitlines() if line.strip()]
    return np.array([[float(cell) for cell in line.split(delimiter)] for line in lines], np.float64)


def readable(
    examples: Examples, strict: bool = False, preprocess: Callable[[Any], Any] | None = None
) -> Examples:
    """Without the examples that preprocessing cannot read; a warning says which these are.

    Every input is read once, files in threads. An image that Pillow decodes to one of the usual
    modes goes no further; others, and sequences, go through all of the preprocessing.

    Args:
        strict: the first one that cannot be read is an error.
        preprocess: the model's; None: that of photographs, and sequences are taken as they are.

    Raises:
        InputError: a class has no example left, or `strict`.
        NotFoundError, AccessError: `strict`.
        DownloadError: an address that could not be read: which examples there are must not hang on
            the network.
    """
    if examples.kind == "image":
        pictures = preprocess or ImagePreprocessor(ImageSpec())
        return _through(examples, partial(_tried_image, preprocess=pictures, lock=Lock()), strict)
    if preprocess is None:
        return examples

    def tried(item: Any) -> Any:
        preprocess([item])
        return item

    return _through(examples, tried, strict)


def _tried_image(item: Any, preprocess: Any, lock: Any) -> Any:
    # two threads must not load one and the same image
    with lock if isinstance(item, Image.Image) else nullcontext():
        picture = preprocess.read(item)
        if not (preprocess.spec.channels in (1, 3) and _is_plain(picture)):
            preprocess([item])
    return item


def _is_plain(picture: Image.Image | np.ndarray) -> bool:
    """Whether there is nothing in it that preprocessing may refuse."""
    if isinstance(picture, np.ndarray):
        usual, edges = picture.ndim == 2 or picture.shape[-1] in (1, 3, 4), picture.shape[:2]
    else:
        usual, edges = picture.mode in _PLAIN_MODES, picture.size
    return usual and 0 < max(edges) <= _PLAIN_RATIO * min(edges)


def _through(examples: Examples, read: Callable[[Any], Any], strict: bool) -> Examples:
    """What `read` makes of the inputs, without those that it cannot read."""
    results = []
    errors: dict[int, ZooError] = {}
    for row, result in enumerate(_results(read, examples.inputs)):
        if isinstance(result, ZooError):
            errors[row] = result
            if strict:
                break
        else:
            results.append(result)
    rest = without(examples, errors, strict)
    return rest if isinstance(rest.inputs, np.ndarray) else replace(rest, inputs=results)


def _results(read: Callable[[Any], Any], inputs: Sequence[Any] | np.ndarray) -> Iterator[Any]:
    """`read(input)` for each, in order; in its place, the error that says it is unreadable."""

    def attempt(item: Any) -> Any:
        try:
            return read(item)
        except _UNREADABLE as error:
            return error

    silent = True if len(inputs) < _BAR_FROM else None  # None: tqdm decides by the terminal
    with (
        ThreadPoolExecutor(_THREADS, "read") as threads,
        tqdm(total=len(inputs), desc="read", unit="file", disable=silent, leave=False) as bar,
    ):
        for start in range(0, len(inputs), _CHUNK):
            for result in threads.map(attempt, inputs[start : start + _CHUNK]):
                bar.update()
                yield result


def without(examples: Examples, errors: Mapping[int, ZooError], strict: bool) -> Examples:
    """The examples but for those that cannot be read, with one warning.

    Args:
        errors: what is wrong with them, by row.
        strict: the first of them is an error.

    Raises:
        ZooError: `strict`, and there is one.
        InputError: a class has no example left.
    """
    if not errors:
        return examples
    named = [(examples.names[row], str(error)) for row, error in sorted(errors.items())]
    if strict:
        row = min(errors)
        raise type(errors[row])(": ".join(named[0])) from errors[row]
    rest = examples[np.setdiff1d(np.arange(len(examples)), list(errors))]
    shown = "".join(f"\n  {name}: {reason}" for name, reason in named[:3])
    shown += f"\n  and {len(named) - 3:,} more" if len(named) > 3 else ""
    count = f"{len(named):,} of {len(examples):,} examples"
    if len(emptied := np.flatnonzero((examples.counts() > 0) & (rest.counts() == 0))):
        raise InputError(
            f"{listed(examples.classes[k] for k in emptied)} has no example that can be read; "
            f"{count} cannot. Replace the files, or leave the class out.{shown}"
        )
    warnings.warn(
        f"{count} cannot be read and are left out; with strict this is an error.{shown}",
        UserWarning,
        stacklevel=4,
    )
    return replace(rest, skipped=(*examples.skipped, *named))


# ---------------------------------------------------------------- splitting


def split(examples: Examples, part: float, seed: int) -> tuple[Examples, Examples]:
    """Training and validation examples, each in the order that they came in.

    Each class gives `part` of its examples to validation, rounded so that the total is right, and
    has at least one on each side. Which ones they are follows from the seed.

    Args:
        part: of the examples, for validation; between 0 and 1.
        seed: not negative.

    Returns:
        Training, which keeps the list of what was skipped, and validation.

    Raises:
        InputError: a class of one example.
        OptionError: a part that is none, or a negative seed.
    """
    if seed < 0:
        raise OptionError(f"seed is {seed}; 0 or more was expected.")
    if not 0 < part < 1:
        raise OptionError(f"{part!r} of the examples for validation; between 0 and 1 was expected.")
    counts = examples.counts()
    if len(single := np.flatnonzero(counts == 1)):
        names = listed(examples.classes[k] for k in single)
        raise InputError(
            f"Class {names} has one example, which cannot be in training and in validation. Add "
            "examples, or give validation of your own."
        )
    held_out = np.zeros(len(examples), bool)
    for place, number in enumerate(_shares(counts, part)):
        rows = np.flatnonzero(examples.labels == place)
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(place,)))
        held_out[rng.permutation(rows)[:number]] = True
    training, validation = examples[np.flatnonzero(~held_out)], examples[np.flatnonzero(held_out)]
    return training, replace(validation, skipped=())


def _shares(counts: np.ndarray, part: float) -> np.ndarray:
    """How many of each class's examples make `part`, int `[classes]`."""
    exact = counts * part
    whole = np.clip(np.floor(exact), counts > 0, np.maximum(counts - 1, 0)).astype(int)
    missing = max(0, round(exact.sum()) - int(whole.sum()))
    room = np.where((whole < counts - 1) & (whole < exact), exact - whole, 0)
    most = np.argsort(-room, kind="stable")[:missing]
    whole[most[room[most] > 0]] += 1
    return whole
