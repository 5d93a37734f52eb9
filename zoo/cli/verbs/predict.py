"""`zoo predict`: what is on images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.group import FAILED, Verb
from zoo.cli.images import Images, progress
from zoo.cli.models import load
from zoo.cli.options import FILE, json_option, model_options, source_options
from zoo.cli.output import print_json, print_table
from zoo.errors import InputError, NotFoundError, OptionError

if TYPE_CHECKING:
    from zoo.model import Model


@click.command("predict", cls=Verb)
@click.argument("name")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="Classes each.")
@click.option("--labels", type=FILE, metavar="FILE", help="Names of the classes, one per line.")
@model_options
@source_options()
@json_option(
    "an array of objects with image and predictions, an array of objects with label, index and "
    "score (0 to 1), best first"
)
@click.pass_context
def command(
    ctx: click.Context,
    name: str,
    images: tuple[str, ...],
    top: int,
    labels: Path | None,
    batch_size: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Say what is on images, with probabilities.

    IMAGE is a file, an https address, or a folder, which stands for the images that lie in it.
    An image that cannot be read is reported and the others go on; the exit code is then 1.

    \b
    Examples:
      zoo predict resnet50 cat.jpg dog.png
      zoo predict resnet50 photos/ --top 1 --json > predictions.json
      zoo predict ./my_checkpoint photo.jpg --labels classes.txt
    """
    chosen = Images(images)
    results: Iterator[tuple[str, Any]] = iter(())
    if chosen.names:
        model = _load(name, labels, options)
        classify = partial(model.classify, top=top, batch_size=batch_size)
        results = chosen.through(classify, batch_size)
    if as_json:
        waiting = progress(results, len(chosen.names))
        print_json([{"image": i, "predictions": list(map(asdict, p))} for i, p in waiting])
    else:
        for image, predictions in results:
            _print(image, predictions)
    if chosen.failed:
        ctx.exit(FAILED)


def _load(name: str, labels: Path | None, options: dict[str, Any]) -> Model:
    names = None if labels is None else _read_labels(labels)
    model = load(name, labels=names, **options)
    if names and model.load_report and model.load_report.fresh:
        raise OptionError(
            f"{labels} names {len(names)} classes, and the head of {name} has another number. "
            "Nothing was predicted: a new head would know nothing."
        )
    return model


def _read_labels(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except FileNotFoundError as error:
        raise NotFoundError(f"--labels {path}: there is no such file.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--labels {path} cannot be read as a text of one class per line: {error}."
        ) from error


def _print(image: str, predictions: list[Any]) -> None:
    click.echo(click.style(click.format_filename(image), bold=True))
    rows = [(f"{100 * p.score:6.2f} %", p.index, p.label) for p in predictions]
    print_table(("score", "index", "label"), rows, right=["score", "index"])
    click.echo()
