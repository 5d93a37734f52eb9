"""Classes of inputs of any kind, and the vectors that a classifier has before its head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np

from zoo.errors import InputError, OptionError, TaskError
from zoo.options import count
from zoo.registry.heads import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from zoo.tasks.base import Task, binary_accuracy, sigmoid, softmax
from zoo.tasks.graphs import compiled


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One class of a classification.

    Attributes:
        label: name of the class.
        index: its place in the logits.
        score: probability, 0..1.
    """

    label: str
    index: int
    score: float


class HostTask(Task):
    """What tasks with preprocessing on the host share: that, then the compiled pass, in batches."""

    def items(self, inputs: Any) -> Sequence[Any] | np.ndarray:
        """The single inputs of one input or many."""
        raise NotImplementedError

    def outputs(
        self, inputs: Any, batch_size: int, verb: str, tensor: Any = None, key: str = "outputs"
    ) -> Iterator[np.ndarray]:
        """What the model gives for each batch of the inputs; see `compiled` for `tensor`.

        The next batches are prepared while the model runs one.
        """
        preprocess, forward = self.preprocess, compiled(self.model, tensor, key)
        for x in self.batches(self.items(inputs), batch_size, verb, preprocess):
            yield np.asarray(forward(x))

    @property
    def problem(self) -> str | None:
        """What the classes are; None where the model has none."""
        return None

    def known_labels(self) -> tuple[str, ...]:
        """The names of the classes.

        Raises:
            TaskError: they are not known.
        """
        if self.model.labels is None:
            raise TaskError(
                f"{self.model.name!r} has no known labels, so its classes have no names. Use "
                "embed() for features, call the model for logits, or load it with labels=[...]."
            )
        return self.model.labels


class Classification(HostTask):
    """Inputs to classes: `classify` and `embed`."""

    verbs: ClassVar[tuple[str, ...]] = ("classify", "embed")

    @property
    def problem(self) -> str:
        """What the classes are, as transformers' `problem_type` says it.

        `single_label_classification`: each input is of exactly one. `multi_label_classification`:
        each is or is not of every class, each logit being a probability of its own. `regression`:
        numbers. One class alone is of the second kind, as in transformers' pipelines.
        """
        stated = self.model.record.card.config.get("problem_type")
        if stated == REGRESSION:
            return REGRESSION
        one = self.model.outputs[0].shape[-1] == 1
        return MULTI_LABEL if one or stated == MULTI_LABEL else SINGLE_LABEL

    def loss(self) -> keras.losses.Loss:
        if self.problem == REGRESSION:
            return keras.losses.MeanSquaredError()
        if self.problem == MULTI_LABEL:
            return keras.losses.BinaryCrossentropy(from_logits=True)
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def accuracy(self, name: str) -> keras.metrics.Metric | None:
        if self.problem == REGRESSION:
            raise OptionError(
                f"{self.model.name!r} gives numbers, which have no {name}. Take a metric such as "
                "'mae'."
            )
        return binary_accuracy(name) if self.problem == MULTI_LABEL else None

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities of logits `[..., classes]`, float32; of numbers, these."""
        if self.problem == REGRESSION:
            return np.asarray(logits, np.float32)
        return sigmoid(logits) if self.problem == MULTI_LABEL else softmax(logits)

    def classify(
        self, inputs: Any, top: int = 5, *, batch_size: int = 32
    ) -> list[list[Prediction]]:
        """The `top` most probable classes of each input, best first.

        Where classes do not exclude each other, or there is one alone, each has a probability of
        its own: the sigmoid of its logit.

        Args:
            inputs: one input or a sequence of them, in any form that `preprocess` takes.
            top: classes per input; more than there are gives all.
            batch_size: inputs per pass.

        Raises:
            TaskError: the model has no labels.
            InputError: an input of another kind, or `top` below 1.
        """
        labels = self.known_labels()
        top = count("top", top, error=InputError)
        results: list[list[Prediction]] = []
        for logits in self.outputs(inputs, batch_size, "classify"):
            results.extend(best(row, labels, top) for row in self.scores(logits))
        return results

    def embed(self, inputs: Any, *, batch_size: int = 32) -> np.ndarray:
        """Features before the head, float32 `[n, dim]`."""
        tensor = self.model.embedding_tensor
        rows = self.outputs(inputs, batch_size, "embed", tensor, "embedding")
        return _stacked(rows, tensor.shape[-1])


class Features(HostTask):
    """Inputs to features: a model with no head."""

    verbs: ClassVar[tuple[str, ...]] = ("embed",)

    def embed(self, inputs: Any, *, batch_size: int = 32) -> np.ndarray:
        """Pooled features, float32 `[n, dim]`.

        Raises:
            TaskError: the model gives maps (`features_only`), which have no pooled form.
        """
        if self.model.feature_info is not None:
            raise TaskError(
                f"{self.model.name!r} was loaded with features_only and gives maps. Call it on "
                "preprocess(images), or load it with num_classes=0 for one vector per image."
            )
        rows = self.outputs(inputs, batch_size, "embed")
        return _stacked(rows, self.model.output_shape[-1])


def best(probabilities: np.ndarray, labels: Sequence[str], top: int) -> list[Prediction]:
    """The `top` classes with the highest of the probabilities `[classes]`, best first."""
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [Prediction(label=labels[i], index=int(i), score=float(probabilities[i])) for i in order]


def _stacked(rows: Any, width: int) -> np.ndarray:
    rows = [np.asarray(r, np.float32) for r in rows]
    return np.concatenate(rows) if rows else np.zeros((0, width), np.float32)
