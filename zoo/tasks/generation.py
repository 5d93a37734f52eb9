"""Texts that go on, by models that read from left to right, and how well these foresee a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np

from zoo.errors import InputError
from zoo.options import options_of
from zoo.tasks.base import Task, softmax
from zoo.tasks.decoding import Decoder
from zoo.tasks.sampling import GenerationOptions, seeds
from zoo.tasks.text import TextTask


class Generation(Task):
    """What all models of language share: `generate`, `stream` and `score`.

    Attributes:
        defaults: of the options, where they are others than those of `GenerationOptions`.
        stop_ids: tokens that end a text, and are no part of it.
        padding: the token that texts are filled up with.
    """

    name = "text-generation"
    verbs: ClassVar[tuple[str, ...]] = ("generate", "stream", "score")
    defaults: ClassVar[Mapping[str, Any]] = {}
    stop_ids: Sequence[int] = ()
    padding: int = 0

    def loss(self) -> keras.losses.Loss:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def begin(self, prompts: Sequence[str], count: int) -> tuple[np.ndarray, np.ndarray]:
        """The tokens of prompts that get `count` more, int `[n, t]`, and which are no padding.

        Raises:
            InputError: an empty prompt, or one that leaves no room for the new tokens.
        """
        raise NotImplementedError

    def generate(
        self, prompts: str | Sequence[str], *, batch_size: int = 8, **options: Any
    ) -> str | list[str]:
        """What follows each prompt.

        Args:
            prompts: a text, which gives a text, or a list, which gives a list.
            batch_size: prompts per pass.
            options: fields of `GenerationOptions`: max_new_tokens, temperature (0 is greedy),
                top_k, top_p, repetition_penalty, stop, seed.

        Raises:
            InputError: no prompts, or one that the model cannot read; see `begin`.
            OptionError: an option that is not there, or out of range.
        """
        chosen, many = self._options(options), self.preprocess.items(prompts)
        draws = seeds(chosen.seed, len(many))
        texts: list[str] = []
        for numbers in self.batches(range(len(many)), batch_size, "generate"):
            batch, rngs = ([x[k] for k in numbers] for x in (many, draws))
            parts: list[list[str]] = [[] for _ in batch]
            for row, piece in self._pieces(batch, rngs, chosen):
                parts[row].append(piece)
            texts += map("".join, parts)
        return texts[0] if isinstance(prompts, str) else texts

    def stream(self, prompt: str, **options: Any) -> Iterator[str]:
        """The same, piece by piece as it comes: `for piece in model.stream(prompt)`."""
        chosen = self._options(options)
        if not isinstance(prompt, str):
            raise InputError(f"stream takes one text; got {type(prompt).__name__}.")
        return (piece for _, piece in self._pieces([prompt], [chosen.seed], chosen))

    def _options(self, given: Mapping[str, Any]) -> GenerationOptions:
        return options_of(GenerationOptions, {**self.defaults, **given}, "the generation of texts")

    def _pieces(
        self, prompts: Sequence[str], draws: Sequence[Any], options: GenerationOptions
    ) -> Iterator[tuple[int, str]]:
        """Number of a prompt and what follows next on it, for all prompts at once."""
        ids, mask = self.begin(prompts, options.max_new_tokens)
        rows = zip(ids, mask, draws, strict=True)
        writers = [
            Writer(self.preprocess, row[kept > 0], options, seed) for row, kept, seed in rows
        ]
        return self._written(ids, mask, writers, options.max_new_tokens)

    def _written(
        self, ids: np.ndarray, mask: np.ndarray, writers: Sequence[Writer], count: int
    ) -> Iterator[tuple[int, str]]:
        if not count:
            return
        length, most = ids.shape[1] + count, getattr(self.preprocess.spec, "max_length", None)
        decoder = Decoder(self.model, len(ids), length, most=most)
        for number in range(count):
            tokens, last = [], number == count - 1
            logits = decoder.read(ids, mask if number == 0 else None)
            for row, writer in enumerate(writers):
                if writer.ended:
                    tokens.append(self.padding)
                    continue
                token = writer.draw(logits[row])
                if piece := writer.add(token, ends=token in self.stop_ids, last=last):
                    yield row, piece
                tokens.append(token)
            if all(writer.ended for writer in writers):
                return
            ids = np.array(tokens, np.int32)[:, None]


def bits(logits: np.ndarray, ids: Sequence[int] | np.ndarray) -> np.ndarray:
    """What a model needs for tokens `[t]` that it gave logits `[t, vocabulary]` for, in bits."""
    given = softmax(logits)[np.arange(len(ids)), ids]
    return -np.log2(np.maximum(given.astype(np.float64), 1e-30))


class TextGeneration(Generation, TextTask):
    """Texts that go on, by text models."""

    headed = "text-classification"
    headless = "feature-extraction"
    example = 'model.generate("Once upon a time")'

    @property
    def stop_ids(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.preprocess.spec.stop_ids

    @property
    def padding(self) -> int:  # type: ignore[override]
        return self.preprocess.spec.padding_idx

    def begin(self, prompts: Sequence[str], count: int) -> tuple[np.ndarray, np.ndarray]:
        encodings = self.preprocess.encode(prompts, truncate=False)
        for k, encoding in enumerate(encodings):
            if not len(encoding):
                raise InputError(f"Prompt {k} is empty; give at least one token to begin with.")
        most, longest = self.preprocess.spec.max_length, max(map(len, encodings))
        if most is not None and longest + count > most:
            raise InputError(
                f"The prompt has {longest} tokens and max_new_tokens is {count}, but the model has "
                f"places for {most} in all. Shorten the prompt, or ask for fewer."
            )
        arrays = self.preprocess.batch(encodings, side="right")
        return arrays["input_ids"], arrays["attention_mask"]

    def score(
        self, texts: str | Sequence[str], *, batch_size: int = 8, truncate: bool = True
    ) -> float | list[float]:
        """Bits per token that the model needs for a text: the mean of -log2 of the probability that
        it gave to each token but the first. Less is better.

        Args:
            texts: a text, which gives a number, or a list, which gives a list.
            batch_size: texts per pass.
            truncate: as for every text model.

        Raises:
            InputError: a text of fewer than two tokens.
        """
        encodings = self.encoded(texts, truncate=truncate)
        for k, encoding in enumerate(encodings):
            if len(encoding) < 2:
                raise InputError(f"Text {k} has fewer than two tokens, which gives no score.")

        def mean(encoding: Any, row: np.ndarray) -> float:
            return float(bits(self.unpadded(encoding, row)[:-1], encoding.ids[1:]).mean())

        scores = self.rows(encodings, batch_size, "score", reduce=mean)
        return scores[0] if isinstance(texts, str) else scores


# ---------------------------------------------------------------- texts as they grow


class Writer:
    """One text as it grows.

    Attributes:
        ids: of all its tokens.
        ended: whether nothing comes any more.
    """

    def __init__(
        self, preprocess: Any, ids: np.ndarray, options: GenerationOptions, seed: Any = None
    ) -> None:
        self.ids = [int(k) for k in ids]
        self.ended = False
        self._options, self._rng = options, np.random.default_rng(seed)
        self._decode, self._text = preprocess.decode, Until(options.stop)
        # what comes before a token tells whether it begins with a space
        self._context, self._told = max(0, len(self.ids) - 4), len(self.ids)

    def draw(self, logits: np.ndarray) -> int:
        """The next token, from logits `[vocabulary]`."""
        return self._options.draw(logits, self._rng, self.ids)

    def add(self, token: int, *, ends: bool, last: bool) -> str:
        """Take one more token. Returns what may be told now.

        Args:
            ends: whether the token ends the text, and is no part of it.
            last: whether no more tokens come.
        """
        if not ends:
            self.ids.append(token)
        sure = self._text.take(self._new(whole=ends or last))
        self.ended = ends or last or self._text.ended
        return sure + self._text.rest() if self.ended and not self._text.ended else sure

    def _new(self, *, whole: bool) -> str:
        """The text of the tokens that were not told yet, unless it ends inside of a character."""
        before = self._decode(self.ids[self._context : self._told])
        text = self._decode(self.ids[self._context :])
        if text.endswith("\ufffd") and not whole:
            return ""
        self._context, self._told = self._told, len(self.ids)
        return text[len(before) :]


class Until:
    """Text up to the first of the texts that end it, which may lie across several pieces.

    Attributes:
        ended: whether one of them came.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.ended = False
        self._stops, self._held = stops, ""

    def take(self, piece: str) -> str:
        """What is sure to belong to the text, now that this piece has come."""
        held = self._held + piece
        places = [place for text in self._stops if (place := held.find(text)) >= 0]
        if places:
            self.ended, self._held = True, ""
            return held[: min(places)]
        # what may be the beginning of an end is held back
        starts = (k for text in self._stops for k in range(len(text)) if held.endswith(text[:k]))
        sure = len(held) - max(starts, default=0)
        self._held = held[sure:]
        return held[:sure]

    def rest(self) -> str:
        """What was held back, if nothing comes any more."""
        held, self._held = self._held, ""
        return held
