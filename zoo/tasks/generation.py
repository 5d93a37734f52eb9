"""Texts that go on, by text models that read from left to right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import keras
import numpy as np

from zoo.errors import InputError
from zoo.options import count as whole
from zoo.tasks.base import softmax
from zoo.tasks.decoding import Decoder
from zoo.tasks.language import Until, checked_seed, seeds
from zoo.tasks.sampling import Sampling
from zoo.tasks.text import TextTask


class TextGeneration(TextTask):
    """Texts that go on: `generate`, `stream` and `score`."""

    name = "text-generation"
    verbs: ClassVar[tuple[str, ...]] = ("generate", "stream", "score")
    headed = "text-classification"
    headless = "feature-extraction"
    example = 'model.generate("Once upon a time")'

    def loss(self) -> keras.losses.Loss:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def generate(
        self,
        prompts: str | Sequence[str],
        *,
        max_new_tokens: int = 40,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        repetition_penalty: float = 1.0,
        stop: str | Sequence[str] = (),
        seed: int | None = None,
        batch_size: int = 8,
    ) -> str | list[str]:
        """What follows each prompt.

        Args:
            prompts: a text, which gives a text, or a list, which gives a list.
            max_new_tokens: tokens to add at most.
            temperature, top_k, top_p, repetition_penalty: see `Sampling`; a temperature of 0 is
                greedy.
            stop: texts that end the generation; they are not part of the result. The model's own
                token for the end of a text ends it, too.
            seed: of the draws; the same seed gives the same texts on the same machine.
            batch_size: prompts per pass.

        Raises:
            InputError: no prompts, an empty one, or one that leaves no room for the new tokens.
            OptionError: an option out of range.
        """
        sampling = Sampling(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            repetition_penalty=repetition_penalty,
        )
        many = self.items(prompts)
        draws = seeds(seed, len(many))
        texts: list[str] = []
        for places in self.batches(range(len(many)), batch_size, "generate"):
            batch, rngs = ([x[k] for k in places] for x in (many, draws))
            pieces = self._pieces(batch, sampling, rngs, max_new_tokens, _texts(stop))
            parts: list[list[str]] = [[] for _ in batch]
            for row, piece in pieces:
                parts[row].append(piece)
            texts += map("".join, parts)
        return texts[0] if isinstance(prompts, str) else texts

    def stream(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 40,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        repetition_penalty: float = 1.0,
        stop: str | Sequence[str] = (),
        seed: Any = None,
    ) -> Iterator[str]:
        """The same, piece by piece as it comes: `for piece in model.stream(prompt)`."""
        sampling = Sampling(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            repetition_penalty=repetition_penalty,
        )
        if not isinstance(prompt, str):
            raise InputError(f"stream takes one text; got {type(prompt).__name__}.")
        draws = [checked_seed(seed)]
        pieces = self._pieces([prompt], sampling, draws, max_new_tokens, _texts(stop))
        return (piece for _, piece in pieces)

    def _pieces(
        self,
        prompts: Sequence[str],
        sampling: Sampling,
        draws: Sequence[Any],
        count: int,
        stops: Sequence[str],
    ) -> Iterator[tuple[int, str]]:
        """Number of a prompt and what follows next on it, for all prompts at once."""
        count = whole("max_new_tokens", count, 0)
        arrays = self._begun(prompts, count)
        writers = [
            _Writer(self.preprocess, row[kept > 0], stops)
            for row, kept in zip(arrays["input_ids"], arrays["attention_mask"], strict=True)
        ]
        if count == 0:
            return iter(())
        return self._written(arrays, writers, sampling, draws, count)

    def _written(
        self,
        arrays: dict[str, np.ndarray],
        writers: Sequence[_Writer],
        sampling: Sampling,
        draws: Sequence[Any],
        count: int,
    ) -> Iterator[tuple[int, str]]:
        spec, ids = self.preprocess.spec, arrays["input_ids"]
        length, places = ids.shape[1] + count, spec.max_length or ids.shape[1] + count
        decoder = Decoder(self.model, ids, arrays["attention_mask"], length, places)
        rngs = [np.random.default_rng(seed) for seed in draws]
        for number in range(count):
            tokens = []
            rows = zip(decoder.logits, writers, rngs, strict=True)
            for row, (logits, writer, rng) in enumerate(rows):
                if writer.ended:
                    tokens.append(spec.padding_idx)
                    continue
                token = sampling.draw(logits, rng, writer.ids)
                last = number == count - 1
                if piece := writer.add(token, ends=token in spec.stop_ids, last=last):
                    yield row, piece
                tokens.append(token)
            if number == count - 1 or all(writer.ended for writer in writers):
                return
            decoder.step(tokens)

    def _begun(self, prompts: Sequence[str], count: int) -> dict[str, np.ndarray]:
        """The prompts as arrays, padded on the left."""
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
        return self.preprocess.batch(encodings, side="left")

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

        def bits(encoding: Any, row: np.ndarray) -> float:
            followed = self.unpadded(encoding, row)[:-1]
            given = softmax(followed)[np.arange(len(followed)), encoding.ids[1:]]
            return float(-np.log2(np.maximum(given.astype(np.float64), 1e-30)).mean())

        scores = self.rows(encodings, batch_size, "score", reduce=bits)
        return scores[0] if isinstance(texts, str) else scores


def _texts(stop: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(filter(None, [stop] if isinstance(stop, str) else stop))


class _Writer:
    """One text as it grows.

    Attributes:
        ids: of all its tokens.
        ended: whether nothing comes any more.
    """

    def __init__(self, preprocess: Any, ids: np.ndarray, stops: Sequence[str]) -> None:
        self.ids = [int(k) for k in ids]
        self.ended = False
        self._decode, self._text = preprocess.decode, Until(stops)
        # what comes before a token tells whether it begins with a space
        self._context, self._told = max(0, len(self.ids) - 4), len(self.ids)

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
