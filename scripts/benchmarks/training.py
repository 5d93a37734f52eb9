"""A full fine-tuning step, beside torch with timm's model: images per second on this machine.

    python scripts/benchmarks/training.py [--models NAME ...] [--batch N] [--rounds N]

A step is forward, loss (cross entropy, label smoothing 0.1), backward and AdamW on every weight, in
float32 on images of 224 x 224 that are in memory, for ten classes. zoo's step is the one that
`zoo finetune` runs: the model compiled with zoo's AdamW, and TensorFlow with oneDNN. torch runs
eagerly, in its usual layout and in `channels_last`; the faster of the two counts. The contenders
take turns in one process, each round in the other order; the ratio is the median of the rounds'
ratios.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
from rich.console import Console
from rich.table import Table

EDGE, CLASSES, SMOOTHING, RATE = 224, 10, 0.1, 1e-4
MODELS = ("resnet50", "vit_small_patch16_224")
TARGET = 1.0

Step = Callable[[], float]


def zoo_step(model: str, images: np.ndarray, targets: np.ndarray) -> Step:
    import keras
    import tensorflow as tf

    import zoo
    from zoo.finetuning.optimizer import AdamW

    net = zoo.load(model, pretrained=False, num_classes=CLASSES)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=SMOOTHING)
    net.compile(optimizer=AdamW(RATE), loss=loss)
    net.make_train_function()
    batch = tf.data.Dataset.from_tensors((tf.constant(images), tf.constant(targets)))
    batches = iter(batch.repeat())
    return lambda: float(net.train_function(batches)["loss"])


def torch_step(model: str, images: np.ndarray, targets: np.ndarray, last: bool) -> Step:
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "parity"))
    from reference import timm, torch

    layout = torch.channels_last if last else torch.contiguous_format
    net = timm.create_model(model, num_classes=CLASSES).train().to(memory_format=layout)
    optimizer = torch.optim.AdamW(net.parameters(), RATE)
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    wanted = torch.from_numpy(targets)

    def step() -> float:
        optimizer.zero_grad()
        loss = criterion(net(inputs), wanted)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def compare(model: str, batch: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of a step of each contender, once a round, after two to warm up."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch, EDGE, EDGE, 3), dtype=np.float32)
    targets = np.eye(CLASSES, dtype=np.float32)[rng.integers(CLASSES, size=batch)]
    steps = {
        "zoo": zoo_step(model, images, targets),
        "torch": torch_step(model, images, targets, last=False),
        "torch, channels_last": torch_step(model, images, targets, last=True),
    }
    found: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(-2, rounds):
        for name, step in list(steps.items())[:: 1 if turn % 2 else -1]:
            start = time.perf_counter()
            step()
            if turn >= 0:
                found[name].append(time.perf_counter() - start)
    return found


def show(console: Console, model: str, batch: int, found: dict[str, list[float]]) -> None:
    table = Table(title=f"A training step of {model}, batch {batch}, float32")
    for title in ("", "images / s", "least", "most", "zoo is faster by"):
        table.add_column(title, justify="right" if title else "left")
    ratios = {}
    for name, seconds in found.items():
        pairs = zip(seconds, found["zoo"], strict=True)
        ratios[name] = statistics.median(theirs / ours for theirs, ours in pairs)
        speeds = [batch / value for value in seconds]
        figures = (f"{pick(speeds):.2f}" for pick in (statistics.median, min, max))
        table.add_row(name, *figures, "" if name == "zoo" else f"{ratios[name]:.2f}")
    console.print(table)
    ratio = min(value for name, value in ratios.items() if name != "zoo")
    console.print(f"zoo / the faster torch = {ratio:.2f} (target: at least {TARGET:.1f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=MODELS, help="names in timm")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    console = Console()
    for model in options.models:
        show(console, model, options.batch, compare(model, options.batch, options.rounds))


if __name__ == "__main__":
    main()
