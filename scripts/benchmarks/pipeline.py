"""The augmenting input pipeline of fine-tuning, beside torch's DataLoader with timm's transform.

    python scripts/benchmarks/pipeline.py [--rounds N] [--images N]

JPEG files of 500 x 375, cut from photographs, become batches of 32 normalised images of 224 x 224:
random resized crop (bicubic), flip, and, in the second comparison, `rand-m9-n2` and random erasing
of 0.25. The DataLoader has two workers that stay. The contenders take turns in one process, each
round in the other order. The clock starts when as many batches are through as either side makes
ahead of time, so that what was made before is not counted.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

EDGE, BATCH, WORKERS = 224, 32, 2
AHEAD = 4  # batches that a DataLoader of two workers makes ahead of time; zoo makes 2
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")  # of those that scikit-image brings

Epoch = Callable[[], Iterable[Any]]


def write_images(folder: Path, number: int) -> list[str]:
    """JPEG files of 500 x 375: cuts of 70 to 100 % of a photograph's edges, at quality 90."""
    import skimage.data

    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(getattr(skimage.data, name)()) for name in PHOTOGRAPHS]
    paths = []
    for k in range(number):
        image = photographs[k % len(photographs)]
        share = rng.uniform(0.7, 1.0)
        width, height = (int(share * edge) for edge in image.size)
        left = int(rng.integers(image.width - width + 1))
        top = int(rng.integers(image.height - height + 1))
        cut = image.crop((left, top, left + width, top + height))
        paths.append(str(folder / f"{k:04}.jpg"))
        cut.resize((500, 375), Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    return paths


def zoo_epoch(paths: list[str], strong: bool) -> Epoch:
    from zoo.finetuning.examples import Examples
    from zoo.finetuning.pipeline import Augment, training_batches
    from zoo.finetuning.sampling import Sampler
    from zoo.preprocessing.image import ImagePreprocessor
    from zoo.preprocessing.spec import ImageSpec

    more: dict[str, Any] = {"rand_augment": (2, 9), "random_erasing": 0.25} if strong else {}
    labels = np.zeros(len(paths), np.int32)
    examples = Examples(inputs=paths, labels=labels, classes=("a",), names=tuple(paths))
    return lambda: training_batches(
        examples,
        ImagePreprocessor(ImageSpec(input_size=(EDGE, EDGE))),
        Sampler(len(paths), BATCH, 0),
        Augment(crop=(0.08, 1.0), flip=0.5, **more),
        seed=0,
        class_weights=None,
        first_epoch=0,
        epochs=1,
    )


def torch_epoch(paths: list[str], strong: bool) -> Epoch:
    import torch

    sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "parity"))
    import reference  # noqa: F401  # makes timm importable
    from timm.data import create_transform

    more: dict[str, Any] = {"auto_augment": "rand-m9-n2", "re_prob": 0.25} if strong else {}
    transform = create_transform(
        EDGE, is_training=True, interpolation="bicubic", color_jitter=None, **more
    )

    class Files(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, k: int) -> Any:
            with Image.open(paths[k]) as image:
                return transform(image.convert("RGB")), 0

    loader = torch.utils.data.DataLoader(
        Files(),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=WORKERS,
        persistent_workers=True,
    )
    return lambda: loader


def images_per_second(epoch: Epoch) -> float:
    start, batches = 0.0, 0
    for k, _ in enumerate(epoch()):
        if k + 1 == AHEAD:
            start = time.perf_counter()
        batches = k + 1 - AHEAD
    return batches * BATCH / (time.perf_counter() - start)


def compare(paths: list[str], strong: bool, rounds: int) -> dict[str, list[float]]:
    """Images per second of each contender, once a round, after one to warm up."""
    epochs = {"zoo": zoo_epoch(paths, strong), "torch, timm": torch_epoch(paths, strong)}
    found: dict[str, list[float]] = {name: [] for name in epochs}
    for turn in range(rounds + 1):
        for name, epoch in list(epochs.items())[:: 1 if turn % 2 else -1]:
            speed = images_per_second(epoch)
            if turn:
                found[name].append(speed)
    return found


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(Path(folder), options.images)
        print(f"{len(paths)} JPEG files of 500 x 375 to {EDGE} x {EDGE}, {os.cpu_count()} cores")
        print("images per second: median (least - most), and the median ratio, round by round")
        for title, strong in (("crop, flip", False), ("crop, flip, rand-m9-n2, erasing", True)):
            _print(title, compare(paths, strong, options.rounds))


def _print(title: str, found: dict[str, list[float]]) -> None:
    for name, values in found.items():
        pairs = zip(values, found["torch, timm"], strict=True)
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        low, middle, high = (pick(values) for pick in (min, statistics.median, max))
        spread = f"{middle:6.0f}  ({low:.0f} - {high:.0f})"
        print(f"{title:34} {name:12} {spread:24} {ratio:.2f}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=512)
    return parser.parse_args()


if __name__ == "__main__":
    main()
