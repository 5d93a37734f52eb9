"""Which layers learn in which epochs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import keras

from zoo.finetuning.settings import Settings
from zoo.layers.building import set_trainable, trainable_inside

Trainable = Mapping[str, tuple[bool, Mapping[str, bool]]]
"""Name of a top layer -> whether it is trainable, and what differs inside of it."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Epochs in which the same layers learn, with a learning-rate schedule of their own.

    Attributes:
        first: number of the first epoch, from 0.
        end: one past the last.
        layers: names of the top layers that learn.
        learning_rate: the highest.
        head: whether the head learns alone, so that what the layers below it give can be kept.
    """

    first: int
    end: int
    layers: frozenset[str]
    learning_rate: float
    head: bool = False


def plan(settings: Settings, stages: Sequence[Sequence[str]], heads: Sequence[str]) -> list[Phase]:
    """The phases of a run.

    `lp-ft` lets the head learn alone, then all layers (Kumar et al., arXiv:2202.10054). `gradual`
    lets one more stage learn with each epoch, from the head down (Howard and Ruder,
    arXiv:1801.06146), for half of the epochs at most; then all of them.

    Args:
        settings: of the run.
        stages: names of the layers of each stage, the head's last.
        heads: names of the layers that give the logits.
    """
    epochs, rate = settings.epochs, settings.learning_rate
    head, every = frozenset(heads), frozenset(name for stage in stages for name in stage)
    if settings.strategy == "head":
        return [Phase(first=0, end=epochs, layers=head, learning_rate=rate, head=True)]
    steps = min(len(stages) - 1, epochs // 2) if settings.strategy == "gradual" else 0
    phases = [
        Phase(first=k, end=k + 1, layers=_top(stages, k + 1, steps + 1), learning_rate=rate)
        for k in range(steps)
    ]
    if alone := settings.head_epochs:
        probe = settings.head_learning_rate or rate
        phases = [Phase(first=0, end=alone, layers=head, learning_rate=probe, head=True)]
    first = phases[-1].end if phases else 0
    return [*phases, Phase(first=first, end=epochs, layers=every, learning_rate=rate)]


def _top(stages: Sequence[Sequence[str]], part: int, parts: int) -> frozenset[str]:
    """The layers of the head and of the upper `part - 1` of `parts - 1` pieces below it."""
    below = len(stages) - 1
    count = 1 + below * (part - 1) // (parts - 1)
    return frozenset(name for stage in stages[len(stages) - count :] for name in stage)


def trainable_layers(model: keras.Model) -> Trainable:
    """What a model's owner lets learn."""
    return {layer.name: (layer.trainable, trainable_inside(layer)) for layer in model.layers}


def freeze(model: keras.Model, layers: Collection[str], allowed: Trainable) -> None:
    """Let the named layers learn, but for what the model's owner has frozen.

    Args:
        allowed: layers that it does not name may learn.
    """
    for layer in model.layers:
        value, inside = allowed.get(layer.name, (True, {}))
        if layer.name in layers:
            set_trainable(layer, value, inside)
        else:
            layer.trainable = False
