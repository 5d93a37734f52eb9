"""Tasks of text models: vectors, classes, entities. `answers` has those that look for words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
import numpy as np

from zoo.errors import InputError, TaskError
from zoo.layers.text import TextPool
from zoo.options import count
from zoo.tasks.base import binary_accuracy, softmax
from zoo.tasks.classification import Classification, Features, HostTask, Prediction, best
from zoo.tasks.graphs import compiled, wants_jit
from zoo.tasks.sequence import Entity, spans
from zoo.vectors import unit

# Lengths of batches are multiples of this, so that texts of about one length have one shape. Under
# XLA each shape costs seconds at first.
_MULTIPLE, _MULTIPLE_JIT = 4, 32


class TextTask(HostTask):
    """What tasks over texts share: tokens, and batches of texts of about one length."""

    def items(self, inputs: Any) -> Sequence[Any]:
        return self.preprocess.items(inputs)

    def encoded(self, inputs: Any, **options: Any) -> list[Any]:
        """The tokens of each text; the options are those of the preprocessing's `encode`."""
        return self.preprocess.encode(self.items(inputs), **options)

    def rows(
        self,
        encodings: Sequence[Any],
        batch_size: int,
        verb: str,
        *,
        tensor: Any = None,
        key: str = "outputs",
        skip: int = 0,
        reduce: Callable[[Any, np.ndarray], Any] = lambda encoding, row: row,
    ) -> list[Any]:
        """What the model gives for each encoded text, in their order.

        The longest texts go first, together with others of their length, so that little is padded
        and a text that needs too much memory is known at once.

        Args:
            tensor, key: see `compiled`.
            skip: see the preprocessing's `batch`.
            reduce: what is kept of a text's row, given its encoding: all rows of tokens' logits
                would be too many.
        """
        preprocess, forward = self.preprocess, compiled(self.model, tensor, key)
        multiple = _MULTIPLE_JIT if wants_jit(self.model) else _MULTIPLE
        order = np.argsort([-len(encoding) for encoding in encodings], kind="stable")
        found: list[Any] = [None] * len(encodings)

        def prepare(places: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            batch = [encodings[k] for k in places]
            return places, preprocess.batch(batch, multiple=multiple, skip=skip)

        for places, arrays in self.batches(order, batch_size, verb, prepare):
            for k, row in zip(places, np.asarray(forward(arrays)), strict=True):
                found[k] = reduce(encodings[k], row)
        return found

    def unpadded(self, encoding: Any, row: np.ndarray) -> np.ndarray:
        """The part of a padded row that belongs to the tokens of a text."""
        count = len(encoding)
        left = self.preprocess.spec.padding_side == "left"
        return row[len(row) - count :] if left else row[:count]


# ---------------------------------------------------------------- vectors


class TextFeatures(TextTask, Features):
    """Texts to vectors, by a network with no head."""

    name = "feature-extraction"
    verbs: ClassVar[tuple[str, ...]] = ("embed",)
    headed = "text-classification"
    headless = "feature-extraction"
    example = "model.embed(texts)"

    def embed(
        self,
        inputs: Any,
        *,
        pooling: str = "mean",
        normalize: bool = False,
        batch_size: int = 32,
        truncate: bool = True,
    ) -> np.ndarray:
        """One vector per text, float32 `[n, dim]`, in the order of the texts.

        Args:
            inputs: a text, a pair of texts (a tuple), or a list of these.
            pooling: what is made of the tokens' vectors; see `TextPool`.
            normalize: whether the vectors get length 1.
            batch_size: texts per pass.
            truncate: whether longer texts than the model takes are cut, with one warning; else
                they are errors.

        Raises:
            InputError: no texts, or something else than texts.
            ConfigError: no such pooling.
            TaskError: the model gives all layers' vectors (`features_only`).
        """
        if self.model.feature_info is not None:
            raise TaskError(
                f"{self.model.name!r} was loaded with features_only and gives all of its layers' "
                "vectors. Call it on preprocess(texts), or load it without, for one per text."
            )

        def pooled() -> Any:
            mask = self.model.input["attention_mask"]
            return TextPool((pooling,))(self.model.output["last_hidden_state"], attention_mask=mask)

        encodings, key = self.encoded(inputs, truncate=truncate), f"embedding {pooling}"
        rows = self.rows(encodings, batch_size, "embed", tensor=pooled, key=key)
        return _vectors(rows, normalize)


class SentenceSimilarity(TextTask, Features):
    """Texts to vectors that are near each other where the texts mean the same."""

    name = "sentence-similarity"
    verbs: ClassVar[tuple[str, ...]] = ("embed",)
    headed = "text-classification"
    headless = "feature-extraction"
    example = "model.embed(texts)"

    def embed(
        self,
        inputs: Any,
        *,
        prompt: str | None = None,
        normalize: bool = False,
        batch_size: int = 32,
        truncate: bool = True,
    ) -> np.ndarray:
        """One vector per text, float32 `[n, dim]`, in the order of the texts.

        Args:
            inputs: a text, a pair of texts (a tuple), or a list of these.
            prompt: name of one of the model's prompts, or a text, to stand before each; None is
                the model's usual one.
            normalize: whether the vectors get length 1, if the model does not give them so.
            batch_size: texts per pass.
            truncate: as for every text model.

        Raises:
            InputError: no texts, or something else than texts.
        """
        spec = self.preprocess.spec
        name = spec.default_prompt if prompt is None else prompt
        before = "" if name is None else spec.prompts.get(name, name)
        encodings = self.encoded(inputs, truncate=truncate, prompt=before)
        skip = self.preprocess.uncounted(before)
        return _vectors(self.rows(encodings, batch_size, "embed", skip=skip), normalize)


def _vectors(rows: Sequence[np.ndarray], normalize: bool) -> np.ndarray:
    vectors = np.stack(rows).astype(np.float32)
    return unit(vectors) if normalize else vectors


# ---------------------------------------------------------------- classes


class TextClassification(TextTask, Classification):
    """Texts, or pairs of texts, to classes."""

    name = "text-classification"
    verbs: ClassVar[tuple[str, ...]] = ("classify", "embed")
    headless = "feature-extraction"
    headed = "text-classification"
    example = "model.classify(text)"

    def classify(
        self, inputs: Any, top: int = 5, *, batch_size: int = 32, truncate: bool = True
    ) -> list[list[Prediction]]:
        """The `top` most probable classes of each text, best first.

        Where the checkpoint says that classes do not exclude each other, each has a probability of
        its own; where it says that they are numbers, the score is the number.

        Args:
            inputs: a text, a pair of texts (a tuple), or a list of these.
            top: classes per text; more than there are gives all.
            batch_size: texts per pass.
            truncate: as for every text model.

        Raises:
            TaskError: the model has no labels.
            InputError: no texts, something else than texts, or `top` below 1.
        """
        labels = self.known_labels()
        top = count("top", top, error=InputError)
        rows = self.rows(self.encoded(inputs, truncate=truncate), batch_size, "classify")
        return [best(self.scores(logits), labels, top) for logits in rows]

    def embed(self, inputs: Any, *, batch_size: int = 32, truncate: bool = True) -> np.ndarray:
        """Features before the head, float32 `[n, dim]`."""
        encodings, tensor = self.encoded(inputs, truncate=truncate), self.model.embedding_tensor
        rows = self.rows(encodings, batch_size, "embed", tensor=tensor, key="embedding")
        return _vectors(rows, False)


class NextSentence(TextClassification):
    """Pairs of texts to whether the second follows on the first (class 0) or not (class 1)."""

    name = "next-sentence-prediction"
    headed = "text-classification"
    example = 'model.classify(("It rains.", "Take an umbrella."))'

    @property
    def problem(self) -> str:
        return "single_label_classification"

    def known_labels(self) -> tuple[str, ...]:
        return ("follows", "does not follow")


# ---------------------------------------------------------------- tokens


class TextTagging(TextTask):
    """Tokens of a text to tags: `entities`."""

    name = "token-classification"
    verbs: ClassVar[tuple[str, ...]] = ("entities",)
    headless = "feature-extraction"
    headed = "token-classification"
    example = "model.entities(text)"

    def loss(self) -> keras.losses.Loss:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)

    def entities(
        self, inputs: Any, *, batch_size: int = 32, truncate: bool = True
    ) -> list[list[Entity]]:
        """The labelled spans of each text, in order, with the places of their characters.

        Tags are `O` for what is nothing, and labels with or without `B-` (begins) and `I-` (goes
        on); neighbours of one label are one span.

        Args:
            inputs: a text, or a list of texts.
            batch_size: texts per pass.
            truncate: as for every text model.

        Raises:
            TaskError: the model has no labels.
            InputError: no texts, or something else than texts.
        """
        labels, texts = self.known_labels(), self.items(inputs)
        encodings = self.encoded(texts, truncate=truncate)
        rows = self.rows(encodings, batch_size, "entities", reduce=self.unpadded)
        found = []
        for text, encoding, logits in zip(texts, encodings, rows, strict=True):
            scores = softmax(logits)
            kept = [k for k, special in enumerate(encoding.special_tokens_mask) if not special]
            places = [encoding.offsets[k] for k in kept]
            found.append(list(spans(text, places, scores[kept], labels)))
        return found


class ReplacedTokens(TextTask):
    """Tokens of a text to the probability that somebody put them there in place of others."""

    name = "replaced-token-detection"
    verbs: ClassVar[tuple[str, ...]] = ()
    headed = "text-classification"
    headless = "feature-extraction"

    def loss(self) -> keras.losses.Loss:
        return keras.losses.BinaryCrossentropy(from_logits=True)

    def accuracy(self, name: str) -> keras.metrics.Metric:
        return binary_accuracy(name)
