"""Texts to token ids and back, by the `tokenizers` library and a checkpoint's own tokenizer."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import InputError
from zoo.options import count
from zoo.preprocessing.text_spec import TextSpec
from zoo.preprocessing.tokenizers import library, read

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

# What transformers' clean_up_tokenization_spaces takes away, in its order.
_CLEAN = {f" {mark}": mark for mark in (".", "?", "!", ",")} | {" ' ": "'"}
_CLEAN |= {f" {ending}": ending for ending in ("n't", "'m", "'s", "'ve", "'re")}

Text = str | tuple[str, str]  # one, or two that belong together


class TruncationWarning(UserWarning):
    """A text was longer than the model takes, and was cut."""


@dataclass(frozen=True)
class TextPreprocessor:
    """Turns texts into the batch that a model takes.

    Args:
        spec: what the texts go through.
    """

    spec: TextSpec

    def __call__(self, x: Text | Sequence[Text], **options: Any) -> dict[str, np.ndarray]:
        """Prepare one text or many.

        Args:
            x: a text, a pair of texts (a tuple of two), or a list of these.
            options: `truncate`, `max_length`, `prompt`: see `encode`.

        Returns:
            int32 arrays `[n, t]` by name: `input_ids`, `attention_mask`, and `token_type_ids` where
            the model takes them; shorter texts are padded. `pooling_mask` where there is a prompt
            that does not count.

        Raises:
            InputError: no text, something else than text, text with half of a surrogate pair, or a
                text that is too long where `truncate` is False; no tokenizer.
        """
        skip = self.uncounted(options.get("prompt", ""))
        return self.batch(self.encode(self.items(x), **options), skip=skip)

    def items(self, x: Any) -> list[Text]:
        """The single texts of an input.

        Raises:
            InputError: an empty list, or something else than texts.
        """
        if isinstance(x, str) or _is_pair(x):
            return [x]
        if isinstance(x, np.ndarray):
            x = x.tolist()
        if not isinstance(x, list | tuple):
            raise InputError(
                f"A text, a pair of texts or a list of these was expected; got {type(x).__name__}."
            )
        if not x:
            raise InputError("The list of texts is empty; there is nothing to do.")
        for k, text in enumerate(x):
            if not (isinstance(text, str) or _is_pair(text)):
                raise InputError(
                    f"Text {k} is {type(text).__name__}; a text, or a tuple of two, was expected."
                )
        return list(x)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, which cuts and pads nothing by itself.

        Raises:
            InputError: the files of the model have none.
        """
        if self.spec.no_tokenizer is not None:
            raise InputError(f"This model's texts cannot be read: {self.spec.no_tokenizer}")
        if self.spec.tokenizer is None:
            raise InputError(
                "This model has no tokenizer: no tokenizer.json, no vocab.txt, and no vocab.json "
                "with merges.txt lies beside its weights. Put the file there, or call the model on "
                "token ids."
            )
        with library("the model's tokenizer cannot be read"):
            tokenizer = read(self.spec.tokenizer)
            tokenizer.encode_special_tokens = self.spec.split_special
            if self.spec.lower_case:
                lower_cased(tokenizer)
        return tokenizer

    def encode(
        self,
        texts: Sequence[Text],
        *,
        truncate: bool = True,
        max_length: int | None = None,
        prompt: str = "",
        special: bool = True,
    ) -> list[Encoding]:
        """The tokens of each text.

        Args:
            truncate: whether longer texts are cut, which is warned of once; else they are errors.
            max_length: tokens of the longest text; None is the model's.
            prompt: stands before each text.
            special: whether the tokens that begin and end a text are added.

        Raises:
            InputError: as `__call__`.
        """
        if max_length is not None:
            max_length = count("max_length", max_length)
        limit = min(filter(None, (max_length, self.spec.max_length)), default=None)
        texts = [_prompted(prompt, text) for text in texts] if prompt else list(texts)
        tokenizer = self.tokenizer
        if limit is None:
            tokenizer.no_truncation()
        else:
            tokenizer.enable_truncation(limit, direction=self.spec.truncation_side)
        _check_unicode(texts)
        with library("The texts could not be cut into tokens", InputError):
            encodings = tokenizer.encode_batch(texts, add_special_tokens=special)
        cut = [k for k, encoding in enumerate(encodings) if encoding.overflowing]
        if cut and not truncate:
            raise InputError(
                f"Text {cut[0]} has more than the {limit} tokens that the model takes. Cut it, or "
                "allow truncate=True."
            )
        if cut and limit is not None and limit == self.spec.max_length:
            self._warn_of(cut[0], limit)
        return encodings

    @cached_property
    def _said(self) -> list[int]:
        """The text that was warned of, if one was."""
        return []

    def _warn_of(self, place: int, limit: int) -> None:
        if not self._said:
            self._said.append(place)
            warnings.warn(
                f"Text {place} is longer than the {limit} tokens that the model takes, and was "
                "cut; so will others be, without a word.",
                TruncationWarning,
                stacklevel=3,
            )

    def batch(
        self,
        encodings: Sequence[Encoding],
        *,
        side: str | None = None,
        multiple: int = 1,
        skip: int = 0,
    ) -> dict[str, np.ndarray]:
        """Encoded texts as arrays `[n, t]`, padded to the longest one.

        Args:
            side: where texts are filled up; None is the tokenizer's side.
            multiple: the length becomes a multiple of this, as far as the model has places.
            skip: tokens at the beginning of each text that are not pooled; see `uncounted`.
        """
        longest = max((len(encoding) for encoding in encodings), default=0)
        length = max(1, -(-longest // multiple) * multiple)
        length = max(longest, min(length, self.spec.max_length or length))
        fill = {"input_ids": self.spec.padding_idx}
        names = (*self.spec.inputs, *(("pooling_mask",) if skip else ()))
        arrays = {n: np.full((len(encodings), length), fill.get(n, 0), np.int32) for n in names}
        left = (side or self.spec.padding_side) == "left"
        for k, encoding in enumerate(encodings):
            count = len(encoding)
            place = slice(length - count, length) if left else slice(count)
            arrays["input_ids"][k, place] = encoding.ids
            arrays["attention_mask"][k, place] = 1
            if "token_type_ids" in arrays:
                arrays["token_type_ids"][k, place] = encoding.type_ids
            if skip:
                arrays["pooling_mask"][k, place.start or 0 : place.stop][skip:] = 1
        self._check_ids(arrays["input_ids"])
        return arrays

    def _check_ids(self, ids: np.ndarray) -> None:
        """Raise `InputError` for a token that the model has no row for, which only tokens that were
        added to a tokenizer can be."""
        rows = self.spec.vocab_size
        if rows and ids.size and (highest := int(ids.max())) >= rows:
            row, token = np.argwhere(ids == highest)[0][0], self.tokenizer.id_to_token(highest)
            raise InputError(
                f"Text {row} of the batch has the token {token!r} of id {highest}, but the model's "
                f"table has {rows} tokens: it was added to the tokenizer and never to the model."
            )

    def uncounted(self, prompt: str) -> int:
        """How many tokens at the beginning of texts with this prompt do not count in their vectors:
        those of the prompt alone without a last special one, as sentence-transformers reckons."""
        if self.spec.include_prompt or not prompt:
            return 0
        (encoding,) = self.encode([prompt])
        special = {self.tokenizer.token_to_id(token) for token in self.spec.special.values()}
        return len(encoding) - (encoding.ids[-1] in special)

    def decode(self, ids: Iterable[int], *, special: bool = False) -> str:
        """The text of token ids; `special`: with the tokens that have a meaning of their own."""
        text = self.tokenizer.decode([int(k) for k in ids], skip_special_tokens=not special)
        if self.spec.clean_up:
            for spaced, plain in _CLEAN.items():
                text = text.replace(spaced, plain)
        return text

    def id_of(self, name: str) -> int | None:
        """The id of a special token by its name, such as `mask`."""
        token = self.spec.special.get(name)
        return None if token is None else self.tokenizer.token_to_id(token)


def lower_cased(tokenizer: Tokenizer) -> None:
    """Have a tokenizer put texts into lower case first, if it has no such step by itself."""
    from tokenizers import normalizers

    normalizer: Any = tokenizer.normalizer
    several = type(normalizer) is normalizers.Sequence
    steps = list(normalizer) if several else [normalizer] if normalizer else []
    if not any(isinstance(step, normalizers.Lowercase) for step in steps):
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *steps])


def _is_pair(x: Any) -> bool:
    return isinstance(x, tuple) and len(x) == 2 and all(isinstance(part, str) for part in x)


def _prompted(prompt: str, text: Text) -> Text:
    return prompt + text if isinstance(text, str) else (prompt + text[0], text[1])


def _check_unicode(texts: Sequence[Text]) -> None:
    """Raise `InputError` for text that is none, which the library reports without its place."""
    for k, text in enumerate(texts):
        for part in (text,) if isinstance(text, str) else text:
            try:
                part.encode()
            except UnicodeEncodeError as found:
                raise InputError(
                    f"Text {k} has half of a surrogate pair, {part[found.start]!r}, at place "
                    f"{found.start}, which is no character. Decode its source with "
                    "errors='replace'."
                ) from None
