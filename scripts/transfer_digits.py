"""What transfer is worth: from the digits 0 to 4 to the digits 5 to 9, with 10 examples of each.

    python scripts/transfer_digits.py [--seeds 5] [--models resnet vit lstm]

Each network is trained on all scans of 0 to 4, then fine-tuned on 10 scans of each of 5 to 9, and
measured on all others of 5 to 9. Beside it stands the same network that is trained on the 50 scans
from nothing, for as many epochs, in the same way. A seed chooses the 50 scans, and all that is
random.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from sklearn.datasets import load_digits

import zoo
from zoo.finetuning import Augment

EXAMPLES = 10
AUGMENT = Augment(crop=(0.6, 1.0), flip=0.0)

Pair = tuple[list[np.ndarray], list[str]]


@dataclass(frozen=True, kw_only=True)
class Network:
    """A small network, and how it is trained.

    Attributes:
        make: a fresh one.
        pretraining: options of `zoo.finetune` for the digits 0 to 4.
        training: those for 5 to 9, with transfer and without.
        layer_decay: with transfer.
        shifted: whether scans also come moved by a pixel, for networks that `Augment` is not for.
    """

    make: Callable[[], zoo.Model]
    pretraining: dict[str, Any]
    training: dict[str, Any]
    layer_decay: float = 1.0
    shifted: bool = False


def _vit() -> zoo.Model:
    size: dict[str, Any] = {
        "input_size": 16,
        "patch_size": 4,
        "embed_dim": 64,
        "depth": 4,
        "num_heads": 4,
    }
    return zoo.load("vit_tiny_patch16_224", pretrained=False, in_channels=1, **size)


NETWORKS = {
    "resnet": Network(
        make=lambda: zoo.load("resnet_mini", pretrained=False),
        pretraining={"epochs": 20, "learning_rate": 3e-3, "augment": AUGMENT},
        training={"epochs": 40, "learning_rate": 3e-3, "augment": AUGMENT, "batch_size": 10},
    ),
    "vit": Network(
        make=_vit,
        pretraining={"epochs": 40, "learning_rate": 1e-3, "augment": AUGMENT},
        training={"epochs": 40, "learning_rate": 1e-3, "augment": AUGMENT, "batch_size": 10},
    ),
    "lstm": Network(
        make=lambda: zoo.load("lstm_mini", pretrained=False),
        pretraining={"epochs": 10, "learning_rate": 6e-3, "batch_size": 64},
        training={"epochs": 80, "learning_rate": 4e-3, "batch_size": 90},
        layer_decay=0.7,
        shifted=True,
    ),
}


def scans(rows: np.ndarray) -> Pair:
    """Some of scikit-learn's digits: uint8 images [8, 8], and their names."""
    data = load_digits()
    images = np.rint(data.images[rows] * (255 / 16)).astype(np.uint8)
    return list(images), [str(digit) for digit in data.target[rows]]


def split(seed: int) -> tuple[Pair, Pair, Pair]:
    """Scans of 0 to 4; 10 of each of 5 to 9; all others of 5 to 9."""
    digits = load_digits().target
    order = np.random.default_rng(seed).permutation(len(digits))
    few = np.concatenate([order[digits[order] == k][:EXAMPLES] for k in range(5, 10)])
    others = np.setdiff1d(np.flatnonzero(digits >= 5), few)
    return scans(np.flatnonzero(digits < 5)), scans(few), scans(others)


def with_shifts(pair: Pair) -> Pair:
    """The scans, and each of them moved by a pixel in the eight directions."""
    images, labels = pair
    padded = [np.pad(image, 1) for image in images]
    places = itertools.product(range(3), repeat=2)
    moved = [image[y : y + 8, x : x + 8] for y, x in places for image in padded]
    return moved, labels * 9


def compare(network: Network, seed: int) -> tuple[float, float]:
    """Accuracy on the others with transfer and from scratch, in per cent."""
    known, few, others = split(seed)
    prepared = with_shifts if network.shifted else lambda pair: pair
    pretrained = zoo.finetune(
        network.make(), prepared(known), known, seed=seed, layer_decay=1.0, **network.pretraining
    ).model
    accuracies = []
    for model, layer_decay in ((pretrained, network.layer_decay), (network.make(), 1.0)):
        # validated on what it is trained on: the others choose nothing
        tuned = zoo.finetune(
            model, prepared(few), few, seed=seed, layer_decay=layer_decay, **network.training
        ).model
        accuracies.append(100 * zoo.evaluate(tuned, others).accuracy)
    return accuracies[0], accuracies[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    arguments = parser.parse_args()
    print(f"5 to 9 with {EXAMPLES} examples of each: per cent right of the others")
    print(f"{'':8}{'seed':>6}{'with transfer':>16}{'from scratch':>16}{'gain':>14}{'seconds':>10}")
    for name in arguments.models:
        gains = []
        for seed in range(arguments.seeds):
            start = time.perf_counter()
            ours, scratch = compare(NETWORKS[name], seed)
            seconds = time.perf_counter() - start
            gains.append(ours - scratch)
            row = f"{name:8}{seed:6}{ours:16.1f}{scratch:16.1f}{gains[-1]:+14.1f}{seconds:10.0f}"
            print(row, flush=True)
        spread = statistics.stdev(gains) if len(gains) > 1 else 0.0
        print(
            f"{name:8}{'mean':>6}{f'{statistics.mean(gains):+.1f} ± {spread:.1f}':>46}", flush=True
        )


if __name__ == "__main__":
    main()
