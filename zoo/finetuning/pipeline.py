"""Examples to batches, as `tf.data`: augmented and mixed for training, in order for evaluation.

A batch of the training stream follows from the seed, its epoch and its step alone: each example and
each batch has a seed of its own, so that neither threads nor the epoch that a stream begins at
change a bit. Images are read, cropped and resized by Pillow, as evaluation does, and augmented in
TensorFlow ops (`zoo.preprocessing.training`). Sequences are encoded once, and padded as the
preprocessor pads them.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from zoo.errors import InputError, OptionError
from zoo.options import plain
from zoo.preprocessing.host import host_call
from zoo.preprocessing.image import ImagePreprocessor
from zoo.preprocessing.sequence import SequencePreprocessor
from zoo.preprocessing.text import TextPreprocessor
from zoo.typed import fits

if TYPE_CHECKING:
    import tensorflow as tf

    from zoo.finetuning.examples import Examples
    from zoo.finetuning.sampling import Sampler

Sequences = SequencePreprocessor | TextPreprocessor

_SEEDS = 2  # what random numbers are for; `sampling` has 0 and 1
_LOADING = threading.Lock()  # two threads must not load one and the same PIL image


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What training does to images. With all off they are preprocessed as in evaluation.

    Attributes:
        crop: least and greatest share of the image's area that the random crop takes; None for
            evaluation's crop.
        flip: probability of the horizontal flip.
        rand_augment: layers, and magnitude from 0 to 10, of RandAugment, as timm's
            `rand-m{magnitude}-n{layers}-inc1`.
        color_jitter: brightness, contrast and saturation change by factors that differ from 1 by
            up to this.
        random_erasing: probability that a box is erased.
        erasing_mode: `const` erases to the mean colour, `pixel` to noise.
        mixup, cutmix: parameter of the beta distribution by which the images of a batch are
            blended, or one is laid over another; 0 is off, and with both each batch gets one of
            them by even chance.

    Raises:
        OptionError: a value that is out of range.
    """

    crop: tuple[float, float] | None = None
    flip: float = 0.0
    rand_augment: tuple[int, float] | None = None
    color_jitter: float = 0.0
    random_erasing: float = 0.0
    erasing_mode: Literal["const", "pixel"] = "const"
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):  # of numpy's numbers, and lists as JSON has them
            object.__setattr__(self, field.name, plain(getattr(self, field.name)))
        for name, low, high in _RANGES:
            if not _is_number(getattr(self, name), low, high):
                raise OptionError(
                    f"{name}={getattr(self, name)!r}: a number from {low:g} to {high:g} was "
                    "expected."
                )
        crop, layers = self.crop, self.rand_augment
        if crop is not None and not (_is_pair(crop) and 0 < crop[0] <= crop[1] <= 1):
            raise OptionError(
                f"crop={crop!r}: None, or two shares (least, greatest) above 0 and up to 1."
            )
        if layers is not None and not (
            _is_pair(layers) and type(layers[0]) is int and layers[0] > 0 and layers[1] <= 10
        ):
            raise OptionError(
                f"rand_augment={layers!r}: None, or (layers, magnitude), a whole number from 1 and "
                "a number from 0 to 10."
            )
        if self.erasing_mode not in ("const", "pixel"):
            raise OptionError(f"erasing_mode={self.erasing_mode!r}: 'const' or 'pixel'.")

    @property
    def changes_inputs(self) -> bool:
        """Whether anything is on."""
        names = (field.name for field in fields(self) if field.name != "erasing_mode")
        return any(bool(getattr(self, name)) for name in names)


_RANGES = (
    ("flip", 0, 1),
    ("color_jitter", 0, 10),
    ("random_erasing", 0, 1),
    ("mixup", 0, 1e3),
    ("cutmix", 0, 1e3),
)


def _is_number(value: Any, low: float, high: float) -> bool:
    return fits(value, float) and low <= value <= high


def _is_pair(value: Any) -> bool:
    two = isinstance(value, tuple) and len(value) == 2
    return two and all(_is_number(number, 0, math.inf) for number in value)


def training_batches(
    examples: Examples,
    preprocess: ImagePreprocessor | Sequences,
    sampler: Sampler,
    augment: Augment,
    seed: int,
    class_weights: np.ndarray | None,
    first_epoch: int,
    epochs: int,
) -> tf.data.Dataset:
    """The batches of some epochs, one after the other.

    Args:
        sampler: which examples make a batch.
        seed: of the augmentation, not negative.
        class_weights: weight of each class `[classes]`; None for 1.
        first_epoch: number of the first one, counted from 0.
        epochs: how many.

    Returns:
        `(x, y, w)`: what the model takes, `[batch, ...]`; soft labels, float32 `[batch, classes]`;
        weights, float32 `[batch]`, mixed as the labels are.

    Raises:
        InputError: a sequence that the model does not take.
        OptionError: augmentation of sequences.
    """
    import tensorflow as tf

    def weighed(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, ...]:
        if class_weights is None:
            return x, y, tf.ones([sampler.batch_size])
        return x, y, tf.linalg.matvec(y, tf.constant(class_weights, tf.float32))

    span = range(first_epoch, first_epoch + epochs)
    if isinstance(preprocess, ImagePreprocessor):
        batches = _training_images(examples, preprocess, sampler, augment, seed, span)
    elif augment.changes_inputs:
        raise OptionError(f"{augment} is for images; sequences are taken as they are.")
    else:
        batches = _training_sequences(examples, preprocess, sampler, span)
    return _finished(batches.map(_as_it_is(weighed)))


def evaluation_batches(
    examples: Examples, preprocess: ImagePreprocessor | Sequences, batch_size: int
) -> tf.data.Dataset:
    """The examples in order, preprocessed as the reference does it in evaluation.

    Returns:
        `(x, y)`: what the model takes, `[batch, ...]`, and labels, float32 `[batch, classes]`; the
        last batch may be smaller.

    Raises:
        InputError: a sequence that the model does not take.
    """
    import tensorflow as tf

    if not isinstance(preprocess, ImagePreprocessor):
        rows = tf.data.Dataset.range(len(examples)).batch(batch_size)
        return _finished(_padded(rows, examples, preprocess, batch_size))
    spec = preprocess.spec

    def prepared(k: np.ndarray) -> np.ndarray:
        return preprocess([_input(examples, int(k))])[0]

    def example(k: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x = host_call(prepared, [k], tf.float32)
        x = tf.ensure_shape(x, (*spec.input_size, spec.channels))
        return x, tf.one_hot(label, len(examples.classes))

    each = tf.data.Dataset.from_tensor_slices((np.arange(len(examples)), examples.labels))
    return _finished(_in_parallel(each, example).batch(batch_size))


# ---------------------------------------------------------------- images


def _training_images(
    examples: Examples,
    preprocess: ImagePreprocessor,
    sampler: Sampler,
    augment: Augment,
    seed: int,
    epochs: range,
) -> tf.data.Dataset:
    """Batches `(x, y)`."""
    import tensorflow as tf

    from zoo.preprocessing.augment import mix
    from zoo.preprocessing.training import TrainPreprocessor

    train = TrainPreprocessor(
        preprocess.spec,
        exif=preprocess.exif,
        scale=augment.crop,
        flip=augment.flip,
        color_jitter=augment.color_jitter,
        rand_augment=augment.rand_augment,
        random_erasing=augment.random_erasing,
        erasing_mode=augment.erasing_mode,
    )

    def read(k: int) -> tuple[str, Any]:
        name = examples.names[k]
        return name, preprocess.read(_input(examples, k), name)

    def example(k: tf.Tensor, label: tf.Tensor, own: tf.Tensor, of_batch: tf.Tensor) -> Any:
        return train.from_host(read, k, own), tf.one_hot(label, len(examples.classes)), of_batch

    def mixed(x: tf.Tensor, y: tf.Tensor, seeds: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return mix(x, y, seeds[0], augment.mixup, augment.cutmix)

    each = tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(
        _as_it_is(_planned(examples, sampler, seed))
    )
    batches = _in_parallel(each, example).batch(sampler.batch_size, drop_remainder=True)
    return batches.map(_as_it_is(mixed))


def _planned(examples: Examples, sampler: Sampler, seed: int) -> Callable[[Any], tf.data.Dataset]:
    """Makes examples, labels and seeds of an epoch, each with the seed of its batch."""
    import tensorflow as tf

    def plan(epoch: np.ndarray) -> tuple[np.ndarray, ...]:
        rows = sampler.batches(int(epoch))
        seeds = _seeds(seed, int(epoch), rows.shape[0], rows.shape[1] + 1)
        of_batch = np.repeat(seeds[:, :1], rows.shape[1], axis=1)
        rows = rows.ravel()
        own = seeds[:, 1:].reshape(-1, 2)
        labels = examples.labels[rows].astype(np.int32)
        return rows, labels, own, of_batch.reshape(-1, 2)

    def planned(epoch: tf.Tensor) -> tf.data.Dataset:
        types = (tf.int64, tf.int32, tf.int32, tf.int32)
        rows, labels, own, of_batch = host_call(plan, [epoch], types)
        rows, labels = (tf.ensure_shape(part, [None]) for part in (rows, labels))
        own, of_batch = (tf.ensure_shape(part, [None, 2]) for part in (own, of_batch))
        return tf.data.Dataset.from_tensor_slices((rows, labels, own, of_batch))

    return planned


def _seeds(seed: int, epoch: int, *shape: int) -> np.ndarray:
    """Seeds of the epoch, int32 `[..., 2]`."""
    sequence = np.random.SeedSequence(seed, spawn_key=(_SEEDS, epoch))
    return np.random.default_rng(sequence).integers(2**31, size=(*shape, 2), dtype=np.int32)


def _input(examples: Examples, k: int) -> Any:
    item = examples.inputs[k]
    if isinstance(item, Image.Image):
        with _LOADING:
            item.load()
    return item


# ---------------------------------------------------------------- sequences


def _training_sequences(
    examples: Examples,
    preprocess: Sequences,
    sampler: Sampler,
    epochs: range,
) -> tf.data.Dataset:
    """Batches `(x, y)`; nothing about them is random but the order."""
    import tensorflow as tf

    def planned(epoch: tf.Tensor) -> tf.data.Dataset:
        rows = host_call(lambda epoch: sampler.batches(int(epoch)), [epoch], tf.int64)
        rows = tf.ensure_shape(rows, [None, sampler.batch_size])
        return tf.data.Dataset.from_tensor_slices(rows)

    rows = tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(_as_it_is(planned))
    return _padded(rows, examples, preprocess, sampler.batch_size)


def _padded(
    rows: tf.data.Dataset, examples: Examples, preprocess: Sequences, most: int
) -> tf.data.Dataset:
    """Batches `(x, y)` of the examples that `rows` names, int64 `[batch]`, `most` of them each."""
    import tensorflow as tf

    encoded = encode(examples, preprocess)
    size, stacked = rows.element_spec.shape[0], _stacker(preprocess)
    if most > 1 and encoded:  # whether there is padding, if it takes any
        stacked([min(encoded, key=len), max(encoded, key=len)])
    specs = [_without_size(part, size) for part in stacked(encoded[:1])]

    def batch(rows: np.ndarray) -> tuple[np.ndarray, ...]:
        labels = examples.labels[rows].astype(np.int32)
        return *stacked([encoded[k] for k in rows]), labels

    def example(rows: tf.Tensor) -> tuple[Any, tf.Tensor]:
        types = [*(dtype for _, dtype in specs), tf.int32]
        *parts, labels = host_call(batch, [rows], types)
        pairs = zip(parts, specs, strict=True)
        parts = [tf.ensure_shape(part, shape) for part, (shape, _) in pairs]
        labels = tf.one_hot(tf.ensure_shape(labels, [size]), len(examples.classes))
        if isinstance(preprocess, TextPreprocessor):
            return dict(zip(preprocess.spec.inputs, parts, strict=True)), labels
        return parts[0], labels

    return _in_parallel(rows, example)


def _stacker(preprocess: Sequences) -> Callable[[list[Any]], tuple[np.ndarray, ...]]:
    """What makes encoded sequences the arrays of a batch."""
    if isinstance(preprocess, TextPreprocessor):
        names = preprocess.spec.inputs
        return lambda rows: tuple(preprocess.batch(rows)[name] for name in names)
    return lambda rows: (preprocess._stacked(rows),)


def _without_size(array: np.ndarray, size: int | None) -> tuple[tuple[int | None, ...], Any]:
    """The shape of batches of which one sequence is `array`, and the dtype."""
    return (size, None, *array.shape[2:]), array.dtype


def encode(examples: Examples, preprocess: Sequences) -> list[Any]:
    """Each sequence as the model takes it, without padding; made once for all epochs.

    Raises:
        InputError: one that the model does not take, by name.
    """
    for spec, rows in examples.encoded:
        if spec == preprocess.spec:
            return rows
    examples.encoded.append((preprocess.spec, _encoded(examples, preprocess)))
    return examples.encoded[-1][1]


def _encoded(examples: Examples, preprocess: Sequences) -> list[Any]:
    if isinstance(preprocess, TextPreprocessor):
        return preprocess.encode(list(examples.inputs))
    rows = []
    for item, name in zip(examples.inputs, examples.names, strict=True):
        try:
            rows.append(preprocess([item])[0])
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    return rows


# ---------------------------------------------------------------- tf.data


def _as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    import tensorflow as tf

    return tf.autograph.experimental.do_not_convert(function)


def _in_parallel(dataset: tf.data.Dataset, function: Callable[..., Any]) -> tf.data.Dataset:
    # two for each core: a result that waits for the one before it holds its place
    calls = 2 * (os.cpu_count() or 1)
    return dataset.map(_as_it_is(function), num_parallel_calls=calls, deterministic=True)


def _finished(dataset: tf.data.Dataset) -> tf.data.Dataset:
    import tensorflow as tf

    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False  # with it, epochs at random ran one call at a time
    return dataset.prefetch(2).with_options(options)
