"""Language models over recurrent layers: text that goes on, and how well it is foreseen."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from zoo.errors import InputError
from zoo.tasks.decoding import Decoder
from zoo.tasks.generation import Generation, bits

_PIECE = 1024  # tokens per pass of a long text


class RecurrentGeneration(Generation):
    """Texts that go on, by models over characters or words."""

    example = 'model.generate("Return ")'
    defaults = {"max_new_tokens": 100}

    def begin(self, prompts: Sequence[str], count: int) -> tuple[np.ndarray, np.ndarray]:
        rows = [self.preprocess.encode(prompt, f"Prompt {k}") for k, prompt in enumerate(prompts)]
        lengths = np.array([[len(row)] for row in rows])
        ids = np.full((len(rows), lengths.max()), self.padding, np.int32)
        mask = np.arange(ids.shape[1]) < lengths
        ids[mask] = np.concatenate(rows)
        return ids, mask

    def score(self, texts: str | Sequence[str]) -> float | list[float]:
        """Bits per token that the model needs for a text: the mean of -log2 of the probability that
        it gave to each token but the first. Less is better.

        Args:
            texts: a text, which gives a number, or a list, which gives a list.

        Raises:
            InputError: a text of fewer than two tokens, or with unknown ones.
        """
        scores = [self._score(text) for text in self.preprocess.items(texts)]
        return scores[0] if isinstance(texts, str) else scores

    def _score(self, text: str) -> float:
        ids = self.preprocess.encode(text)
        if len(ids) < 2:
            raise InputError("A score takes a text of at least two tokens.")
        decoder, total = Decoder(self.model, 1, every=True), 0.0
        for (piece,) in self.batches(range(math.ceil((len(ids) - 1) / _PIECE)), 1, "read"):
            start, end = piece * _PIECE, min((piece + 1) * _PIECE, len(ids) - 1)
            logits = decoder.read(ids[None, start:end])[0]
            total += bits(logits, ids[start + 1 : end + 1]).sum()
        return float(total / (len(ids) - 1))
