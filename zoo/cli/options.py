"""Options that several verbs share, and the kinds of values that they take."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
_SCALES = {"": 1, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9}
_SPANS = {"h": "hours", "d": "days", "w": "weeks"}


class Count(click.ParamType):
    """A number such as `30M`, `1.5B`, `500k`, `30e6`."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?)([kmbg]?)", str(value), re.IGNORECASE)
        if not found:
            self.fail(f"{value!r} is no number such as 30M, 1.5B, 500k or 30e6.", param, ctx)
        return float(found[1]) * _SCALES[found[2].upper()]


class Duration(click.ParamType):
    """A span of time such as `30d`, `12h`, `2w`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"(\d{1,5})([hdw])", str(value))
        if not found:
            self.fail(f"{value!r} is no span of time such as 12h, 30d or 2w.", param, ctx)
        return timedelta(**{_SPANS[found[2]]: int(found[1])})


def check_writable(out: Path, option: str = "--out") -> None:
    """Refuse a file that cannot be written before the work, not after it."""
    folder = out.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise click.BadParameter(
            f"{out} is no file in a folder that is there and may be written.", param_hint=option
        )


_SOURCE = {
    "revision": click.option(
        "--revision", metavar="REV", help="Branch, tag or commit [default: the card's, else main]."
    ),
    "endpoint": click.option(
        "--endpoint",
        metavar="URL",
        help="Base address of the hub [default: HF_ENDPOINT, else the public one].",
    ),
    "token": click.option(
        "--token", help="Access token of the hub; HF_TOKEN keeps it from other users' eyes."
    ),
    "cache_dir": click.option(
        "--cache-dir",
        type=FOLDER,
        metavar="FOLDER",
        help="Root of the cache [default: HF_HUB_CACHE].",
    ),
    "lockfile": click.option(
        "--lockfile", type=FILE, metavar="FILE", help="A zoo.lock that every file must match."
    ),
    "offline": click.option(
        "--offline", is_flag=True, default=None, help="Ask nothing of the network."
    ),
    "refresh": click.option(
        "--refresh", is_flag=True, help="Ask anew which commit a branch or tag is."
    ),
}


def source_options(*names: str) -> Callable[[F], F]:
    """The options that say where files come from: these of them, in this order, or all."""

    def decorate(function: F) -> F:
        for name in reversed(names or tuple(_SOURCE)):
            function = _SOURCE[name](function)
        return function

    return decorate


WEIGHTS = click.option(
    "--weights", metavar="FILE", help="Safetensors file or https address [default: the card's]."
)


def json_option(content: str) -> Callable[[F], F]:
    """`--json`, with a sentence on the `content` that it prints: what the keys are."""
    return click.option("--json", "as_json", is_flag=True, help=f"Print JSON: {content}.")


def model_options(function: F) -> F:
    """What verbs that run a model let one say of it."""
    for option in (
        click.option(
            "--dtype", help="Keras dtype policy; auto is the file's own [default: float32]."
        ),
        WEIGHTS,
        click.option(
            "--batch-size",
            type=click.IntRange(1),
            default=32,
            show_default=True,
            help="Images per pass.",
        ),
    ):
        function = option(function)
    return function
