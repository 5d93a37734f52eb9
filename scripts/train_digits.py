"""Train `resnet_mini.digits`, the model that ships with zoo, and fill in its card.

    python scripts/train_digits.py             # a minute or two on two cores
    python scripts/train_digits.py --validate  # what the settings below were chosen by

The card in `zoo/registry/cards/digits.json` says what is built and what its images go through.
This trains it and writes `zoo/bundled/resnet_mini.digits` (weights, config, README), the demo's
images `zoo/bundled/digits`, and into the card the weights' sha256, the number of parameters and the
accuracy on held-out digits beside that of k-nearest-neighbours.

The digits are scikit-learn's: 1797 scans of 8x8 pixels, a copy of the test set of the UCI Optical
Recognition of Handwritten Digits data set. A third of them is held out, and takes no part in
training or in any choice: those were made by cross-validation inside the other two thirds.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import shutil
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.neighbors import KNeighborsClassifier

import zoo
from zoo.model import LoadReport
from zoo.pulling import BUNDLED
from zoo.registry.registry import CARDS
from zoo.weights.disk import sha256_of

NAME = "resnet_mini.digits"
TEST = "digits held-out"
CARD_FILE = CARDS / "digits.json"
WEIGHTS = BUNDLED / NAME
SAMPLES = BUNDLED / "digits"
SCRIPT = "scripts/train_digits.py"

SPLIT_SEED = 0
TRAIN_SEED = 0
EPOCHS = 60
BATCH = 64
PEAK_RATE = 5e-3  # learning rate, after a warm-up; down to 0 along a cosine
WARMUP = 3  # epochs
WEIGHT_DECAY = 1e-2
SHIFT = 4  # pixels of the 32x32 input: one pixel of the scan
NEIGHBOURS = (1, 3, 5)
SAMPLES_PER_DIGIT = 4


@dataclass(frozen=True)
class Digits:
    """Some of the scans.

    Attributes:
        images: uint8 [n, 8, 8], light ink on dark.
        labels: int [n], 0..9.
        numbers: int [n], their places in scikit-learn's data set.
    """

    images: np.ndarray
    labels: np.ndarray
    numbers: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Digits:
        return Digits(self.images[rows], self.labels[rows], self.numbers[rows])


def split_digits() -> tuple[Digits, Digits]:
    """The training digits and the held-out third, stratified by label."""
    data = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)
    numbers = np.arange(len(images))
    digits = Digits(images, data.target, numbers)
    training, held_out = train_test_split(
        numbers, test_size=1 / 3, stratify=digits.labels, random_state=SPLIT_SEED
    )
    return digits[np.sort(training)], digits[np.sort(held_out)]


# ---------------------------------------------------------------- training


def train(digits: Digits) -> zoo.Model:
    """A model trained from scratch; the same digits give the same model on the same machine."""
    keras.utils.set_random_seed(TRAIN_SEED)
    tf.config.experimental.enable_op_determinism()
    model = zoo.load(NAME, pretrained=False)
    images = model.preprocess(digits.images[..., None])
    black = images.min()

    def shifted(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        margin = [[SHIFT, SHIFT], [SHIFT, SHIFT], [0, 0]]
        return tf.image.random_crop(
            tf.pad(image, margin, constant_values=black), image.shape
        ), label

    data = tf.data.Dataset.from_tensor_slices((images, digits.labels))
    data = data.shuffle(len(images)).map(shifted).batch(BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=PEAK_RATE,
        warmup_steps=WARMUP * len(data),
        decay_steps=(EPOCHS - WARMUP) * len(data),
    )
    model.compile(keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY), metrics=["accuracy"])
    model.fit(data, epochs=EPOCHS, shuffle=False, verbose=2)
    return model


def correct(model: zoo.Model, digits: Digits) -> int:
    """How many digits the model names rightly, from the bytes of PNG files on."""
    predictions = model.classify([png(image) for image in digits.images], top=1)
    return sum(
        best.index == label for [best], label in zip(predictions, digits.labels, strict=True)
    )


def neighbours_correct(training: Digits, digits: Digits) -> int:
    """The same for k-nearest-neighbours on the pixels, with the k that suits these digits best."""

    def flat(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(np.float64)

    def score(k: int) -> int:
        model = KNeighborsClassifier(k).fit(flat(training.images), training.labels)
        return int((model.predict(flat(digits.images)) == digits.labels).sum())

    return max(score(k) for k in NEIGHBOURS)


def png(image: np.ndarray) -> bytes:
    """A uint8 image [h, w] as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


# ---------------------------------------------------------------- what is written


def measure(model: zoo.Model, training: Digits, held_out: Digits) -> dict[str, Any]:
    """The figures of the card, in per cent."""

    def percent(count: int) -> float:
        return round(100 * count / len(held_out.labels), 3)

    return {
        "top1": percent(correct(model, held_out)),
        "knn": percent(neighbours_correct(training, held_out)),
        "examples": len(held_out.labels),
        "source": SCRIPT,
    }


def save(model: zoo.Model) -> zoo.Model:
    """Write the model's folder, and load what was written."""
    model.attach(dataclasses.replace(model.record, report=LoadReport(source=SCRIPT)))
    return zoo.load(zoo.save(model, WEIGHTS))


def fill_in_card(model: zoo.Model, figures: dict[str, Any]) -> None:
    """Put into the card what came out of the training."""
    data = json.loads(CARD_FILE.read_text("utf-8"))
    card = data["cards"][NAME]
    card["weights"]["sha256"] = sha256_of(
        WEIGHTS / card["weights"].get("file", "model.safetensors")
    )
    card["num_params"] = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    card["published"] = {TEST: figures}
    CARD_FILE.write_text(json.dumps(data, indent=1) + "\n", "utf-8")


def write_samples(held_out: Digits) -> None:
    """The first held-out scans of each digit as `<digit>-<number>.png`, and where they are from."""
    shutil.rmtree(SAMPLES, ignore_errors=True)
    SAMPLES.mkdir(parents=True)
    for digit in range(10):
        mine = held_out[np.flatnonzero(held_out.labels == digit)[:SAMPLES_PER_DIGIT]]
        for image, number in zip(mine.images, mine.numbers, strict=True):
            (SAMPLES / f"{digit}-{number:04}.png").write_bytes(png(image))
    (SAMPLES / "README.md").write_text(SAMPLES_README, "utf-8")


SAMPLES_README = """\
# Scanned digits

Pictures that `resnet_mini.digits` was not trained on, `<digit>-<place in the data set>.png`, with
the values 0..16 of the scans stretched to 0..255. They are from E. Alpaydin and C. Kaynak, Optical
Recognition of Handwritten Digits, UCI Machine Learning Repository,
https://archive.ics.uci.edu/dataset/80, under the licence CC BY 4.0,
https://creativecommons.org/licenses/by/4.0/, in scikit-learn's copy.
"""


def cross_validate(training: Digits) -> None:
    """Errors on each third of the training digits, after training on the other two."""
    folds = StratifiedKFold(3, shuffle=True, random_state=SPLIT_SEED)
    for inside, outside in folds.split(training.images, training.labels):
        part, rest = training[inside], training[outside]
        right, neighbours = correct(train(part), rest), neighbours_correct(part, rest)
        print(f"of {len(outside)} digits right: {right}, k-nearest-neighbours {neighbours}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--validate", action="store_true", help="cross-validate, write nothing")
    training, held_out = split_digits()
    if parser.parse_args().validate:
        cross_validate(training)
        return
    model = save(train(training))
    figures = measure(model, training, held_out)
    fill_in_card(model, figures)
    write_samples(held_out)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
