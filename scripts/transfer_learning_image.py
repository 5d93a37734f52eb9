"""Transfer learning on images, from a folder of files to a model that can be published.

    python scripts/transfer_learning_image.py        # a minute on two cores, no network

A network that knows the ten digits learns a question that it was never asked: is the number even?
It sees 15 scans of each kind, and is measured on 400 others, beside the same network that starts
from nothing.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import zoo
from zoo.finetuning import Augment

EXAMPLES, TEST = 15, 400


def write_folders(folder: Path) -> tuple[Path, Path]:
    """Two folders, each with the folders `even` and `odd` of PNG files."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    kinds = np.where(digits.target % 2, "odd", "even")
    chosen = [order[kinds[order] == kind][:EXAMPLES] for kind in ("even", "odd")]
    parts = {"train": np.concatenate(chosen), "test": np.setdiff1d(order, chosen)[:TEST]}
    for part, rows in parts.items():
        for row in rows:
            path = folder / part / kinds[row] / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.uint8(digits.images[row] * 255 / 16)).save(path)
    return folder / "train", folder / "test"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        train, test = write_folders(Path(name))
        # digits are neither mirrored nor cropped
        augment = Augment(crop=None, flip=0.0)
        for pretrained in (False, True):
            model = zoo.load("resnet_mini.digits", pretrained=pretrained)
            result = zoo.finetune(
                model,
                train,
                test,
                strategy="gradual" if pretrained else "full",
                layer_decay=0.75 if pretrained else 1.0,
                epochs=30,
                learning_rate=2e-3,
                batch_size=10,
                augment=augment,
                output=Path(name) / f"run_{pretrained}",
            )
            start = "the model of digits" if pretrained else "nothing"
            print(f"\nstarting from {start}:\n{result.metrics}\n")
        print(f"zoo publish {result.folder} me/even  # would publish it")


if __name__ == "__main__":
    main()
