"""`zoo info`: the card of a model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import click

from zoo.cli.group import Verb
from zoo.cli.options import json_option, source_options
from zoo.cli.output import note, print_facts, print_json
from zoo.errors import FileFormatError, NotFoundError, TaskError
from zoo.registry.card import ModelCard


@click.command("info", cls=Verb)
@click.argument("name")
@click.option("--labels", is_flag=True, help="Print the names of the classes, in their order.")
@source_options()
@json_option("an object with every field of zoo.ModelCard; with --labels an array of strings")
def command(name: str, labels: bool, as_json: bool, **source: Any) -> None:
    """Show the card of a model.

    That is: what it is, where its weights are, how its input is prepared, what was published.
    NAME is a name of `zoo list`, a hub repo (then its config is fetched) or a folder.

    \b
    Examples:
      zoo info resnet50
      zoo info resnet50.a1_in1k --json | jq .preprocessing
      zoo info resnet50 --labels | grep -n tabby
      zoo info ./my_checkpoint
    """
    card = _card(name, source)
    if labels:
        names = _labels(card)
        print_json(list(names)) if as_json else click.echo("\n".join(names))
    elif as_json:
        print_json(dataclasses.asdict(card))
    else:
        print_facts(_facts(card))


def _card(name: str, source: dict[str, Any]) -> ModelCard:
    from zoo.loading.pulling import find, with_weights
    from zoo.registry.registry import is_name
    from zoo.weights.handle import Source, parse_handle

    found = find(parse_handle(name, is_name), Source(**source))
    try:
        return with_weights(found)
    except (NotFoundError, FileFormatError) as error:
        note(str(error))
        return found.card


def _labels(card: ModelCard) -> tuple[str, ...]:
    from zoo.registry.labels import labels

    known = labels(card.labels) if isinstance(card.labels, str) else card.labels
    if known is None:
        raise TaskError(f"The classes of {card.name!r} have no known names.")
    return known


def _facts(card: ModelCard) -> Iterator[tuple[str, object]]:
    yield "Model", card.name
    yield "Description", card.description
    yield "Architecture", f"{card.architecture} (family {card.family})"
    yield "Config", json.dumps(dict(card.config))
    yield "Task", card.task
    yield "Parameters", None if card.num_params is None else f"{card.num_params:,}"
    yield "Licence", card.license or "not stated"
    yield from _weights(card)
    yield from card.preprocessing.facts() if card.preprocessing else ()
    if card.labels is not None:
        named = f"{card.labels}, " if isinstance(card.labels, str) else ""
        yield "Labels", f"{named}{len(_labels(card))} classes"
    for test, figures in card.published.items():
        shown = [
            f"{key[:3]}-{key[3:]} {figures[key]} %" for key in ("top1", "top5") if key in figures
        ] or [f"{k.replace('_', ' ')} {v}" for k, v in figures.items() if k != "source"]
        size = f" at {figures['img_size']} pixels" if "img_size" in figures else ""
        yield "Published", f"{test}: {', '.join(shown)}{size}"
    for source in dict.fromkeys(figures.get("source") for figures in card.published.values()):
        yield "  source", source
    yield "Papers", ", ".join(card.paper_ids) or None
    yield "Origin", card.origin_url


def _weights(card: ModelCard) -> Iterator[tuple[str, object]]:
    where = card.weights
    if where is None:
        yield "Weights", "none published"
        return
    origin = "in the package" if where.bundled else where.url or where.repo or card.name
    file = "" if where.url else f"{where.file}, "
    yield "Weights", file + str(origin) + (f"@{where.revision}" if where.revision else "")
    yield "  pull request", where.pull_request
    yield "  sha256", where.sha256
