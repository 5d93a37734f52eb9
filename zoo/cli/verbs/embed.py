"""`zoo embed`: inputs to vectors."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.group import FAILED, Verb
from zoo.cli.images import Images, Inputs, progress
from zoo.cli.models import find_card, load, use_onednn
from zoo.cli.options import FILE, check_writable, json_option, model_options, source_options
from zoo.cli.output import print_json
from zoo.cli.texts import AT_ONCE, Texts, read_lines
from zoo.errors import InputError, OptionError
from zoo.preprocessing.text_spec import TextSpec
from zoo.weights.disk import replacing

if TYPE_CHECKING:
    import numpy as np


@click.command("embed", cls=Verb)
@click.argument("name")
@click.argument("inputs", nargs=-1, metavar="[INPUT...]")
@click.option("--input", "lines", type=FILE, metavar="FILE", help="Texts, one per line.")
@click.option("--out", type=FILE, metavar="FILE.npy", help="Write the vectors to this file.")
@model_options
@source_options()
@json_option(
    "an array of objects with input and embedding; this is what it does without --out. With --out "
    "an object with file, shape, dtype and inputs, one for each row"
)
@click.pass_context
def command(
    ctx: click.Context,
    name: str,
    inputs: tuple[str, ...],
    lines: Path | None,
    out: Path | None,
    batch_size: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Turn images or texts into feature vectors.

    They are what the model knows of an image before its head, or of a text. INPUT is a file, an
    https address, or a folder, which stands for the images that lie in it; for a model of texts, a
    text. An input that cannot be read is reported; the exit code is then 1, and --out, whose rows
    would not be those of the inputs any more, is not written.

    \b
    Examples:
      zoo embed resnet50 photos/ --out vectors.npy
      zoo embed resnet50 cat.jpg dog.png | jq '.[0].embedding | length'
      zoo embed all-minilm-l6-v2 --input texts.txt --out vectors.npy
    """
    use_onednn()
    if out is not None:
        check_writable(out)
    if lines is None and not inputs:
        raise click.UsageError("Missing argument 'INPUT...', or --input FILE.")
    is_text = isinstance(find_card(name, options).preprocessing, TextSpec)
    if lines is not None and not is_text:
        raise OptionError(f"--input is for models of texts, which {name!r} is not.")
    chosen: Inputs
    if is_text:
        chosen = Texts([*inputs, *(read_lines(lines) if lines else ())])
    else:
        chosen = Images(inputs)
    rows: list[tuple[str, np.ndarray]] = []
    if chosen.names and not (out and chosen.failed):
        model = load(name, **options)
        verb = partial(model.embed, batch_size=batch_size)
        results = chosen.through(verb, batch_size, at_once=AT_ONCE if is_text else 1)
        rows = list(progress(results, len(chosen.names), chosen.noun))
    if out is None:
        print_json([{"input": name, "embedding": row.tolist()} for name, row in rows])
    elif chosen.failed:
        raise InputError(f"{chosen.failed} of the inputs cannot be read; {out} was not written.")
    else:
        _write(out, rows, as_json)
    if chosen.failed:
        ctx.exit(FAILED)


def _write(out: Path, rows: list[tuple[str, np.ndarray]], as_json: bool) -> None:
    import numpy as np

    vectors = np.stack([row for _, row in rows]).astype(np.float32, copy=False)
    with replacing(out) as temporary, temporary.open("wb") as file:
        np.save(file, vectors)
    if as_json:
        facts = {"file": str(out), "shape": vectors.shape, "dtype": str(vectors.dtype)}
        print_json({**facts, "inputs": [name for name, _ in rows]})
    else:
        click.echo(f"{out}: float32 {list(vectors.shape)}")
