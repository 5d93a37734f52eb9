"""Names of classes: the ImageNet label sets, as data (written by `scripts/build_cards.py`).

`labels/<set>.txt.gz` lists a set's WordNet synsets in class order, `labels/lemmas.tsv.gz` gives
each synset its name, and `labels/index.json` the number of classes of each set.
"""

from __future__ import annotations

import functools
import gzip
import json
from pathlib import Path

from zoo.errors import UnknownNameError, did_you_mean

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


@functools.cache
def _lemmas() -> dict[str, str]:
    return dict(line.split("\t") for line in _lines("lemmas.tsv.gz"))


def _lines(file: str) -> list[str]:
    return gzip.decompress((FOLDER / file).read_bytes()).decode("utf-8").splitlines()
