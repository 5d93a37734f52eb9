"""What a run trains on and is measured by: examples that zoo reads, or batches of the caller's."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo.errors import InputError, OptionError
from zoo.finetuning.examples import Examples, read_examples, readable, split
from zoo.finetuning.features import feature_batches, features
from zoo.finetuning.pipeline import encode, evaluation_batches, training_batches
from zoo.finetuning.sampling import Sampler
from zoo.finetuning.settings import Settings
from zoo.finetuning.sources import kind_of
from zoo.model import Model

HELD_OUT = 0.2  # of the examples, where no validation is given


class Data:
    """Training and validation data of one run.

    Attributes:
        classes: names of the classes that the head is to have; None: the head that there is.
        names: of the classes, for the metrics.
        counts: training examples per class; None where they are not known.
        validation: what `evaluate` takes.
        has_features: whether `as_features` can be had.
    """

    classes: tuple[str, ...] | None
    names: tuple[str, ...]
    counts: np.ndarray | None
    validation: Any
    has_features = True

    def fingerprint(self) -> dict[str, str]:
        """What tells these data from others."""
        raise NotImplementedError

    def steps(self, batch_size: int) -> int:
        """Batches of an epoch."""
        raise NotImplementedError

    def batches(self, model: Model, settings: Settings, first: int, end: int) -> Any:
        """Batches `(x, y, w)` of the epochs `first` to `end`, as a `tf.data.Dataset`."""
        raise NotImplementedError

    def held_out(self, model: Model, batch_size: int) -> Any:
        """Batches `(x, y)` of the validation, the same in each iteration."""
        raise NotImplementedError

    def as_features(self, model: Model, tensors: Sequence[Any], batch_size: int) -> Data:
        """The same, with what the model computes at `tensors` for inputs."""
        raise NotImplementedError


def read(
    model: Model,
    train: Any,
    validation: Any,
    *,
    seed: int,
    strict: bool,
    input_column: str | None,
    label_column: str,
) -> Data:
    """The data of a run from what a caller may give.

    Raises:
        InputError: examples that cannot be used.
        OptionError: a `tf.data.Dataset` with no validation, or one of other batches.
    """
    import tensorflow as tf

    if isinstance(train, tf.data.Dataset):
        return Ready(model, train, validation)
    kind, text = kind_of(model.record.card.preprocessing)

    def examples(source: Any, classes: Sequence[str] | None = None) -> Examples:
        found = read_examples(
            source,
            kind=kind,
            classes=classes,
            strict=strict,
            text=text,
            input_column=input_column,
            label_column=label_column,
        )
        return readable(found, strict, model.preprocess)

    training = examples(train)
    if validation is None:
        training, held_out = split(training, HELD_OUT, seed)
    else:
        held_out = examples(validation, training.classes)
    if said := training.imbalance():
        warnings.warn(said, UserWarning, stacklevel=3)
    return FromExamples(training, held_out, was_split=validation is None)


class FromExamples(Data):
    """Data that zoo reads, augments and batches.

    Attributes:
        training, validation: the examples.
        was_split: whether the one was taken out of the other.
    """

    def __init__(self, training: Examples, validation: Examples, was_split: bool = False) -> None:
        self.was_split = was_split
        self.training, self.validation = training, validation
        self.classes = self.names = training.classes
        self.counts = training.counts()

    def fingerprint(self) -> dict[str, str]:
        return {"train": self.training.fingerprint(), "validation": self.validation.fingerprint()}

    def steps(self, batch_size: int) -> int:
        return Sampler(len(self.training), batch_size, 0, None).steps

    def batches(self, model: Model, settings: Settings, first: int, end: int) -> Any:
        preprocess = model.preprocess
        sampler = Sampler(
            len(self.training), settings.batch_size, settings.seed, self._lengths(model)
        )
        return training_batches(
            self.training,
            preprocess,
            sampler,
            settings.augment,
            settings.seed,
            class_array(settings),
            first,
            end - first,
        )

    def _lengths(self, model: Model) -> np.ndarray | None:
        """Steps of each sequence, where they differ."""
        if model.record.task.startswith("image"):
            return None
        encoded = encode(self.training, model.preprocess)
        lengths = np.array([len(row) for row in encoded])
        return lengths if len(set(lengths.tolist())) > 1 else None

    def held_out(self, model: Model, batch_size: int) -> Any:
        return evaluation_batches(self.validation, model.preprocess, batch_size)

    def as_features(self, model: Model, tensors: Sequence[Any], batch_size: int) -> Data:
        return FromFeatures(
            self,
            [
                features(model, tensors, part, batch_size)
                for part in (self.training, self.validation)
            ],
        )


class FromFeatures(Data):
    """Features of examples, for a head alone."""

    def __init__(self, data: FromExamples, arrays: Sequence[Sequence[np.ndarray]]) -> None:
        self.data, self.arrays = data, arrays
        self.classes, self.names, self.counts = data.classes, data.names, data.counts

    def steps(self, batch_size: int) -> int:
        return self.data.steps(batch_size)

    def batches(self, model: Model, settings: Settings, first: int, end: int) -> Any:
        examples = self.data.training
        sampler = Sampler(len(examples), settings.batch_size, settings.seed, None)
        return feature_batches(
            self.arrays[0], one_hot(examples), sampler, class_array(settings), first, end
        )

    def held_out(self, model: Model, batch_size: int) -> Any:
        labels, arrays = one_hot(self.data.validation), self.arrays[1]
        for start in range(0, len(labels), batch_size):
            rows = slice(start, start + batch_size)
            yield tuple(np.asarray(array[rows]) for array in arrays), labels[rows]


class Ready(Data):
    """Batches of the caller's, ready for the model."""

    classes = counts = None
    has_features = False

    def __init__(self, model: Model, train: Any, validation: Any) -> None:
        import tensorflow as tf

        if not isinstance(validation, tf.data.Dataset):
            raise OptionError(
                "A tf.data.Dataset for training needs one for validation=, too; got "
                f"{type(validation).__name__}. It cannot be split."
            )
        self.train, self.validation = train, validation
        width = int(model.output_shape[-1])
        self.names = model.labels or tuple(str(k) for k in range(width))
        for name, part in (("train", train), ("validation", validation)):
            self._check(model, name, part)

    def _check(self, model: Model, name: str, part: Any) -> None:
        spec = part.element_spec
        if not isinstance(spec, tuple) or len(spec) != 2:
            raise InputError(f"{name} gives {spec}; pairs (x, y) of batches were expected.")
        if isinstance(spec[0], dict):  # inputs by name, which the model checks itself
            return
        x, shape = spec[0], model.input_shape
        wrong = x.shape.rank != len(shape) or any(
            a is not None and b is not None and a != b
            for a, b in zip(x.shape[1:], shape[1:], strict=True)
        )
        if wrong or x.dtype != model.inputs[0].dtype:
            raise InputError(
                f"{name} gives inputs {x.dtype.name} {list(x.shape)}; {model.name!r} takes batches "
                f"{model.inputs[0].dtype} {list(shape)}: map model.preprocess.graph over the "
                "images, and batch them."
            )

    def fingerprint(self) -> dict[str, str]:
        parts = {"train": self.train, "validation": self.validation}
        return {k: f"{p.element_spec} {int(p.cardinality())}" for k, p in parts.items()}

    def steps(self, batch_size: int) -> int:
        known = int(self.train.cardinality())
        return known if known > 0 else sum(1 for _ in self.train)

    def batches(self, model: Model, settings: Settings, first: int, end: int) -> Any:
        import tensorflow as tf

        if settings.augment.changes_inputs:
            raise OptionError("A tf.data.Dataset is taken as it is: augment in its own map().")

        def weighed(x: Any, y: Any) -> Any:
            return x, self._soft(y), tf.ones(tf.shape(y)[:1])

        return self.train.map(weighed).repeat(end - first).prefetch(tf.data.AUTOTUNE)

    def _soft(self, y: Any) -> Any:
        import tensorflow as tf

        if y.shape.rank == 2:
            return tf.cast(y, tf.float32)
        checks = [
            tf.debugging.assert_less(tf.reduce_max(y), tf.cast(len(self.names), y.dtype)),
            tf.debugging.assert_non_negative(y),
        ]
        with tf.control_dependencies([c for c in checks if c is not None]):
            return tf.one_hot(y, len(self.names))

    def held_out(self, model: Model, batch_size: int) -> Any:
        return self.validation.map(lambda x, y: (x, self._soft(y)))

    def as_features(self, model: Model, tensors: Sequence[Any], batch_size: int) -> Data:
        raise OptionError(
            "strategy='head' computes features of examples; with a tf.data.Dataset take 'full' or "
            "'gradual', or give the examples as a folder, a file or arrays."
        )


def one_hot(examples: Examples) -> np.ndarray:
    """float32 `[n, classes]`."""
    return np.eye(len(examples.classes), dtype=np.float32)[examples.labels]


def class_array(settings: Settings) -> np.ndarray | None:
    """The weights of the classes, float32."""
    weights = settings.class_weights
    return None if weights is None else np.array(weights, np.float32)
