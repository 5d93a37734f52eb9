"""What a run is made with where the caller leaves it open: by how many examples there are, and by
whether the network below the head has learned anything yet.

- Few examples and pretrained layers: the head alone first, then all layers from there. A fresh head
  sends large gradients through layers that were good as they were (Kumar et al., Fine-Tuning can
  Distort Pretrained Features, arXiv:2202.10054: linear probing, then fine-tuning, LP-FT). Where
  the head alone is always right in validation the run ends with it: no better can be measured.
- Steps, not epochs, are what learning takes: there are at least `STEPS` of them, as in the shortest
  schedule of BiT-HyperRule (Kolesnikov et al., Big Transfer, arXiv:1912.11370, section 3.3). For
  texts Mosbach et al. (arXiv:2006.04884) and Zhang et al. (arXiv:2006.05987) find the same: runs
  on few examples that fail are for the most part runs that are too short.
- Batches of 8 to 32 (Masters and Luschi, arXiv:1804.07612), the smaller the fewer examples.
- Full fine-tuning is gentle where the head alone does well, and goes up to `MOST_RATE` times the
  learning rate, nearly alike in all layers, where it does no better than chance: features that are
  no good for the task need not be kept. This rule is ours; `scripts/finetune_small_data.py`
  measures it.
- Layers that have never been trained are trained from the start all alike: with one learning rate,
  and for longer, since there is nothing in them to keep.
- No flips: BiT-HyperRule flips where the task allows it, and what a mirrored digit, letter or road
  sign is, no picture tells. A mild crop is borne by all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import keras
import numpy as np

from zoo.layers.building import named_weights

STEPS = 500  # of training at least, and of a head alone
SCRATCH_STEPS = 1000  # at least, of layers that have never been trained
EPOCHS, MOST_EPOCHS = 10, 100  # the least and the most, whatever the steps
LEAST_BATCH, LARGEST_BATCH = 8, 32
MOST_RATE = 4.0  # times the learning rate, after a head that has learned nothing
EPOCH_STEPS = 8  # batches of an epoch that smaller batches are to make possible


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a recipe goes by.

    Attributes:
        family: of the model.
        images: whether inputs are images.
        counts: training examples per class `[classes]`; None where they are not known.
        steps: batches of an epoch for a batch size.
        untrained: whether the layers below the head have never been trained.
    """

    family: str
    images: bool
    counts: np.ndarray | None
    steps: Callable[[int], int]
    untrained: bool

    @property
    def examples(self) -> int | None:
        return None if self.counts is None else int(self.counts.sum())


def untrained(model: keras.Model, heads: Collection[str]) -> bool:
    """Whether the layers below the heads hold initial values.

    They do where the load report says so; and where most of their vectors (scales and shifts of
    norms, statistics, biases) have one value throughout, as initializers leave them and no training
    does: so random weights are known that came from a file.

    Args:
        model: from `zoo.load`.
        heads: names of the layers that give the logits.
    """
    prefixes = tuple(f"{head}." for head in heads)
    body = {k: w for k, w in named_weights(model).items() if not k.startswith(prefixes)}
    if set(body) <= set(model.record.report.fresh):
        return True
    vectors = [np.asarray(w) for w in body.values() if len(w.shape) == 1 and w.shape[0] > 1]
    return 2 * sum(bool((v == v[0]).all()) for v in vectors) > len(vectors)


def batch_size(examples: int | None) -> int:
    """Examples of a step: a power of two from 8 to 32, or all where there are fewer."""
    if examples is None:
        return LARGEST_BATCH
    wanted = 2 ** int(math.log2(max(examples // EPOCH_STEPS, 1)))
    return min(examples, max(LEAST_BATCH, min(wanted, LARGEST_BATCH)))


def strategy(facts: Facts, steps: int, learning_rate: float | None) -> tuple[str, str]:
    """Which layers learn when, and why.

    Args:
        steps: of an epoch.
        learning_rate: the caller's.
    """
    if facts.untrained:
        return "full", "the layers below the head have never been trained"
    if learning_rate is not None:
        return "full", "one learning rate was given, for all layers"
    if steps * EPOCHS >= STEPS:
        return "full", "there are many examples"
    return "lp-ft", "few examples: a fresh head would distort what the other layers have learned"


def epochs(facts: Facts, chosen: str, steps: int) -> tuple[int, int, str]:
    """Epochs of the head alone, those of the whole run, and why there are so many.

    Args:
        chosen: the strategy.
        steps: of an epoch.
    """
    least = SCRATCH_STEPS if facts.untrained and chosen != "head" else STEPS
    main, head = (
        min(max(EPOCHS, math.ceil(wanted / steps)), MOST_EPOCHS) for wanted in (least, STEPS)
    )
    alone = head if chosen == "lp-ft" else 0
    reasons = {EPOCHS: f"{EPOCHS} passes are enough", MOST_EPOCHS: "more passes would be no use"}
    return alone, alone + main, reasons.get(main, f"for {least} steps at least")


def adapted(
    learning_rate: float, layer_decay: float, accuracy: float, classes: int
) -> tuple[float, float]:
    """Learning rate and layer decay for all layers, by what the head has learned alone.

    Args:
        learning_rate, layer_decay: for a head that is always right.
        accuracy: of the head, in validation.
        classes: how many there are; chance is one of so many.
    """
    known = min(max((accuracy * classes - 1) / (classes - 1), 0.0), 1.0)
    return learning_rate * MOST_RATE ** (1 - known), layer_decay**known
