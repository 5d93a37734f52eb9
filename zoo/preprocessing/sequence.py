"""Sequences to batches: texts to token ids, series of numbers to normalised arrays."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from zoo.errors import InputError, did_you_mean
from zoo.preprocessing.spec import SequenceSpec

SequenceInput = str | Sequence[str] | Sequence[Sequence[float]] | np.ndarray
Span = tuple[int, int]  # of a token in its text: first character, and one past the last


@dataclass(frozen=True)
class SequencePreprocessor:
    """Turns sequences into the batch that a model takes.

    Args:
        spec: what the sequences go through.
    """

    spec: SequenceSpec

    def __call__(self, x: SequenceInput | Sequence[SequenceInput]) -> np.ndarray:
        """Prepare one sequence or many.

        Args:
            x: for tokens a text, a list of tokens, or a list of these two; for numbers an array
                `[t, features]` (`[t]` where there is one feature), a list of such arrays, or an
                array `[n, t, features]`.

        Returns:
            int32 `[n, t]`, or float32 `[n, t, features]`; shorter sequences are padded behind.

        Raises:
            InputError: an empty or wrong kind of sequence, a token that the vocabulary lacks,
                NaN or infinite numbers, another length than the spec's, or sequences of different
                lengths where there is no padding.
        """
        items = self.items(x)
        encode = self._numbers if self.spec.vocabulary is None else self.encode
        rows = [encode(item, _name(k, len(items))) for k, item in enumerate(items)]
        for k, row in enumerate(rows):
            if self.spec.length not in (None, len(row)):
                raise InputError(
                    f"{_name(k, len(items))} has {len(row)} steps; this model takes "
                    f"{self.spec.length}."
                )
        return self._stacked(rows)

    def items(self, x: Any) -> list[Any]:
        """The sequences of an input, which may be one of them or a list."""
        if self.spec.vocabulary is None:
            if isinstance(x, np.ndarray):
                dimensions = 1 if self.spec.features == 1 and x.ndim == 1 else 2
                return [x] if x.ndim <= dimensions else list(x)
            nested = np.ndim(x[0]) if isinstance(x, list | tuple) and len(x) else 0
            return list(x) if nested >= (1 if self.spec.features == 1 else 2) else [x]
        if isinstance(x, str):
            return [x]
        if isinstance(x, list | tuple):
            return list(x)
        raise InputError(f"Expected a text, or a list of texts; got {type(x).__name__}.")

    # ------------------------------------------------------------ tokens

    @cached_property
    def _ids(self) -> Mapping[str, int]:
        return {token: k for k, token in enumerate(self.spec.vocabulary or ())}

    def encode(self, text: str | Sequence[str], name: str = "The text") -> np.ndarray:
        """The ids of a text or list of tokens, int32 `[t]`.

        Raises:
            InputError: as `__call__`.
        """
        tokens = [token for token, _ in self.tokens(text, name)]
        spare = None if self.spec.unknown is None else self._ids[self.spec.unknown]
        ids = [self._ids.get(token, spare) for token in tokens]
        if None in ids:
            place = ids.index(None)
            raise InputError(
                f"{name} has {tokens[place]!r} as token {place}, which is not in the vocabulary "
                f"of {len(self._ids)} tokens.{did_you_mean(tokens[place], self._ids)}"
            )
        return np.array(ids, np.int32)

    def tokens(self, text: str | Sequence[str], name: str = "The text") -> list[tuple[str, Span]]:
        """The tokens of a text, each with its place in it; of a list, places count tokens."""
        if isinstance(text, str):
            pattern = r"\S+" if self.spec.level == "word" else r"(?s:.)"
            found = [(m[0], m.span()) for m in re.finditer(pattern, text)]
        elif isinstance(text, list | tuple) and all(isinstance(token, str) for token in text):
            found = [(token, (k, k + 1)) for k, token in enumerate(text)]
        else:
            raise InputError(
                f"{name} is {type(text).__name__}; a text, or a list of tokens, was expected."
            )
        if not found:
            raise InputError(f"{name} is empty; there is nothing to say of it.")
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        tokens = [(self.spec.vocabulary or ())[int(k)] for k in ids]
        return (" " if self.spec.level == "word" else "").join(tokens)

    # ------------------------------------------------------------ numbers

    def _numbers(self, item: Any, name: str) -> np.ndarray:
        """One series as float32 `[t, features]`, normalised."""
        try:
            values = np.asarray(item, np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"{name} is no array of numbers: {error}.") from error
        if values.ndim == 1 and self.spec.features == 1:
            values = values[:, None]
        if values.ndim != 2 or values.shape[1] != self.spec.features:
            raise InputError(
                f"{name} has the shape {list(values.shape)}; [steps, {self.spec.features}] was "
                "expected."
            )
        if not len(values):
            raise InputError(f"{name} is empty; at least one step was expected.")
        if not np.isfinite(values).all():
            step = int(np.argwhere(~np.isfinite(values))[0][0])
            raise InputError(f"{name} has NaN or an infinite number, first in step {step}.")
        return ((values - self.spec.mean) / self.spec.std).astype(np.float32)

    def _stacked(self, rows: list[np.ndarray]) -> np.ndarray:
        spec = self.spec
        longest = max(map(len, rows), default=spec.length or 0)
        if spec.vocabulary is None:
            value: float | None = spec.padding_value
            empty = np.zeros((0, longest, spec.features or 1), np.float32)
        else:
            value = None if spec.padding is None else self._ids[spec.padding]
            empty = np.zeros((0, longest), np.int32)
        if not rows:
            return empty
        lengths = sorted({len(row) for row in rows})
        if len(lengths) > 1 and value is None:
            raise InputError(
                f"The sequences have from {lengths[0]} to {lengths[-1]} steps, and this model "
                "knows no padding. Give those of one length at a time."
            )
        batch = np.full((len(rows), longest, *rows[0].shape[1:]), value or 0, rows[0].dtype)
        for k, row in enumerate(rows):
            batch[k, : len(row)] = row
        return batch


def _name(index: int, count: int) -> str:
    return "The sequence" if count == 1 else f"Sequence {index}"
