"""The strategy `head`: ten epochs on features from the disk, beside one epoch without them.

    python scripts/benchmarks/head.py [--rounds N] [--images N]

Both train the head of a ResNet-50 on the same JPEG files and validate it; the ten epochs begin with
an empty cache, so they compute the features once. The one epoch runs the frozen network in each
step. They take turns; the target is a ratio of at most 1.3.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

import zoo

CLASSES = 4
TARGET = 1.3


def write_images(folder: Path, count: int) -> None:
    """JPEG files of 400 x 300 pixels, smooth noise of a colour for each class."""
    rng = np.random.default_rng(0)
    for k in range(count):
        kind = k % CLASSES
        small = rng.integers(0, 256, (12, 16, 3)) * 0.5 + 127 * (np.arange(3) == kind % 3)
        path = folder / f"class{kind}" / f"{k}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small.astype(np.uint8)).resize((400, 300), Image.Resampling.BICUBIC).save(
            path
        )


def seconds(model: zoo.Model, data: Path, **options: object) -> float:
    start = time.perf_counter()
    zoo.finetune(model, data / "train", data / "test", augment="none", **options)  # type: ignore[arg-type]
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=256)
    arguments = parser.parse_args()
    model = zoo.load("resnet50", pretrained=False)
    frozen = zoo.load("resnet50", pretrained=False)
    for layer in frozen.layers:
        layer.trainable = False
    cached, plain = [], []
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        write_images(data / "train", arguments.images)
        write_images(data / "test", arguments.images // 4)
        for number in range(arguments.rounds):
            os.environ["HF_HOME"] = str(data / f"cache{number}")  # empty: features are computed
            cached.append(seconds(model, data, strategy="head", epochs=10))
            plain.append(seconds(frozen, data, strategy="full", epochs=1))
    table = Table(title=f"The head of a ResNet-50 on {arguments.images} images, seconds")
    for title in ("", "median", "least", "most"):
        table.add_column(title, justify="right" if title else "left")
    for title, runs in (("10 epochs, features kept", cached), ("1 epoch, none kept", plain)):
        table.add_row(title, *(f"{f(runs):.1f}" for f in (statistics.median, min, max)))
    console = Console()
    console.print(table)
    ratio = statistics.median(a / b for a, b in zip(cached, plain, strict=True))
    console.print(f"ratio {ratio:.2f} (target: at most {TARGET})")


if __name__ == "__main__":
    main()
