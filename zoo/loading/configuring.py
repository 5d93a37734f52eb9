"""What a caller wants of a card: the config of the network, and what the model carries."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo import typed
from zoo.architectures.base import Architecture
from zoo.errors import ConfigError, OptionError, did_you_mean
from zoo.loading.options import LoadOptions, given
from zoo.preprocessing.spec import ImageSpec
from zoo.registry import labels as label_sets
from zoo.registry import registry
from zoo.registry.card import ModelCard, to_data
from zoo.tasks.table import TASKS, TEXT_TASKS, task_type

_OF_CLASSES = ("text-classification", "token-classification")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be built.

    Attributes:
        stated: the card as it was found.
        card: the card with the caller's options in it, which the model carries.
        family, config: of the network.
        task: what the network does.
        options: the caller's.
        notes: what a file's tensors tell otherwise than its config.
    """

    stated: ModelCard
    card: ModelCard
    family: Architecture
    config: Any
    task: str
    options: LoadOptions
    notes: tuple[str, ...] = ()


def plan(
    card: ModelCard, options: LoadOptions, tensors: Mapping[str, np.ndarray] | None = None
) -> Plan:
    """What a caller wants of a card.

    Args:
        tensors: those of the file; None: there is none.

    Raises:
        OptionError: what no model of the card could be.
        ConfigError: more layers than a file has tensors.
    """
    family = registry.import_family(card.family)
    config = _configured(card, family, options)
    told: dict[str, Any] = {}
    if tensors is not None:
        _, dialect = family.formats.of(card.architecture)
        told = dialect.told_by(tensors, vars(config))
        told = {k: v for k, v in told.items() if v != getattr(config, k)}
        config = dataclasses.replace(config, **told)
        if (layers := typed.depth(config)) > len(tensors):
            raise ConfigError(
                f"{card.name}: its config asks for {layers} layers; the file has {len(tensors)} "
                "tensors, and each layer needs one at least."
            )
    return Plan(
        stated=card,
        card=_built(card, family, config, options),
        family=family,
        config=config,
        task=_task(card, family, config, options),
        options=options,
        notes=tuple(f"{k}={v!r}, as the file's tensors have it" for k, v in told.items()),
    )


def _configured(card: ModelCard, family: Architecture, options: LoadOptions) -> Any:
    """The config of a card's network, as a caller wants it."""
    _check(card, family, options)
    config = family.read_config(card.config, origin=card.name)
    classes = options.num_classes
    if classes is None and options.labels is not None:
        classes = len(options.labels)
    own = task_type(card.task, card.preprocessing)
    if classes is None and options.task is not None and options.task == own.headless:
        classes = 0
    other = _task_fields(card, family, config, options, classes)
    size = options.input_size if hasattr(config, "img_size") else None
    wanted = given(num_classes=classes, in_chans=options.in_channels, img_size=size)
    return family.change_config(config, {**other, **options.config, **wanted}, others=options.names)


def _check(card: ModelCard, family: Architecture, options: LoadOptions) -> None:
    """Raise `OptionError` for what no model of the card could be."""
    if options.labels and (options.features_only or options.num_classes == 0):
        raise OptionError(
            f"{len(options.labels)} labels were given, and the model would have no classes."
        )
    if isinstance(card.preprocessing, ImageSpec) and family.first_conv is None:
        raise ConfigError(
            f"{card.name!r} prepares images, which family {family.name!r} does not read."
        )
    of_images = {"in_channels": options.in_channels, "input_size": options.input_size}
    if family.first_conv is None and (given := [k for k, v in of_images.items() if v is not None]):
        raise OptionError(
            f"{' and '.join(given)} is for images, which {card.name!r} does not read."
        )


def _task_fields(
    card: ModelCard, family: Architecture, config: Any, options: LoadOptions, classes: int | None
) -> Mapping[str, Any]:
    """The fields of the config for another task than its own, where a caller wants one."""
    if not family.tasks or family.task is None:
        return {}
    own = family.task(config)
    if options.task is not None:
        wanted = options.task
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


def _built(card: ModelCard, family: Architecture, config: Any, options: LoadOptions) -> ModelCard:
    """The card with the caller's options in it.

    Raises:
        OptionError: another number of labels than the network has.
    """
    classes = getattr(config, "num_classes", None)
    headless = options.features_only or classes == 0
    spec = card.preprocessing or (family.spec(config) if family.spec else None)
    if isinstance(spec, ImageSpec):
        fixed = not getattr(config, "dynamic_img_size", False)
        size = options.input_size or (getattr(config, "img_size", None) if fixed else None)
        spec = (spec if size is None else spec.at_size(size)).with_channels(config.in_chans)
    stated = registry.architecture_card(card.architecture).config
    usual = vars(family.config())
    changed = {k: to_data(v) for k, v in vars(config).items() if k in stated or v != usual.get(k)}
    labels = None if headless else _labels(card, classes, options)
    return dataclasses.replace(card, config=changed, preprocessing=spec, labels=labels)


def _task(card: ModelCard, family: Architecture, config: Any, options: LoadOptions) -> str:
    """What the network does.

    Raises:
        OptionError: the caller wants it to do something else.
    """
    classes = getattr(config, "num_classes", None)
    task = family.task(config) if family.task else card.task
    if family.tasks and not options.features_only:
        pass  # the config tells it all
    elif options.features_only or classes == 0:
        task = task_type(task, card.preprocessing).headless or task
    elif options.num_classes or options.labels:
        task = task_type(task, card.preprocessing).headed or task
    if task == "token-classification" and classes == 1 and (options.num_classes or options.labels):
        raise OptionError(
            "A tag for all tokens says nothing: token-classification needs two classes, one of "
            "them for what is nothing, such as labels=['O', 'NAME']."
        )
    if options.task is not None and options.task != task:
        raise OptionError(
            f"task={options.task!r} cannot be built from {card.name!r}, which does {task}. "
            f"Known tasks: {', '.join(sorted({*TASKS, *TEXT_TASKS}))}."
        )
    return task


def _labels(
    card: ModelCard, num_classes: int | None, options: LoadOptions
) -> str | tuple[str, ...] | None:
    """The caller's labels, or the card's where there are as many as classes."""
    if options.labels is not None:
        if len(options.labels) != num_classes:
            raise OptionError(f"{len(options.labels)} labels were given for {num_classes} classes.")
        return options.labels
    if isinstance(card.labels, str):
        return card.labels if label_sets.size(card.labels) == num_classes else None
    return card.labels if card.labels is not None and len(card.labels) == num_classes else None
