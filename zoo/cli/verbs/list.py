"""`zoo list`: which models there are."""

from __future__ import annotations

from typing import Any

import click

import zoo
from zoo.cli.group import Verb
from zoo.cli.options import Count, json_option
from zoo.cli.output import note, print_json, print_table
from zoo.registry.registry import hint


@click.command("list", cls=Verb)
@click.argument("pattern", required=False)
@click.option("--task", multiple=True, help="Task; may be given several times, any will do.")
@click.option("--license", multiple=True, help="Licence; may be given several times.")
@click.option("--family", multiple=True, help="Family; may be given several times.")
@click.option("--min-params", type=Count(), help="Fewest parameters, such as 500k.")
@click.option("--max-params", type=Count(), help="Most parameters, such as 30M.")
@click.option("--min-top1", type=float, help="Least ImageNet-1k top-1 accuracy, in per cent.")
@click.option("--bundled", is_flag=True, help="Only those that are in the package.")
@click.option("--cached", is_flag=True, help="Only those whose weights are on this machine.")
@click.option("--architectures", is_flag=True, help="List architectures, pretrained or not.")
@json_option(
    "an array of objects with name, architecture, family, task, license, num_params, input_size "
    "[height, width], top1 and top1_img_size; with --architectures: name, family, num_params, "
    "default. What is not known is null"
)
def command(pattern: str | None, architectures: bool, as_json: bool, **filters: Any) -> None:
    """List the pretrained models.

    PATTERN and the options choose some of them. PATTERN is as in a shell, so quote it. Without a
    dot it is also tried on the architecture. The accuracy is the published one, at the image size
    behind the @.

    \b
    Examples:
      zoo list 'resnet50*'
      zoo list --license apache-2.0 --max-params 30M --min-top1 80
      zoo list --cached
      zoo list '*.a1_in1k' --json | jq -r '.[].name'
    """
    given = {name: value for name, value in filters.items() if value not in (None, (), False)}
    if architectures and given:
        raise click.UsageError("--architectures goes with PATTERN alone, not with filters.")
    if architectures:
        names = zoo.list_architectures(pattern)
        rows = [_architecture(name) for name in names]
    else:
        names = zoo.list_models(pattern, **given)
        rows = [_model(name) for name in names]
    if as_json:
        print_json(rows)
    elif architectures and rows:
        cells = [(r["name"], _millions(r["num_params"]), r["default"]) for r in rows]
        print_table(("name", "params", "default"), cells, right=["params"])
    elif rows:
        columns = ("name", "params", "input", "top-1", "licence")
        print_table(columns, map(_cells, rows), right=["params", "input", "top-1"])
    else:
        near = hint(pattern.strip("*?")) if pattern and not given else ""
        note(f"No {'architecture' if architectures else 'model'} is like that.{near}")


def _model(name: str) -> dict[str, Any]:
    card = zoo.info(name)
    figures = card.published.get("imagenet-1k", {})
    return {
        "name": card.name,
        "architecture": card.architecture,
        "family": card.family,
        "task": card.task,
        "license": card.license,
        "num_params": card.num_params,
        "input_size": getattr(card.preprocessing, "input_size", None),
        "top1": figures.get("top1"),
        "top1_img_size": figures.get("img_size"),
    }


def _architecture(name: str) -> dict[str, Any]:
    card = zoo.info(name)
    return {
        "name": name,
        "family": card.family,
        "num_params": card.num_params,
        "default": card.name if card.weights else None,
    }


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    edges = dict.fromkeys(row["input_size"] or ())  # a square says its edge once
    top1 = "" if row["top1"] is None else f"{row['top1']:.1f} @{row['top1_img_size']}"
    params = _millions(row["num_params"])
    return row["name"], params, "x".join(map(str, edges)), top1, row["license"]


def _millions(count: int | None) -> str | None:
    return None if count is None else f"{count / 1e6:.1f}M"
