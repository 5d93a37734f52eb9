"""Tasks of language models: text that goes on, and how well a model foresees a text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from zoo.errors import InputError
from zoo.options import count as whole
from zoo.tasks.base import Task, softmax
from zoo.tasks.recurrent import empty_states, stateful
from zoo.tasks.sampling import Sampling

_PIECE = 1024  # tokens per pass of a long text


class RecurrentGeneration(Task):
    """Language models that read token after token: `generate`, `stream` and `score`."""

    name = "text-generation"
    verbs = ("generate", "stream", "score")
    example = 'model.generate("Return ")'

    def loss(self) -> keras.losses.Loss:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def generate(
        self,
        prompts: str | Sequence[str],
        *,
        max_new_tokens: int = 100,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        repetition_penalty: float = 1.0,
        stop: str | Sequence[str] = (),
        seed: int | None = None,
    ) -> str | list[str]:
        """What follows each prompt.

        Args:
            prompts: a text, which gives a text, or a list, which gives a list.
            max_new_tokens: tokens to add at most.
            temperature, top_k, top_p, repetition_penalty: see `Sampling`; a temperature of 0 is
                greedy.
            stop: texts that end the generation; they are not part of the result.
            seed: of the draws; the same seed gives the same texts on the same machine.

        Raises:
            InputError: an empty prompt, or one with tokens that the model does not know.
            OptionError: an option out of range.
        """
        options: dict[str, Any] = {
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "stop": stop,
        }
        options |= {"top_k": top_k, "top_p": top_p, "repetition_penalty": repetition_penalty}
        many = [prompts] if isinstance(prompts, str) else list(prompts)
        pairs = zip(many, seeds(seed, len(many)), strict=True)
        texts = ["".join(self.stream(p, seed=s, **options)) for p, s in pairs]
        return texts[0] if isinstance(prompts, str) else texts

    def stream(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 100,
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
        max_new_tokens = whole("max_new_tokens", max_new_tokens, 0)
        stops = tuple(filter(None, [stop] if isinstance(stop, str) else stop))
        ids = self.preprocess(prompt)
        pieces = self._pieces(
            ids, sampling, np.random.default_rng(checked_seed(seed)), max_new_tokens
        )
        return until(pieces, stops)

    def _pieces(
        self, ids: np.ndarray, sampling: Sampling, rng: np.random.Generator, count: int
    ) -> Iterator[str]:
        run, spec = stateful(self.model), self.preprocess.spec
        separator = " " if spec.level == "word" else ""
        for logits, states in self._passes(ids):  # noqa: B007  (the last ones are wanted)
            pass
        text = [int(k) for k in ids[0]]
        for number in range(count):
            token = sampling.draw(logits[0, -1], rng, text)
            text.append(token)
            yield separator + spec.vocabulary[token]
            if number < count - 1:
                out, states = run(np.array([[token]], np.int32), states)
                logits = np.asarray(out)

    def score(self, texts: str | Sequence[str]) -> float | list[float]:
        """Bits per token that the model needs for a text: the mean of -log2 of the probability that
        it gave to each token but the first. Less is better.

        Args:
            texts: a text, which gives a number, or a list, which gives a list.

        Raises:
            InputError: a text of fewer than two tokens, or with unknown ones.
        """
        many = [texts] if isinstance(texts, str) else list(texts)
        scores = [self._score(text) for text in many]
        return scores[0] if isinstance(texts, str) else scores

    def _score(self, text: str) -> float:
        ids = self.preprocess(text)
        if ids.shape[1] < 2:
            raise InputError("A score takes a text of at least two tokens.")
        bits, start = 0.0, 1
        for logits, _ in self._passes(ids[:, :-1]):
            wanted = ids[0, start : start + logits.shape[1]]
            given = softmax(logits[0])[np.arange(len(wanted)), wanted]
            bits -= float(np.log2(np.maximum(given.astype(np.float64), 1e-30)).sum())
            start += len(wanted)
        return bits / (ids.shape[1] - 1)

    def _passes(self, ids: np.ndarray) -> Iterator[tuple[np.ndarray, Any]]:
        """Logits `[1, t, vocabulary]` and states after each piece of one long sequence `[1, t]`."""
        run, states = stateful(self.model), empty_states(self.model, 1)
        pieces = math.ceil(ids.shape[1] / _PIECE)
        for number in self.batches(range(pieces), 1, "read"):
            piece = ids[:, number[0] * _PIECE : (number[0] + 1) * _PIECE]
            logits, states = run(piece, states)
            yield np.asarray(logits), states


def seeds(seed: int | None, count: int) -> list[np.random.SeedSequence]:
    """A seed for each prompt of one call, which `stream` takes."""
    return np.random.SeedSequence(checked_seed(seed)).spawn(count)


def checked_seed(seed: Any) -> Any:
    """A seed as numpy takes it: None, a whole number from 0, or one that numpy made.

    Raises:
        OptionError: anything else.
    """
    made = seed is None or isinstance(seed, np.random.SeedSequence)
    return seed if made else whole("seed", seed, 0)


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


def until(pieces: Iterator[str], stops: Sequence[str]) -> Iterator[str]:
    """The pieces up to the first of the texts that end them."""
    text = Until(stops)
    for piece in pieces:
        if sure := text.take(piece):
            yield sure
        if text.ended:
            return
    if rest := text.rest():
        yield rest
