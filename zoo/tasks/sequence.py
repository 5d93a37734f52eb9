"""Tasks of sequence models: classes, features, tagged spans, forecasts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from zoo.layers.base import register
from zoo.tasks.base import softmax
from zoo.tasks.classification import Classification, Features, HostTask


class _Sequences(HostTask):
    """Cuts inputs as the preprocessing of sequences does."""

    def items(self, inputs: Any) -> Sequence[Any]:
        return self.preprocess.items(inputs)


class SequenceClassification(_Sequences, Classification):
    """Sequences to classes."""

    name = "sequence-classification"
    headless = "sequence-feature-extraction"
    example = "model.classify(sequence)"


class SequenceFeatures(_Sequences, Features):
    """Sequences to features."""

    name = "sequence-feature-extraction"
    headed = "sequence-classification"
    headless = "sequence-feature-extraction"
    example = "model.embed(sequence)"


# ---------------------------------------------------------------- tags


@dataclass(frozen=True, kw_only=True)
class Entity:
    """A stretch of a text with a label.

    Attributes:
        label: without `B-` and `I-`.
        start, end: first character and one past the last; of a list of tokens, places in it.
        text: what stands there.
        score: mean probability of its tokens' tags.
    """

    label: str
    start: int
    end: int
    text: str
    score: float


class SequenceTagging(_Sequences):
    """Tokens of a text to tags: `entities`."""

    name = "token-classification"
    verbs = ("entities",)
    example = "model.entities(text)"

    def loss(self) -> keras.losses.Loss:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)

    def entities(self, inputs: Any, *, batch_size: int = 32) -> list[list[Entity]]:
        """The labelled spans of each text, in order.

        Tags are `O` for what is nothing, and labels with or without `B-` (begins) and `I-` (goes
        on); neighbours of one label are one span.

        Args:
            inputs: a text, a list of texts, or lists of tokens.
            batch_size: texts per pass.

        Raises:
            TaskError: the model has no labels.
            InputError: an empty text, or tokens that the model does not know.
        """
        labels, preprocess = self.known_labels(), self.preprocess
        texts = self.items(inputs)
        rows = [row for batch in self.outputs(inputs, batch_size, "entities") for row in batch]
        found = []
        for text, logits in zip(texts, rows, strict=True):
            places = [place for _, place in preprocess.tokens(text)]
            found.append(list(spans(text, places, softmax(logits[: len(places)]), labels)))
        return found


def spans(
    text: Any, places: Sequence[tuple[int, int]], scores: np.ndarray, labels: Sequence[str]
) -> Iterator[Entity]:
    """The labelled stretches of a text.

    Args:
        places: first character of each token, and one past its last.
        scores: probabilities of the tags, `[tokens, tags]`.
        labels: the tags.
    """
    best = scores.argmax(-1)
    tags = [labels[k].removeprefix("B-").removeprefix("I-") for k in best]
    begins = [labels[k].startswith("B-") for k in best]
    numbers = itertools.accumulate(  # of the span that each token is in
        range(len(tags)),
        lambda number, k: number + (begins[k] or tags[k] != tags[k - 1]),
    )
    for _, group in itertools.groupby(zip(numbers, range(len(tags)), strict=True), lambda p: p[0]):
        members = [k for _, k in group]
        if tags[members[0]] == "O":
            continue
        start, end = places[members[0]][0], places[members[-1]][1]
        part = text[start:end]
        yield Entity(
            label=tags[members[0]],
            start=start,
            end=end,
            text=part if isinstance(part, str) else " ".join(part),
            score=float(np.mean([scores[k, best[k]] for k in members])),
        )


# ---------------------------------------------------------------- forecasts


@register
class QuantileLoss(keras.losses.Loss):
    """The mean pinball loss of quantiles (Koenker and Bassett, 1978).

    Args:
        quantiles: of the last axis of the predictions `[n, horizon, quantiles]`; targets are
            `[n, horizon]`.
    """

    def __init__(self, quantiles: Sequence[float], name: str = "quantile_loss", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.quantiles = tuple(quantiles)

    def call(self, y_true, y_pred):
        y_true = keras.ops.cast(y_true, y_pred.dtype)
        below = keras.ops.reshape(y_true, (*keras.ops.shape(y_pred)[:-1], 1)) - y_pred
        levels = keras.ops.convert_to_tensor(self.quantiles, y_pred.dtype)
        return keras.ops.mean(keras.ops.maximum(levels * below, (levels - 1) * below), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"quantiles": list(self.quantiles)}


class Forecasting(_Sequences):
    """Series to quantiles of their next values: `forecast`."""

    name = "time-series-forecasting"
    verbs = ("forecast",)
    example = "model.forecast(series)"

    @property
    def quantiles(self) -> tuple[float, ...]:
        """The levels of the last axis of a forecast."""
        return tuple(self.model.record.card.config.get("quantiles", (0.1, 0.5, 0.9)))

    def loss(self) -> keras.losses.Loss:
        return QuantileLoss(self.quantiles)

    def forecast(self, inputs: Any, *, batch_size: int = 32) -> np.ndarray:
        """Quantiles of the next values of each series' first feature.

        Args:
            inputs: an array `[t, features]` (`[t]` where there is one), or many.
            batch_size: series per pass.

        Returns:
            float32 `[n, horizon, quantiles]`, never decreasing along the last axis.

        Raises:
            InputError: an empty series, NaN, or another number of features.
            TaskError: the model has no preprocessing.
        """
        rows = [np.asarray(r, np.float32) for r in self.outputs(inputs, batch_size, "forecast")]
        return np.sort(np.concatenate(rows), axis=-1)
