"""What a run tells people: what was found and chosen, and that nothing was learned."""

from __future__ import annotations

import math
import statistics
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoo.finetuning.data import Data, FromExamples
from zoo.finetuning.evaluation import Evaluation
from zoo.finetuning.examples import Examples
from zoo.finetuning.pipeline import Augment
from zoo.finetuning.recipe import MOST_RATE
from zoo.finetuning.settings import Settings
from zoo.model import Model

_SHOWN = 8  # classes that are named
_MEASURED = 64  # images whose size is looked at
_SURE = 2.0  # standard deviations above chance from which a model has learned something


def header(
    model: Model, data: Data, settings: Settings, steps: int, reasons: Mapping[str, str]
) -> str:
    """What was found in the data, and what follows from it, for people.

    Args:
        steps: of an epoch.
        reasons: why the recipe chose what it did, by setting.
    """
    lines = [*_found(model, data), *_made(settings, steps, reasons)]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines)


def _found(model: Model, data: Data) -> Iterator[tuple[str, str]]:
    yield "model", f"{model.name}, {model.count_params():,} parameters"
    if not isinstance(data, FromExamples):
        yield "data", "batches of a tf.data.Dataset, as they are"
        return
    training, validation = data.training, data.validation
    yield "classes", _classes(training)
    kept = "a part of each class" if data.was_split else "as given"
    yield "split", f"{len(training):,} to train, {len(validation):,} to validate ({kept})"
    if sizes := _sizes(training):
        height, width = model.preprocess.spec.input_size
        yield "images", f"{sizes}, taken as {width} x {height} x {model.preprocess.spec.channels}"


def _classes(examples: Examples) -> str:
    counts = examples.counts()
    order = sorted(range(len(counts)), key=lambda k: (-counts[k], k))
    named = ", ".join(f"{examples.classes[k]} {counts[k]:,}" for k in order[:_SHOWN])
    if len(counts) > _SHOWN:
        named += f" ... {examples.classes[order[-1]]} {counts[order[-1]]:,}"
    return f"{len(counts)} ({named})"


def _sizes(examples: Examples) -> str | None:
    """Width and height of a sample of the images: the one that all have, or the median."""
    if examples.kind != "image":
        return None
    rows = np.linspace(0, len(examples) - 1, min(len(examples), _MEASURED)).astype(int)
    sizes = [size for k in rows if (size := _size(examples.inputs[k])) is not None]
    if not sizes:
        return None
    width, height = (round(statistics.median(edges)) for edges in zip(*sizes, strict=True))
    return f"{'' if len(set(sizes)) == 1 else 'about '}{width} x {height}"


def _size(item: Any) -> tuple[int, int] | None:
    """Width and height; None for what only decoding would tell."""
    if isinstance(item, np.ndarray):
        return item.shape[1], item.shape[0]
    if isinstance(item, Image.Image):
        return item.size
    if not isinstance(item, str):
        return None
    with warnings.catch_warnings(), suppress(OSError):
        warnings.simplefilter("ignore")  # reading the examples has said what there is to say
        with Image.open(Path(item).expanduser()) as image:
            return image.size
    return None


def _made(settings: Settings, steps: int, reasons: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    def because(name: str) -> str:
        return f" ({reasons[name]})" if name in reasons else ""

    yield "strategy", f"{settings.strategy}{because('strategy')}"
    main, alone = settings.epochs - settings.head_epochs, settings.head_epochs
    course = f"{main} epochs of {steps} steps of {settings.batch_size} examples"
    before = f"{alone} of the head alone, then " if alone else ""
    yield "length", f"{before}{course}, {settings.epochs * steps:,} steps in all{because('epochs')}"
    rate = f"{settings.learning_rate:.3g}, {settings.schedule} after {settings.warmup:.0%} warm-up"
    if settings.adapts:
        rate += f" (up to {MOST_RATE:g} times that, the worse the head does alone)"
    if settings.head_learning_rate is not None:
        rate = f"{settings.head_learning_rate:.3g} for the head alone, then {rate}"
    if settings.layer_decay < 1 and settings.strategy != "head":
        rate += f", times {settings.layer_decay:g} from each layer to the one below"
    yield "learning rate", rate
    yield "augmentation", f"{_augmentation(settings.augment)}{because('augment')}"


def _augmentation(augment: Augment) -> str:
    if not augment.changes_inputs:
        return "none"
    parts = [] if augment.crop is None else [f"crops of {augment.crop[0]:.0%} and more"]
    parts.append(f"flips {augment.flip:.0%}" if augment.flip else "no flips")
    names = ("rand_augment", "color_jitter", "random_erasing", "mixup", "cutmix")
    parts += [f"{name} {getattr(augment, name)}" for name in names if getattr(augment, name)]
    return ", ".join(parts)


# ---------------------------------------------------------------- afterwards


def warn_of_chance(metrics: Evaluation, settings: Settings) -> None:
    """Say so where a model is no better than one that always names the largest class."""
    counts = Counter({entry.label: entry.support for entry in metrics.per_class})
    chance = max(counts.values()) / metrics.examples
    spread = math.sqrt(chance * (1 - chance) / metrics.examples)
    if metrics.accuracy > min(chance + _SURE * spread, 1 - 1e-9) or chance == 1:
        return
    warnings.warn(
        f"The model has learned nothing that shows: {metrics.accuracy:.1%} of the "
        f"{metrics.examples:,} validation examples are right, and chance is {chance:.1%} (always "
        f"the largest class, {counts.most_common(1)[0][0]!r}). {' '.join(_advice(settings))}",
        UserWarning,
        stacklevel=3,
    )


def _advice(settings: Settings) -> Sequence[str]:
    """What to try, the likeliest first."""
    rate, flips = settings.learning_rate, settings.augment.flip or settings.augment.rand_augment
    said = [f"Try more epochs (these were {settings.epochs})"]
    if settings.strategy != "head":
        said[0] += f", a learning rate of {rate / 3:.2g} or {rate * 3:.2g} (it was {rate:.2g})"
        said[0] += ", or strategy='head'"
    else:
        said[0] += f", a learning rate of {rate * 3:.2g} (it was {rate:.2g}), or strategy='full'"
    if settings.augment.changes_inputs:
        said[0] += ", or augment='none'" + (" if pictures must not be mirrored" if flips else "")
    return [
        f"{said[0]}.",
        "See whether the labels belong to their examples, and whether the model was trained on "
        "inputs of their kind.",
    ]
