"""Train the models of digits that ship with zoo, and fill in their cards.

    python scripts/train_digits.py resnet_mini             # a minute or two on two cores
    python scripts/train_digits.py lstm_mini --validate    # what its recipe was chosen by

The card of `<architecture>.digits` says what is built and what its inputs go through: an image for
the ResNet, the rows of a scan as a sequence for the LSTM. This trains it and writes
`zoo/bundled/<architecture>.digits` (weights, config, README), the demo's images
`zoo/bundled/digits`, and into the card the weights' sha256, the number of parameters and the
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
from pathlib import Path
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
from zoo.loading.pulling import BUNDLED
from zoo.record import LoadReport
from zoo.registry.registry import CARDS
from zoo.weights.disk import sha256_of

TEST = "digits held-out"
SAMPLES = BUNDLED / "digits"
SCRIPT = "scripts/train_digits.py"

SPLIT_SEED = 0
TRAIN_SEED = 0
NEIGHBOURS = (1, 3, 5)
SAMPLES_PER_DIGIT = 4


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained.

    Attributes:
        architecture: its name; the card is that of the tag `digits`.
        cards: the file that has the card.
        shift: places of the model's input that a digit may move each way.
        affine: parts of a full turn and of its size, and places, by which a digit may be turned,
            scaled and moved besides, between places.
        elastic: standard deviation of how far places move besides, each in its own direction, as a
            part of half of the image (Simard et al., ICDAR 2003); neighbours move alike.
        mixup: parameter of the beta distribution by which two digits are blended (Zhang et al.,
            arXiv:1710.09412); 0 is none.
        smoothing: part of the probability that goes to all classes alike.
        peak_rate: learning rate after `warmup` epochs; it falls to 0 along a cosine.
    """

    architecture: str
    cards: str
    shift: int = 0
    affine: tuple[float, float, float] | None = None
    elastic: float = 0.0
    mixup: float = 0.0
    smoothing: float = 0.0
    epochs: int = 60
    batch: int = 64
    peak_rate: float = 5e-3
    warmup: int = 3
    weight_decay: float = 1e-2

    @property
    def name(self) -> str:
        return f"{self.architecture}.digits"

    @property
    def weights(self) -> Path:
        return BUNDLED / self.name


RECIPES = {
    recipe.architecture: recipe
    for recipe in (
        Recipe(architecture="resnet_mini", cards="digits.json", shift=4),
        Recipe(
            architecture="lstm_mini",
            cards="lstm.json",
            affine=(0.03, 0.1, 0.5),
            mixup=0.4,
            smoothing=0.05,
            epochs=150,
            peak_rate=4e-3,
        ),
        Recipe(
            architecture="vit_mini",
            cards="vit_digits.json",
            affine=(0.03, 0.1, 1.0),
            elastic=0.08,
            mixup=0.4,
            smoothing=0.05,
            epochs=300,
            peak_rate=2e-3,
            weight_decay=5e-2,
        ),
    )
}


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


def inputs_of(model: zoo.Model, digits: Digits) -> list[Any]:
    """The scans as the model reads them: the bytes of PNG files, or rows of ink."""
    if model.record.task == "image-classification":
        return [png(image) for image in digits.images]
    return list(digits.images)


def train(recipe: Recipe, digits: Digits) -> zoo.Model:
    """A model trained from scratch; the same digits give the same model on the same machine."""
    keras.utils.set_random_seed(TRAIN_SEED)
    tf.config.experimental.enable_op_determinism()
    model = zoo.load(recipe.name, pretrained=False)
    images = model.preprocess(inputs_of(model, digits))
    black, margin = images.min(), [[recipe.shift] * 2] * 2 + [[0, 0]] * (images.ndim - 3)

    def shifted(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        padded = tf.pad(image, margin, constant_values=black)
        return tf.image.random_crop(padded, image.shape), label

    def prepared(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if recipe.affine and recipe.elastic:
            images = rippled(images, recipe.affine, recipe.elastic, black)
        elif recipe.affine:
            shape = tf.shape(images)  # a scan as rows has no channels
            images = tf.reshape(images, tf.concat([shape[:3], [-1]], 0))
            images = tf.reshape(bent(images, recipe.affine, black), shape)
        return blended(images, tf.one_hot(labels, 10), recipe.mixup)

    data = tf.data.Dataset.from_tensor_slices((images, digits.labels))
    data = data.shuffle(len(images)).map(shifted).batch(recipe.batch).map(prepared)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=recipe.peak_rate,
        warmup_steps=recipe.warmup * len(data),
        decay_steps=(recipe.epochs - recipe.warmup) * len(data),
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=recipe.weight_decay)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.smoothing)
    model.compile(optimizer, loss, metrics=["accuracy"])
    model.fit(data, epochs=recipe.epochs, shuffle=False, verbose=2)
    return model


def bent(images: tf.Tensor, affine: tuple[float, float, float], black: float) -> tf.Tensor:
    """Turns, scales and moves the images `[n, h, w, c]` of a batch, each by chance."""
    count, middle = tf.shape(images)[0], (images.shape[1] - 1) / 2

    def random(limit: float) -> tf.Tensor:
        return tf.random.uniform([count], -limit, limit)

    turn, zoom, move = affine
    angle = random(turn * 2 * np.pi)
    rows = []
    for x, y in ((tf.cos(angle), -tf.sin(angle)), (tf.sin(angle), tf.cos(angle))):
        scale = 1 + random(zoom)
        x, y = x * scale, y * scale
        rows += [x, y, middle * (1 - x - y) + random(move)]
    zeros = tf.zeros([count])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([*rows, zeros, zeros], axis=1),
        output_shape=images.shape[1:3],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=float(black),
    )


def rippled(
    images: tf.Tensor, affine: tuple[float, float, float], elastic: float, black: float
) -> tf.Tensor:
    """`bent`, and besides every place moves by chance, neighbours alike; sampled once.

    Args:
        elastic: deviation of these moves, as a part of half of the image.
    """
    count, (height, width) = tf.shape(images)[0], images.shape[1:3]
    middle = tf.constant([(height - 1) / 2, (width - 1) / 2])
    turn, zoom, move = affine

    def random(limit: float) -> tf.Tensor:
        return tf.random.uniform([count, 1, 1], -limit, limit)

    angle = random(turn * 2 * np.pi)
    ranges = (tf.range(float(n)) for n in (height, width))
    rows, columns = (v[None] for v in tf.meshgrid(*ranges, indexing="ij"))
    rows, columns = rows - middle[0], columns - middle[1]
    y = (tf.sin(angle) * columns + tf.cos(angle) * rows) * (1 + random(zoom)) + random(move)
    x = (tf.cos(angle) * columns - tf.sin(angle) * rows) * (1 + random(zoom)) + random(move)
    waves = tf.random.normal([count, _WAVES, _WAVES, 2]) * (elastic * height / 2)
    waves = tf.image.resize(waves, (height, width), method="bicubic")
    places = tf.stack([y, x], axis=-1) + waves + middle
    return sampled(images, places, black)


_WAVES = 4  # moves are drawn for a grid of so many places, and lie smoothly in between


def sampled(images: tf.Tensor, places: tf.Tensor, black: float) -> tf.Tensor:
    """The images `[n, h, w, c]` at places `[n, h, w, 2]` (row, column), black where none is."""
    padded = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=black)
    size = tf.constant([float(edge + 1) for edge in images.shape[1:3]])
    places = tf.clip_by_value(places + 1, 0.0, size)
    corner = tf.minimum(tf.floor(places), size - 1)
    down, right = tf.split(places - corner, 2, axis=-1)

    def at(below: int, beside: int) -> tf.Tensor:
        return tf.gather_nd(padded, tf.cast(corner, tf.int32) + [below, beside], batch_dims=1)

    upper = at(0, 0) * (1 - right) + at(0, 1) * right
    lower = at(1, 0) * (1 - right) + at(1, 1) * right
    return upper * (1 - down) + lower * down


def blended(images: tf.Tensor, labels: tf.Tensor, mixup: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Each image of a batch with another one, all in one random proportion, and so the labels."""
    if not mixup:
        return images, labels
    one, other = (tf.random.gamma([], mixup) for _ in range(2))
    part = one / (one + other)
    order = tf.random.shuffle(tf.range(tf.shape(images)[0]))

    def blend(values: tf.Tensor) -> tf.Tensor:
        return part * values + (1 - part) * tf.gather(values, order)

    return blend(images), blend(labels)


def correct(model: zoo.Model, digits: Digits) -> int:
    """How many digits the model names rightly; an image model from the bytes of PNG files on."""
    predictions = model.classify(inputs_of(model, digits), top=1)
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


def save(recipe: Recipe, model: zoo.Model) -> zoo.Model:
    """Write the model's folder, and load what was written."""
    model.attach(dataclasses.replace(model.record, report=LoadReport(source=SCRIPT)))
    return zoo.load(zoo.save(model, recipe.weights))


def fill_in_card(recipe: Recipe, model: zoo.Model, figures: dict[str, Any]) -> None:
    """Put into the card what came out of the training."""
    path = CARDS / recipe.cards
    data = json.loads(path.read_text("utf-8"))
    card = data["cards"][recipe.name]
    card["weights"]["sha256"] = sha256_of(recipe.weights / "model.safetensors")
    card["num_params"] = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    card["published"] = {TEST: figures}
    path.write_text(json.dumps(data, indent=1) + "\n", "utf-8")


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

Pictures that the models of digits were not trained on, `<digit>-<place in the data set>.png`, with
the values 0..16 of the scans stretched to 0..255. They are from E. Alpaydin and C. Kaynak, Optical
Recognition of Handwritten Digits, UCI Machine Learning Repository,
https://archive.ics.uci.edu/dataset/80, under the licence CC BY 4.0,
https://creativecommons.org/licenses/by/4.0/, in scikit-learn's copy.
"""


def cross_validate(recipe: Recipe, training: Digits) -> None:
    """Errors on each third of the training digits, after training on the other two."""
    folds = StratifiedKFold(3, shuffle=True, random_state=SPLIT_SEED)
    for inside, outside in folds.split(training.images, training.labels):
        part, rest = training[inside], training[outside]
        right, neighbours = correct(train(recipe, part), rest), neighbours_correct(part, rest)
        print(f"of {len(outside)} digits right: {right}, k-nearest-neighbours {neighbours}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("architecture", choices=RECIPES)
    parser.add_argument("--validate", action="store_true", help="cross-validate, write nothing")
    arguments = parser.parse_args()
    recipe = RECIPES[arguments.architecture]
    training, held_out = split_digits()
    if arguments.validate:
        cross_validate(recipe, training)
        return
    model = save(recipe, train(recipe, training))
    figures = measure(model, training, held_out)
    fill_in_card(recipe, model, figures)
    write_samples(held_out)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
