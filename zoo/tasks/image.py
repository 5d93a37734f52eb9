"""Tasks of image models: classification, and features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from zoo.errors import InputError, TaskError
from zoo.tasks.base import Task, compiled, softmax


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


class _ImageTask(Task):
    """What image tasks share: host preprocessing, then the compiled pass, in batches."""

    def _outputs(self, inputs: Any, batch_size: int, verb: str, tensor: Any, key: str):
        model = self.model
        if model.preprocess is None:
            raise TaskError(
                f"{model.name!r} has no preprocessing on its card; call the model on a batch "
                "that you prepared yourself."
            )
        forward = compiled(model, tensor, key)
        for batch in self.batches(as_sequence(inputs), batch_size, verb):
            yield np.asarray(forward(model.preprocess(batch)))


class ImageClassification(_ImageTask):
    """Images to classes: `classify` and `embed`."""

    name = "image-classification"
    verbs = ("classify", "embed")
    headless = "image-feature-extraction"
    example = 'model.classify("picture.jpg")'

    def loss(self) -> keras.losses.Loss:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def classify(
        self, inputs: Any, top: int = 5, *, batch_size: int = 32
    ) -> list[list[Prediction]]:
        """The `top` most probable classes of each image, best first.

        Args:
            inputs: one image or a sequence of them, in any form that `preprocess` takes.
            top: classes per image; more than there are gives all.
            batch_size: images per pass.

        Raises:
            TaskError: the model has no labels.
            InputError: an input that is no image, or `top` below 1.
        """
        labels = self.model.labels
        if labels is None:
            raise TaskError(
                f"{self.model.name!r} has no known labels, so its classes have no names. Use "
                "embed() for features, call the model for logits, or load it with labels=[...]."
            )
        if top < 1:
            raise InputError(f"top must be at least 1; got {top}.")
        results: list[list[Prediction]] = []
        for logits in self._outputs(inputs, batch_size, "classify", None, "outputs"):
            results.extend(_best(row, labels, top) for row in softmax(logits))
        return results

    def embed(self, inputs: Any, *, batch_size: int = 32) -> np.ndarray:
        """Pooled features before the head, float32 `[n, dim]`."""
        tensor = self.model.embedding_tensor
        rows = self._outputs(inputs, batch_size, "embed", tensor, "embedding")
        return _stacked(rows, tensor.shape[-1])


class ImageFeatures(_ImageTask):
    """Images to features: a model with no head."""

    name = "image-feature-extraction"
    verbs = ("embed",)
    headless = "image-feature-extraction"
    example = 'model.embed("picture.jpg")'

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
        rows = self._outputs(inputs, batch_size, "embed", None, "outputs")
        return _stacked(rows, self.model.output_shape[-1])


def as_sequence(inputs: Any) -> Sequence | np.ndarray:
    """One input or many, as a sequence: a 4-D array is a batch already."""
    if isinstance(inputs, np.ndarray) and inputs.ndim == 4:
        return inputs
    if isinstance(inputs, (list, tuple)):
        return inputs
    return [inputs]


def _best(probabilities: np.ndarray, labels: Sequence[str], top: int) -> list[Prediction]:
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [Prediction(label=labels[i], index=int(i), score=float(probabilities[i])) for i in order]


def _stacked(rows: Any, width: int) -> np.ndarray:
    rows = [np.asarray(r, np.float32) for r in rows]
    return np.concatenate(rows) if rows else np.zeros((0, width), np.float32)
