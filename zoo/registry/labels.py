"""Names of classes: the ImageNet label sets, as data (written by `scripts/cards/labels.py`).

`labels/<set>.txt.gz` lists a set's WordNet synsets in class order, `labels/lemmas.tsv.gz` gives
each synset its name, and `labels/index.json` the number of classes of each set.
"""

from __future__ import annotations

import functools
import gzip
import json
from collections import Counter
from collections.abc import Iterable, KeysView, Mapping, Set
from pathlib import Path
from typing import Any

from zoo.errors import OptionError, UnknownNameError, did_you_mean
from zoo.options import plain

FOLDER = Path(__file__).parent / "labels"


@functools.cache
def _sizes() -> dict[str, int]:
    return json.loads((FOLDER / "index.json").read_text("utf-8"))


def names() -> list[str]:
    """The label sets that ship with zoo, sorted."""
    return sorted(_sizes())


def infer(num_classes: int) -> str | None:
    """The label set with this many classes, or None. It is a guess, the same that timm makes."""
    return next((name for name, size in _sizes().items() if size == num_classes), None)


def size(name: str) -> int | None:
    """The number of classes of a label set, which is not read; None where there is no such set."""
    return _sizes().get(name)


@functools.cache
def synsets(name: str) -> tuple[str, ...]:
    """WordNet identifiers of a label set, such as `n01440764`, in class order.

    Raises:
        UnknownNameError: no such label set.
    """
    if name not in _sizes():
        raise UnknownNameError(
            f"There is no label set {name!r}; there are {', '.join(names())}."
            f"{did_you_mean(name, names())}"
        )
    return tuple(_lines(f"{name}.txt.gz"))


@functools.cache
def labels(name: str) -> tuple[str, ...]:
    """Display names of a label set, such as `tench, Tinca tinca`, in class order.

    Two classes may share a name (ImageNet-1k has two cranes); synsets are unique.

    Raises:
        UnknownNameError: no such label set.
    """
    return tuple(_lemmas()[synset] for synset in synsets(name))


# ---------------------------------------------------------------- labels of a caller's own


def as_labels(given: Any) -> tuple[str, ...]:
    """Names of classes as a caller gives them, in the order of the logits.

    Args:
        given: names in their order (a list, a tuple, an array `[n]`, any iterable but a set), names
            by index (`{0: "cat"}`, `{"0": "cat"}`) or indices by name (`{"cat": 0}`). Whole numbers
            in place of all names stand for their digits.

    Raises:
        OptionError: what has no order, a gap or an index twice, no names at all, a name that is no
            text, is empty, has several lines, or is there twice. A label set of ours may have a
            name twice, as ImageNet-1k has two cranes.
    """
    names = _in_order(given) if isinstance(given, Mapping) else _listed(given)
    if not names:
        raise OptionError("labels is empty. For features without classes take num_classes=0.")
    if all(map(_is_index, names)):
        names = [str(name) for name in names]
    for place, name in enumerate(names):
        if not isinstance(name, str):
            raise OptionError(
                f"labels has {name!r} ({type(name).__name__}) at place {place}; all of them must "
                "be texts, or all whole numbers."
            )
        if not name.strip() or name.splitlines() != [name]:
            raise OptionError(f"labels has {name!r} at place {place}, which is no name in a line.")
    labels = tuple(names)
    ((most, times),) = Counter(labels).most_common(1)
    if times > 1 and not _is_ours(labels):
        places = ", ".join(str(k) for k, name in enumerate(labels) if name == most)
        raise OptionError(f"labels has {most!r} {times} times, at the places {places}.")
    return labels


def _listed(given: Any) -> list[Any]:
    """Names that come in an order."""
    if isinstance(given, str | bytes | bytearray) or not isinstance(given, Iterable):
        raise OptionError(f"labels={given!r}: a list of names was expected, one for each class.")
    if hasattr(given, "readlines"):
        raise OptionError(
            "labels is an open file, whose lines end with a line break: give "
            "labels=file.read().splitlines()."
        )
    if isinstance(given, Set) and not isinstance(given, KeysView):
        raise OptionError(
            f"labels is a {type(given).__name__}, which has no order, and the order of labels is "
            "that of the logits. Give a list, such as sorted(labels)."
        )
    if (axes := getattr(given, "ndim", 1)) != 1:
        raise OptionError(f"labels has {axes} axes; one name for each class was expected.")
    return [plain(name) for name in given]


def _in_order(given: Mapping[Any, Any]) -> list[Any]:
    """The names of a mapping, whichever way round it is: a text that is an index is one where it is
    a key to names."""
    pairs = [(plain(key), plain(value)) for key, value in given.items()]
    if all(_is_index(v) and isinstance(k, str) for k, v in pairs):
        pairs = [(int(v), k) for k, v in pairs]
    elif all((_is_index(k) or _is_digits(k)) and isinstance(v, str) for k, v in pairs):
        pairs = [(int(k), v) for k, v in pairs]
    else:
        raise OptionError(
            "labels is a mapping; names by index, such as {0: 'cat', 1: 'dog'}, or indices by "
            f"name, such as {{'cat': 0, 'dog': 1}}, were expected; got {dict(given)!r:.200}."
        )
    indices = sorted(index for index, _ in pairs)
    if indices != list(range(len(indices))):
        raise OptionError(
            f"labels has the indices {', '.join(map(str, indices[:20]))}; each from 0 to "
            f"{len(indices) - 1} was expected once."
        )
    return [name for _, name in sorted(pairs)]


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_digits(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10


def _is_ours(names: tuple[str, ...]) -> bool:
    """Whether these are the names of a label set that ships with zoo."""
    known = infer(len(names))
    return known is not None and labels(known) == names


# ---------------------------------------------------------------- the files


@functools.cache
def _lemmas() -> dict[str, str]:
    return dict(line.split("\t") for line in _lines("lemmas.tsv.gz"))


def _lines(file: str) -> list[str]:
    return gzip.decompress((FOLDER / file).read_bytes()).decode("utf-8").splitlines()
