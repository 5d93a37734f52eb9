"""Which layer each weight belongs to, and what learning rate and weight decay follow from it.

Learning rates that fall from the head towards the input: discriminative fine-tuning (Howard and
Ruder, arXiv:1801.06146, section 3.2, with a layer's rate 1 / 2.6 of the next one's), also known as
layer-wise learning-rate decay (Clark et al., arXiv:2003.10555; Bao et al., arXiv:2106.08254).
Layers are counted, and weights left out of the decay, as timm's `param_groups_layer_decay` does it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import Any

import keras

from zoo.architectures.base import LayerGroups
from zoo.finetuning.optimizer import AdamW, LearningRate
from zoo.layers.building import named_weights
from zoo.registry import registry

Place = tuple[int, ...]  # pattern that matches a name, and the numbers that it captures


def layer_ids(model: keras.Model) -> dict[str, int]:
    """The layer of each weight by the weight's name, counted from the input: 0 is the first.

    A family without `Architecture.groups`, such as a third party's, is one layer below its heads.

    Raises:
        TaskError: the model came from no card.
    """
    groups = _groups(model)
    places = {name: _place(name, groups) for name in named_weights(model)}
    ids = _numbered(places.values(), groups)
    return {name: ids[place] for name, place in places.items()}


def parameter_groups(
    model: keras.Model, layer_decay: float | None = None
) -> tuple[list[float], list[bool]]:
    """What the optimiser needs to know of `model.trainable_variables`, in their order.

    Args:
        layer_decay: the learning rate of a layer over that of the next; None: all have one.

    Returns:
        The factor of the learning rate, 1 in the last layer of the network; and whether there is
        weight decay: for weights of several axes that the family does not except.

    Raises:
        TaskError: the model came from no card.
    """
    groups, ids = _groups(model), layer_ids(model)
    last, decay = max(ids.values()), 1.0 if layer_decay is None else layer_decay
    names = _names(model)
    ordered = [(names[id(v)], len(v.shape)) for v in model.trainable_variables]
    factors = [decay ** (last - ids[name]) for name, _ in ordered]
    decays = [axes > 1 and not _matches(groups.no_decay, name) for name, axes in ordered]
    return factors, decays


def optimizer_for(
    model: keras.Model,
    learning_rate: LearningRate,
    *,
    weight_decay: float = 0.05,
    layer_decay: float | None = None,
    **options: Any,
) -> AdamW:
    """The optimizer of the layers of a model that are trainable now.

    Args:
        learning_rate: of the last layer, the head.
        weight_decay, layer_decay: see `AdamW` and `parameter_groups`.
        options: further ones of `AdamW`.

    Raises:
        TaskError: the model came from no card.
    """
    factors, decays = parameter_groups(model, layer_decay)
    given: dict[str, Any] = {"weight_decay": weight_decay, "factors": factors, "decays": decays}
    return AdamW(learning_rate, **given, **options)


def stages(model: keras.Model) -> list[list[str]]:
    """Names of the layers of `model.layers` that have weights, by stage, from the input on.

    A stage of a ResNet has several blocks; one of a ViT is a block. The last one is the head. A
    layer whose weights lie at several depths, such as a stack of LSTMs, stands at the first.

    Raises:
        TaskError: the model came from no card.
    """
    groups, names = _groups(model), _names(model)
    places: dict[str, Place] = {}
    for layer in model.layers:
        if held := [_place(names[id(v)], groups) for v in layer.weights]:
            places[layer.name] = min(held)[:2]
    ids = _numbered(places.values(), groups)
    found: list[list[str]] = [[] for _ in range(max(ids.values()) + 1)]
    for name, place in places.items():
        found[ids[place]].append(name)
    return found


def _names(model: keras.Model) -> dict[int, str]:
    """Names of the weights by the identity of their variables."""
    return {id(variable): name for name, variable in named_weights(model).items()}


def _groups(model: keras.Model) -> LayerGroups:
    family = registry.import_family(model.record.card.family)
    if family.groups.patterns:
        return family.groups
    heads = "|".join(f"{re.escape(head)}\\." for head in family.heads)
    return dataclasses.replace(family.groups, patterns=(f"(?!{heads})" if heads else "",))


def _place(name: str, groups: LayerGroups) -> Place:
    for k, pattern in enumerate(groups.patterns):
        if found := re.match(pattern, name):
            return (k, *map(int, found.groups()))
    count = len(groups.patterns)
    return (count,) if _matches(groups.end, name) else (count + 1,)


def _numbered(places: Iterable[Place], groups: LayerGroups) -> dict[Place, int]:
    """Places in their order, counted from 0; those of `groups.end` have the number before."""
    ids: dict[Place, int] = {}
    number = -1
    for place in sorted(set(places)):
        if number < 0 or place != (len(groups.patterns),):
            number += 1
        ids[place] = number
    return ids


def _matches(pattern: str | None, name: str) -> bool:
    return pattern is not None and re.match(pattern, name) is not None
