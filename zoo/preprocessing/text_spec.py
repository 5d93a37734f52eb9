"""What texts go through on their way to a model, as data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from zoo.errors import ConfigError
from zoo.preprocessing.spec import Spec, check_name
from zoo.typed import Count, Size, Token

if TYPE_CHECKING:
    import numpy as np

Side = Literal["right", "left"]
TOKENS = ("unk", "pad", "cls", "sep", "mask", "bos", "eos")


@dataclass(frozen=True, kw_only=True)
class TextSpec(Spec):
    """Texts cut into tokens, as the tokenizer of the checkpoint does it.

    Attributes:
        tokenizer: content of a `tokenizer.json`; None: the files of the model are not here.
        no_tokenizer: why there is none, where the files have one that zoo does not read.
        settings: content of its `tokenizer_config.json`, for those who save the model.
        inputs: what the model takes, of `input_ids`, `attention_mask`, `token_type_ids`.
        vocab_size: rows of the model's table of tokens.
        max_length: tokens of the longest text; longer ones are cut.
        padding_side, truncation_side: where shorter texts are filled up and longer ones cut.
        padding_idx: the token that fills up.
        special: tokens with a meaning of their own, by name: `unk`, `pad`, `cls`, `sep`, `mask`,
            `bos`, `eos`.
        stop_ids: tokens at which a language model has ended.
        split_special: whether special tokens in a text are read as any other text.
        clean_up: whether spaces before punctuation are taken out of decoded texts.
        lower_case: whether texts are put into lower case first, before what the tokenizer does.
        prompts: texts to put before others, by name, and which of them is the usual one.
        include_prompt: whether the tokens of a prompt count in the vector of a text.
        similarity: how vectors of texts are compared, as sentence-transformers calls it, for those
            who save the model.

    Raises:
        ConfigError: a value that no text can be prepared with.
    """

    kind: ClassVar[str] = "text"

    tokenizer: str | None = field(default=None, repr=False)
    no_tokenizer: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict, repr=False)
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")
    vocab_size: Count = 0
    max_length: Size | None = None
    padding_side: Side = "right"
    truncation_side: Side = "right"
    padding_idx: Count = 0
    special: Mapping[str, str] = field(default_factory=dict)
    stop_ids: tuple[Token, ...] = ()
    split_special: bool = False
    clean_up: bool = False
    lower_case: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    include_prompt: bool = True
    similarity: str | None = None

    def __post_init__(self) -> None:
        for name in ("inputs", "stop_ids"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON gives lists
        for name in ("padding_side", "truncation_side"):
            check_name(name, getattr(self, name), ("right", "left"))
        for name in self.special:
            check_name("special", name, TOKENS)
        if self.max_length is not None and self.max_length < 1:
            raise ConfigError(f"max_length is {self.max_length}; at least 1 was expected.")
        if self.default_prompt is not None and self.default_prompt not in self.prompts:
            raise ConfigError(
                f"default_prompt is {self.default_prompt!r}; the prompts are "
                f"{', '.join(self.prompts) or 'none'}."
            )

    @property
    def summary(self) -> str:
        length = f"at most {self.max_length} tokens" if self.max_length else "any number of tokens"
        return f"text, {length}, vocabulary of {self.vocab_size}"

    def facts(self) -> Iterator[tuple[str, str]]:
        yield "Input", self.summary
        if self.no_tokenizer is not None:
            yield "  tokenizer", f"none: {self.no_tokenizer}"
        if self.special:
            yield "  special", ", ".join(f"{name} {token}" for name, token in self.special.items())
        if self.prompts:
            yield "  prompts", ", ".join(f"{k} {v!r}" for k, v in self.prompts.items())

    def noise(self, rng: np.random.Generator) -> np.ndarray:
        steps = min(16, self.max_length or 16)
        return rng.integers(self.vocab_size, size=(2, steps), dtype="int32")
