"""Whether `zoo finetune` with its defaults is as good as its strategy `head` on 240 images.

    python scripts/finetune_small_data.py [--data digits photos glyphs] [--model NAME] [--random]
                                          [--seeds 0 1 2]

- `digits`: scikit-learn's scans, 60 of each of four digits; measured on all others of these.
- `photos`: crops of ten photographs that scikit-image and scikit-learn carry, a class each. Those
  to train on and those to measure on lie in different tiles, as on a chessboard.
- `glyphs`: ten letters or digits in Debian's fonts (fonts-dejavu-core, and fonts-liberation where
  it is installed), turned and moved a little. The fonts to measure on are of other families.

A seed chooses the examples and all that is random in training. A fifth of the 240 is held out by
`zoo.finetune` itself; what is measured on chooses nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import string
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as `zoo finetune` has it

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import zoo

CLASSES, EXAMPLES, OTHERS = 10, 24, 60  # examples of each class, and at most others to measure on
EDGE = 32  # of the crops and glyphs, in pixels
TILES = 4  # along each side of a photograph
PHOTOS = (
    "astronaut.png", "brick.png", "chelsea.png", "coffee.png", "grass.png",
    "hubble_deep_field.jpg", "ihc.png", "motorcycle_left.png", "china.jpg", "flower.jpg",
)  # fmt: skip
FONTS = Path("/usr/share/fonts/truetype")

Pair = tuple[list[Any], list[str]]


def digits(seed: int) -> tuple[Pair, Pair]:
    from sklearn.datasets import load_digits

    data = load_digits()
    scans = np.rint(data.images * (255 / 16)).astype(np.uint8)
    rng = np.random.default_rng(seed)
    chosen, order = rng.choice(10, 4, replace=False), rng.permutation(len(scans))
    parts = [np.split(order[data.target[order] == k], [60]) for k in chosen]
    rows = (np.concatenate(part) for part in zip(*parts, strict=True))
    few, others = ((list(scans[r]), [str(k) for k in data.target[r]]) for r in rows)
    return few, others


def photos(seed: int) -> tuple[Pair, Pair]:
    rng = np.random.default_rng(seed)
    few: Pair = ([], [])
    others: Pair = ([], [])
    for name in PHOTOS:
        picture = np.asarray(_photograph(name).convert("RGB"))
        for (images, labels), colour, count in ((few, 0, EXAMPLES), (others, 1, OTHERS)):
            images += [_crop(picture, colour, rng) for _ in range(count)]
            labels += [Path(name).stem] * count
    return few, others


def _photograph(name: str) -> Image.Image:
    import skimage
    import sklearn.datasets

    ours = Path(skimage.__file__).parent / "data" / name
    return Image.open(
        ours if ours.exists() else Path(sklearn.datasets.__file__).parent / "images" / name
    )


def _crop(picture: np.ndarray, colour: int, rng: np.random.Generator) -> np.ndarray:
    """A crop inside of a tile of one colour of the chessboard."""
    height, width = (length // TILES for length in picture.shape[:2])
    row = rng.integers(TILES)
    column = 2 * rng.integers(TILES // 2) + (row + colour) % 2
    y, x = row * height + rng.integers(height - EDGE), column * width + rng.integers(width - EDGE)
    return picture[y : y + EDGE, x : x + EDGE]


def glyphs(seed: int) -> tuple[Pair, Pair]:
    rng = np.random.default_rng(seed)
    signs = rng.choice(list(string.ascii_uppercase + string.digits), CLASSES, replace=False)
    fonts = sorted(path for path in FONTS.rglob("*.ttf") if "Math" not in path.name)
    serif = [path for path in fonts if "Serif" in path.name]
    others = [path for path in fonts if "Serif" not in path.name]
    return _rendered(signs, others, EXAMPLES, rng), _rendered(signs, serif, OTHERS, rng)


def _rendered(signs: Any, fonts: list[Path], count: int, rng: np.random.Generator) -> Pair:
    images, labels = [], []
    for sign in signs:
        for _ in range(count):
            font = ImageFont.truetype(str(rng.choice(fonts)), int(rng.integers(18, 26)))  # type: ignore[arg-type]
            image = Image.new("L", (EDGE, EDGE), 0)
            place = tuple(EDGE / 2 + rng.uniform(-3, 3, 2))
            ImageDraw.Draw(image).text(place, sign, fill=255, font=font, anchor="mm")
            images.append(np.asarray(image.rotate(rng.uniform(-10, 10), Image.Resampling.BILINEAR)))
            labels.append(str(sign))
    return images, labels


DATA: dict[str, Callable[[int], tuple[Pair, Pair]]] = {
    "digits": digits,
    "photos": photos,
    "glyphs": glyphs,
}


def measure(model: zoo.Model, data: str, seed: int, **options: Any) -> tuple[float, float]:
    """Per cent right of the others, and seconds of training."""
    few, others = DATA[data](seed)
    start = time.perf_counter()
    tuned = zoo.finetune(model, few, seed=seed, **options).model
    seconds = time.perf_counter() - start
    return 100 * zoo.evaluate(tuned, others).accuracy, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--model", default="resnet_mini.digits")
    parser.add_argument("--random", action="store_true", help="the network without its weights")
    parser.add_argument("--input-size", type=int)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments = parser.parse_args()
    model = zoo.load(
        arguments.model, pretrained=not arguments.random, input_size=arguments.input_size
    )
    weights = "random weights" if arguments.random else "its weights"
    print(f"{arguments.model} with {weights}: per cent right of the others (seconds)")
    print(f"{'':8}{'seed':>6}{'default':>16}{'head':>16}{'gain':>8}", flush=True)
    for name in arguments.data:
        rows = []
        for seed in arguments.seeds:
            ours, head = (measure(model, name, seed, **o) for o in ({}, {"strategy": "head"}))
            rows.append((ours[0], head[0]))
            cells = "".join(
                f"{f'{right:.1f} ({seconds:.0f})':>16}" for right, seconds in (ours, head)
            )
            print(f"{name:8}{seed:6}{cells}{ours[0] - head[0]:+8.1f}", flush=True)
        means = [statistics.mean(column) for column in zip(*rows, strict=True)]
        cells = "".join(f"{mean:>16.1f}" for mean in means)
        print(f"{name:8}{'mean':>6}{cells}{means[0] - means[1]:+8.1f}", flush=True)


if __name__ == "__main__":
    main()
