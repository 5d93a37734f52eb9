"""What a caller wants of a card: the config of the network, and what the model carries."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from zoo.architectures.base import Architecture
from zoo.errors import ConfigError, OptionError, did_you_mean
from zoo.loading.options import LoadOptions, given
from zoo.preprocessing.spec import ImageSpec
from zoo.record import Record
from zoo.registry import labels as label_sets
from zoo.registry import registry
from zoo.registry.card import ModelCard, to_data
from zoo.tasks.table import TASKS, TEXT_TASKS, task_type

_OF_CLASSES = ("text-classification", "token-classification")


def configure(card: ModelCard, family: Architecture, wishes: LoadOptions) -> Any:
    """The config of a card's network, as a caller wishes.

    Raises:
        OptionError: what no model of the card could be.
    """
    _check(card, family, wishes)
    config = family.read_config(card.config, origin=card.name)
    classes = wishes.num_classes
    if classes is None and wishes.labels is not None:
        classes = len(wishes.labels)
    own = task_type(card.task, card.preprocessing)
    if classes is None and wishes.task is not None and wishes.task == own.headless:
        classes = 0
    other = _task_fields(card, family, config, wishes, classes)
    size = wishes.input_size if hasattr(config, "img_size") else None
    wanted = given(num_classes=classes, in_chans=wishes.in_channels, img_size=size)
    return family.change_config(config, {**other, **wishes.config, **wanted}, others=wishes.names)


def _check(card: ModelCard, family: Architecture, wishes: LoadOptions) -> None:
    """Raise `OptionError` for what no model of the card could be."""
    if wishes.labels and (wishes.features_only or wishes.num_classes == 0):
        raise OptionError(
            f"{len(wishes.labels)} labels were given, and the model would have no classes."
        )
    if isinstance(card.preprocessing, ImageSpec) and family.first_conv is None:
        raise ConfigError(
            f"{card.name!r} prepares images, which family {family.name!r} does not read."
        )
    of_images = {"in_channels": wishes.in_channels, "input_size": wishes.input_size}
    if family.first_conv is None and (given := [k for k, v in of_images.items() if v is not None]):
        raise OptionError(
            f"{' and '.join(given)} is for images, which {card.name!r} does not read."
        )


def _task_fields(
    card: ModelCard, family: Architecture, config: Any, wishes: LoadOptions, classes: int | None
) -> Mapping[str, Any]:
    """The fields of the config for another task than its own, where a caller wants one."""
    if not family.tasks or family.task is None:
        return {}
    own = family.task(config)
    if wishes.task is not None:
        wanted = wishes.task
    elif classes is not None and classes != config.num_classes:
        kind = task_type(own, card.preprocessing)
        wanted = (kind.headed if classes else kind.headless) or own
    else:
        return {}
    if wanted == own:
        return {}
    if wanted not in family.tasks:
        raise OptionError(
            f"task={wanted!r} cannot be built from {card.name!r}, which does {own}. It can be "
            f"{', '.join(family.tasks)}.{did_you_mean(wanted, family.tasks)}"
        )
    if wanted in _OF_CLASSES and not classes:
        raise OptionError(
            f"task={wanted!r} needs the number of classes, which {card.name!r} has not: give "
            "labels=[...] or num_classes=."
        )
    return {"num_classes": 0, **family.tasks[wanted]}


def recorded(card: ModelCard, family: Architecture, config: Any, wishes: LoadOptions) -> Record:
    """What the model of that config will carry: the card with the caller's options in it.

    Raises:
        OptionError: another task or number of labels than the network has.
    """
    classes = getattr(config, "num_classes", None)
    headless = wishes.features_only or classes == 0
    task = family.task(config) if family.task else card.task
    if family.tasks and not wishes.features_only:
        pass  # the config tells it all
    elif headless:
        task = task_type(task, card.preprocessing).headless or task
    elif wishes.num_classes or wishes.labels:
        task = task_type(task, card.preprocessing).headed or task
    if task == "token-classification" and classes == 1 and (wishes.num_classes or wishes.labels):
        raise OptionError(
            "A tag for all tokens says nothing: token-classification needs two classes, one of "
            "them for what is nothing, such as labels=['O', 'NAME']."
        )
    if wishes.task is not None and wishes.task != task:
        raise OptionError(
            f"task={wishes.task!r} cannot be built from {card.name!r}, which does {task}. "
            f"Known tasks: {', '.join(sorted({*TASKS, *TEXT_TASKS}))}."
        )
    spec = card.preprocessing or (family.spec(config) if family.spec else None)
    if isinstance(spec, ImageSpec):
        fixed = not getattr(config, "dynamic_img_size", False)
        size = getattr(config, "img_size", None) if fixed else None
        size = wishes.input_size or size
        spec = (spec if size is None else spec.at_size(size)).with_channels(config.in_chans)
    defaults = family.config()
    fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    stated = registry.architecture_card(card.architecture).config
    changed = {k: to_data(v) for k, v in fields.items() if k in stated or v != getattr(defaults, k)}
    labels = None if headless else _labels(card, classes, wishes)
    card = dataclasses.replace(card, config=changed, preprocessing=spec, labels=labels)
    own = family.formats.own_layout(card.architecture, fields)
    layout = (card.weights and card.weights.layout) or own
    return Record(card=card, task=task, embedding=family.embedding, layout=layout)


def _labels(
    card: ModelCard, num_classes: int | None, wishes: LoadOptions
) -> str | tuple[str, ...] | None:
    """The caller's labels, or the card's where there are as many as classes."""
    if wishes.labels is not None:
        if len(wishes.labels) != num_classes:
            raise OptionError(f"{len(wishes.labels)} labels were given for {num_classes} classes.")
        return wishes.labels
    if isinstance(card.labels, str):
        return card.labels if label_sets.size(card.labels) == num_classes else None
    return card.labels if card.labels is not None and len(card.labels) == num_classes else None
