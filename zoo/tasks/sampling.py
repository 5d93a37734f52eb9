"""How a text goes on: the choice of the next token, and the options of a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.errors import OptionError
from zoo.options import count, number


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a token is drawn from logits.

    Attributes:
        temperature: logits are divided by it; 0 takes the most probable token.
        top_k: only this many most probable tokens; None is all.
        top_p: only the most probable tokens that together reach this probability.
        repetition_penalty: by which the logits of tokens that stand in the text are divided where
            they are positive, and multiplied where not (Keskar et al., arXiv:1909.05858).

    Raises:
        OptionError: a value out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.top_k is not None:
            object.__setattr__(self, "top_k", count("top_k", self.top_k))
        for name in ("temperature", "top_p", "repetition_penalty"):
            if (value := getattr(self, name)) is not None or name != "top_p":
                object.__setattr__(self, name, number(name, value, 0))
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise OptionError(f"top_p must be above 0 and at most 1; got {self.top_p}.")
        if not self.repetition_penalty > 0:
            raise OptionError(f"repetition_penalty must be positive; got {self.repetition_penalty}")

    def draw(self, logits: np.ndarray, rng: np.random.Generator, text: Sequence[int] = ()) -> int:
        """A token from logits `[vocabulary]`.

        Args:
            text: the tokens that stand there already.
        """
        if self.repetition_penalty != 1 and len(text):
            logits, seen = np.array(logits), np.unique(text)
            penalty = np.where(
                logits[seen] > 0, 1 / self.repetition_penalty, self.repetition_penalty
            )
            logits[seen] *= penalty.astype(logits.dtype)
        if self.temperature == 0:
            return int(logits.argmax())
        scaled = logits.astype(np.float64) / self.temperature
        order = self._candidates(scaled)
        weights = np.exp(scaled[order] - scaled[order[0]])
        weights /= weights.sum()
        if self.top_p is not None:
            kept = int(np.searchsorted(np.cumsum(weights), self.top_p)) + 1
            order, weights = order[:kept], weights[:kept] / weights[:kept].sum()
        return int(rng.choice(order, p=weights))

    def _candidates(self, logits: np.ndarray) -> np.ndarray:
        """The most probable tokens, best first."""
        kept = np.arange(len(logits))
        if self.top_k is not None and self.top_k < len(logits):
            kept = np.sort(np.argpartition(-logits, self.top_k - 1)[: self.top_k])
        return kept[np.argsort(-logits[kept], kind="stable")]


@dataclass(frozen=True, kw_only=True)
class GenerationOptions(Sampling):
    """How texts go on.

    Attributes:
        max_new_tokens: tokens to add at most.
        stop: texts that end the generation, or one of them; they are not part of the result. A
            model's own token for the end of a text ends it, too.
        seed: of the draws; the same seed gives the same texts on the same machine. None, a whole
            number, or one of `seeds`.

    Raises:
        OptionError: a value out of range.
    """

    max_new_tokens: int = 40
    stop: str | Sequence[str] = ()
    seed: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        stops = [self.stop] if isinstance(self.stop, str) else self.stop
        object.__setattr__(self, "stop", tuple(filter(None, stops)))
        object.__setattr__(self, "max_new_tokens", count("max_new_tokens", self.max_new_tokens, 0))
        if not (self.seed is None or isinstance(self.seed, np.random.SeedSequence)):
            object.__setattr__(self, "seed", count("seed", self.seed, 0))


def seeds(seed: int | None, number: int) -> list[np.random.SeedSequence]:
    """A seed for each prompt of one call, which `stream` takes.

    Raises:
        OptionError: no whole number from 0 on.
    """
    return np.random.SeedSequence(GenerationOptions(seed=seed).seed).spawn(number)
