"""`zoo finetune`: from a model and a folder of examples to a fine-tuned model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import zoo
from zoo.cli.group import Verb
from zoo.cli.models import load, use_onednn
from zoo.cli.options import FOLDER, WEIGHTS, json_option, source_options
from zoo.cli.output import note, print_json

if TYPE_CHECKING:
    from zoo.finetuning import FinetuneResult

_STRATEGIES = ("full", "head", "lp-ft", "gradual")


@click.command("finetune", cls=Verb)
@click.argument("name")
@click.option(
    "--data",
    "train",
    metavar="PATH",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="A folder with a folder of files for each class, or a CSV or JSONL file.",
)
@click.option(
    "--validation",
    metavar="PATH",
    type=click.Path(exists=True, path_type=Path),
    help="The same, to validate with [default: a fifth of each class].",
)
@click.option(
    "--output",
    type=FOLDER,
    required=True,
    help="Folder for the model, its history, pictures, and checkpoints to go on from.",
)
@click.option(
    "--strategy",
    type=click.Choice(_STRATEGIES),
    help="All layers; the head alone, on features computed once; the head, then all; or stage by "
    "stage from the head [default: lp-ft for few examples of a trained network, else full].",
)
@click.option(
    "--epochs", type=click.IntRange(1), help="Passes [default: 10, more for few examples]."
)
@click.option("--batch-size", type=click.IntRange(1), help="Examples of a step [default: 8 to 32].")
@click.option("--learning-rate", type=float, help="Its peak [default: the family's].")
@click.option("--layer-decay", type=float, help="Its factor from layer to layer [default: same].")
@click.option("--weight-decay", type=float, help="Of AdamW [default: the family's].")
@click.option("--warmup", type=float, help="Part of the steps in which the rate rises.")
@click.option("--schedule", type=click.Choice(["cosine", "linear", "constant"]))
@click.option("--label-smoothing", type=float)
@click.option("--mixup", type=float, help="Parameter of the beta distribution; 0 is none.")
@click.option("--cutmix", type=float, help="The same.")
@click.option(
    "--augment",
    type=click.Choice(["none", "crop", "light", "strong"]),
    help="Of images: nothing; crops; larger ones and flips; RandAugment besides [default: crop].",
)
@click.option("--random-erasing", type=float, help="Probability of an erased box.")
@click.option(
    "--class-weights",
    type=click.Choice(["balanced"]),
    help="Let rare classes count as much as others.",
)
@click.option("--ema", type=float, help="Momentum of an average of the weights, such as 0.999.")
@click.option("--early-stopping", type=click.IntRange(1), help="Epochs without a better one.")
@click.option("--dtype", help="Keras dtype policy, such as mixed_bfloat16 [default: float32].")
@click.option("--input-size", type=click.IntRange(1), help="Edge of the images, in pixels.")
@click.option("--distribute", type=click.Choice(["mirrored"]), help="Train on all devices at once.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--input-column", metavar="NAME", help="Of a CSV or JSONL file.")
@click.option("--label-column", metavar="NAME", default="label", show_default=True)
@click.option("--strict", is_flag=True, help="Fail at an unreadable file, instead of leaving it.")
@click.option("--restart", is_flag=True, help="Begin anew where --output has a run.")
@WEIGHTS
@source_options()
@json_option(
    "an object with folder, best_epoch, history (arrays by name) and metrics (accuracy, macro_f1, "
    "calibration_error ..., each 0 to 1, per_class and confusion)"
)
@click.pass_context
def command(
    ctx: click.Context,
    name: str,
    train: Path,
    validation: Path | None,
    restart: bool,
    input_size: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Fine-tune a classifier on examples of your own.

    They are images, or sequences for a model of these. The classes are the names of the folders in
    --data, or the labels in its file. A run that was broken off, in whatever way, goes on when the
    same command is given again.

    \b
    Examples:
      zoo finetune resnet50 --data flowers/ --strategy gradual --output run1
      zoo finetune vit_small_patch16_224 --data train.csv --output run2
      zoo publish run1 me/flowers
    """
    use_onednn()
    of_load = {k: options.pop(k) for k in (*_SOURCE, "weights")}
    model = load(name, input_size=input_size, **of_load)
    try:
        result = zoo.finetune(model, train, validation, resume=not restart, **options)
    except KeyboardInterrupt:
        note(f"\nBroken off. The same command goes on from the last epoch in {options['output']}.")
        raise
    if as_json:
        print_json(
            {
                "folder": str(result.folder),
                "best_epoch": result.best_epoch,
                "history": result.history,
                "metrics": result.metrics.to_dict(),
            }
        )
    else:
        _show(result)


_SOURCE = ("revision", "endpoint", "token", "cache_dir", "lockfile", "offline", "refresh")


def _show(result: FinetuneResult) -> None:
    click.echo(str(result.metrics))
    click.echo(f"\nEpoch {result.best_epoch} was the best; its model is in {result.folder}.")
