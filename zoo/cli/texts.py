"""Texts as inputs of verbs, and what the verbs show of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from zoo.cli.images import Inputs
from zoo.cli.output import print_table
from zoo.errors import InputError, NotFoundError, OptionError

if TYPE_CHECKING:
    from zoo.model import Model

AT_ONCE = 64  # batches for one call: texts of about one length are put together


class Texts(Inputs):
    """Texts as they stand on the command line, or in the lines of a file."""

    noun: ClassVar[str] = "text"
    suffixes: ClassVar[tuple[str, ...]] = ()

    def _expanded(self, entry: str) -> list[str]:
        return [entry]


def read_lines(path: Path, option: str = "--input") -> list[str]:
    """The lines of a text file that an option names, without their ends.

    Raises:
        NotFoundError: no such file.
        InputError: it is empty, or no text in UTF-8.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError as error:
        raise NotFoundError(f"{option} {path}: there is no such file.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{option} {path} cannot be read as text in UTF-8: {error}.") from error
    if not lines:
        raise InputError(f"{option} {path} is empty; one text per line was expected.")
    return lines


# What `zoo predict` does for each task: a verb of many texts, and how a result is shown.
Verb = Callable[["Model", Mapping[str, Any]], Callable[[list[str]], Iterable[Any]]]


def classify(model: Model, options: Mapping[str, Any]) -> Callable[[list[str]], Iterable[Any]]:
    return partial(model.classify, top=options["top"], batch_size=options["batch_size"])


def entities(model: Model, options: Mapping[str, Any]) -> Callable[[list[str]], Iterable[Any]]:
    return partial(model.entities, batch_size=options["batch_size"])


def fill(model: Model, options: Mapping[str, Any]) -> Callable[[list[str]], Iterable[Any]]:
    return partial(model.fill, top=options["top"], batch_size=options["batch_size"])


def answer(model: Model, options: Mapping[str, Any]) -> Callable[[list[str]], Iterable[Any]]:
    """The inputs are questions about one text.

    Raises:
        OptionError: the text is missing.
    """
    context = options["context"]
    if context is None:
        raise OptionError(
            "A model that answers questions needs the text to look in: --context FILE.txt. The "
            "inputs are the questions."
        )
    text = "\n".join(read_lines(context, "--context"))
    return lambda questions: [model.answer(q, text, top=options["top"]) for q in questions]


def show_entities(found: Sequence[Any]) -> None:
    rows = [(e.label, f"{e.start}-{e.end}", f"{100 * e.score:6.2f} %", e.text) for e in found]
    print_table(("label", "place", "score", "text"), rows, right=["place", "score"])
    if not rows:
        click.echo("nothing found")


def show_fillings(found: Sequence[Any]) -> None:
    rows = [(f"{100 * f.score:6.2f} %", f.token, f.text) for f in found]
    print_table(("score", "token", "text"), rows, right=["score"])


def show_answers(found: Sequence[Any]) -> None:
    parts = [(f"{a.start}-{a.end}", a.text) if a.text else ("", "(no answer)") for a in found]
    rows = [(f"{100 * a.score:6.2f} %", *part) for a, part in zip(found, parts, strict=True)]
    print_table(("score", "place", "answer"), rows, right=["score", "place"])


def data(found: Sequence[Any]) -> list[dict[str, Any]]:
    """Results as JSON data."""
    return list(map(asdict, found))
