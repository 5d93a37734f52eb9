"""`zoo evaluate`: how good a model is on labelled examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import zoo
from zoo.cli.group import Verb
from zoo.cli.models import check_examples, load
from zoo.cli.options import FILE, check_writable, json_option, model_options, source_options
from zoo.cli.output import print_json


@click.command("evaluate", cls=Verb)
@click.argument("name")
@click.option(
    "--data",
    metavar="PATH",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="A folder with a folder of files for each class, or a CSV or JSONL file.",
)
@click.option(
    "--plot", type=FILE, metavar="FILE.png", help="Draw the confusion matrix into this file."
)
@click.option("--input-column", metavar="NAME", help="Of a CSV or JSONL file.")
@click.option("--label-column", metavar="NAME", default="label", show_default=True)
@click.option("--strict", is_flag=True, help="Fail at an unreadable file, instead of leaving it.")
@model_options
@source_options()
@json_option(
    "an object with examples, loss, accuracy, top5, macro_f1 and calibration_error (0 to 1), "
    "per_class, an array of objects, and confusion, rows of counts by true class"
)
def command(
    name: str,
    data: Path,
    plot: Path | None,
    strict: bool,
    input_column: str | None,
    label_column: str,
    batch_size: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure a classifier on labelled examples.

    \b
    Examples:
      zoo evaluate resnet50 --data imagenet/val
      zoo evaluate ./run1 --data flowers_test/ --plot confusion.png
    """
    if plot is not None:
        from zoo.figures import check_format, require_matplotlib

        check_writable(plot, "--plot")
        require_matplotlib()
        check_format(plot)
    check_examples(name, options, data, input_column=input_column, label_column=label_column)
    model = load(name, **options)
    found = zoo.evaluate(
        model,
        data,
        batch_size=batch_size,
        strict=strict,
        input_column=input_column,
        label_column=label_column,
    )
    if plot is not None:
        from zoo.figures import save_figure
        from zoo.finetuning.report import confusion_figure

        save_figure(confusion_figure(found), plot)
    if as_json:
        print_json(found.to_dict())
    else:
        click.echo(str(found))
