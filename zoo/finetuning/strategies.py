"""Which layers learn in which epochs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import keras

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
    """

    first: int
    end: int
    layers: frozenset[str]


def plan(
    strategy: str, epochs: int, stages: Sequence[Sequence[str]], heads: Sequence[str]
) -> list[Phase]:
    """The phases of a strategy.

    `gradual` lets one more stage learn with each epoch, from the head down (Howard and Ruder,
    arXiv:1801.06146), for half of the epochs at most; then all of them.

    Args:
        strategy: `full`, `head` or `gradual`.
        epochs: of the whole run.
        stages: names of the layers of each stage, the head's last.
        heads: names of the layers that give the logits.
    """
    every = frozenset(name for stage in stages for name in stage)
    if strategy == "head":
        return [Phase(first=0, end=epochs, layers=frozenset(heads))]
    steps = min(len(stages) - 1, epochs // 2) if strategy == "gradual" else 0
    phases = [
        Phase(first=k, end=k + 1, layers=_top(stages, k + 1, steps + 1)) for k in range(steps)
    ]
    return [*phases, Phase(first=steps, end=epochs, layers=every)]


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
