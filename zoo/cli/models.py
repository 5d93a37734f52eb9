"""Loading a model for a verb, quietly."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zoo

if TYPE_CHECKING:
    from zoo.model import Model
    from zoo.registry.card import ModelCard
    from zoo.weights.handle import Source

_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_NOTHING = "3"


def use_onednn() -> None:
    """Let TensorFlow take oneDNN's kernels, unless the environment says otherwise.

    It does so by itself on processors with AVX-512 alone. On others a training step takes a fifth
    less time with them, and so do large batches; single images may take more.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def load(name: str, **options: Any) -> Model:
    """`zoo.load`, without TensorFlow's remarks, unless the environment asks for them.

    What can be said with no TensorFlow is said before it is imported, which takes seconds.
    """
    from zoo.loading.pulling import fetch

    pretrained, weights = options.get("pretrained", True), options.get("weights")
    fetch(name, _source(options), pretrained=pretrained, weights=weights)
    start_keras()
    return zoo.load(name, **options)


def _source(options: Mapping[str, Any]) -> Source:
    """The source among the options of a verb; those that it does not have are left out."""
    from zoo.weights.handle import Source

    return Source(**{f.name: options[f.name] for f in fields(Source) if f.name in options})


def find_card(name: str, options: Mapping[str, Any]) -> ModelCard:
    """The card of a model, which is not loaded, and whose weights are not fetched.

    Args:
        options: of a verb, with those of `Source` among them.

    Raises:
        ZooError: as `zoo.load`, for a name that cannot be found.
    """
    from zoo.loading.pulling import find, located, needs_texts
    from zoo.registry.registry import is_name
    from zoo.weights.handle import parse_handle

    source = _source(options)
    found = find(parse_handle(name, is_name), source)
    return located(found, source).card if needs_texts(found.card) else found.card


def check_examples(
    name: str,
    options: Mapping[str, Any],
    *paths: Path | None,
    input_column: str | None,
    label_column: str,
) -> None:
    """Refuse a folder or table that holds no examples for a model, before the model is loaded.

    Args:
        options: of the verb, with those of `Source` among them.
        paths: what `--data` and its like name; None is passed over.
        input_column, label_column: of tables.

    Raises:
        ZooError: what the model's name, or reading the examples, raises.
    """
    from zoo.finetuning.sources import Wanted, gathered, kind_of

    card = find_card(name, options)
    if not card.task.endswith("classification"):
        return  # what is wrong with the model comes first, and the verb says it
    kind, text = kind_of(card.preprocessing)
    wanted = Wanted(kind=kind, text=text, input_column=input_column, label_column=label_column)
    for path in filter(None, paths):
        gathered(path, wanted)


def start_keras() -> None:
    """Import what models need, without TensorFlow's remarks."""
    if os.environ.setdefault(_LOG_LEVEL, _NOTHING) == _NOTHING and "tensorflow" not in sys.modules:
        # What TensorFlow logs while it is imported comes before it reads that variable.
        with _nothing_to_stderr():
            importlib.import_module("zoo.loading.assembling")


@contextmanager
def _nothing_to_stderr() -> Iterator[None]:
    """Drop what anyone writes to the file descriptor of standard error, C++ code too."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
