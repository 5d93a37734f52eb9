"""A tokenizer made of a repo's files, as transformers' class makes it of them.

The order in which files override each other, and tokens are added, is that of
`PreTrainedTokenizerBase._from_pretrained` and `TokenizersBackend.__init__` (5.24.0).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.errors import ConfigError
from zoo.preprocessing import tokenizers
from zoo.registry.tokenizer_classes import FOREIGN, TokenizerClass, UnavailableError
from zoo.registry.tokenizer_settings import (
    DECODER,
    EXTRA,
    OLD_EXTRA,
    SETTINGS,
    SPECIAL,
    SPECIAL_MAP,
    WHOLE,
    Files,
    is_own,
    is_token,
    lists_extra,
)

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer

    Token = str | AddedToken

_OWN = "model_specific_special_tokens"
# What takes the place of the repo's files in transformers; no file of a saved tokenizer has it.
_UNREAD = (
    *("init_inputs", "vocab", "merges", "tokenizer_object", "gguf_file", "post_processor"),
    *("tokenizer_padding", "tokenizer_truncation", "_spm_precompiled_charsmap"),
)
# The white space that ends a line of vocab.txt to the library (Unicode's White_Space).
_BLANK = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B)))
_BLANK += "\u2028\u2029\u202f\u205f\u3000"


@dataclass(frozen=True, kw_only=True)
class Made:
    """A tokenizer that stands.

    Attributes:
        text: its `tokenizer.json`.
        tokenizer: the same, as an object.
        special: text of each special token, by names such as `pad_token`.
        sides: where texts are filled up and cut, as far as `tokenizer.json` says it.
    """

    text: str
    tokenizer: Tokenizer
    special: Mapping[str, str]
    sides: Mapping[str, str]


def made(files: Files, kind: TokenizerClass, settings: Mapping[str, Any], rows: int) -> Made | None:
    """The tokenizer that a class makes of the files; None where there are none at all.

    Args:
        settings: what `settings_of` gives.
        rows: of the network's table of tokens.

    Raises:
        UnavailableError: the class reads a file that is not there, or that zoo does not read.
        ConfigError: a file that is not what it should be, or more tokens than the table has rows.
    """
    for name in _UNREAD:
        if settings.get(name):
            raise ConfigError(
                f"tokenizer_config.json sets {name}, which stands for a part of the tokenizer's "
                "own files there. Take it out."
            )
    others = settings.get("fast_tokenizer_files")
    if any(name != WHOLE for name in (others if isinstance(others, list) else ())):
        raise UnavailableError(
            f"tokenizer_config.json names files for other versions, {others}, of which zoo reads "
            f"none. Take fast_tokenizer_files out to use {WHOLE}."
        )
    if files.text(WHOLE) is None and not _has_all(files, kind):
        return None
    source = WHOLE if files.text(WHOLE) is not None else " and ".join(kind.files)
    with tokenizers.library(f"no {kind.name} can be made of {source}"):
        return _Making(files, kind, settings, rows).made()


def _has_all(files: Files, kind: TokenizerClass) -> bool:
    """Whether the files that a class reads in place of `tokenizer.json` are there."""
    foreign = [name for name in FOREIGN if files.has(name)]
    readable = kind.model in ("WordPiece", "BPE") and not foreign
    if readable and all(files.has(name) for name in kind.files):
        return True
    others = (*kind.files, "vocab.txt", "vocab.json", "merges.txt", "sentencepiece.bpe.model")
    there = [name for name in dict.fromkeys((*foreign, *others)) if files.has(name)]
    if not there:
        return False
    wanted = f" or {' and '.join(kind.files)}" if kind.model in ("WordPiece", "BPE") else ""
    raise UnavailableError(
        f"there is no {WHOLE}, only {', '.join(there)}, and for the {kind.name} zoo reads "
        f"{WHOLE}{wanted}. Load the tokenizer with transformers and save it, which writes that "
        f"file, and put it there; or call the model on token ids."
    )


class _Making:
    """The steps from files to a tokenizer; each may raise what the library raises."""

    def __init__(
        self, files: Files, kind: TokenizerClass, settings: Mapping[str, Any], rows: int
    ) -> None:
        self.files, self.kind, self.settings, self.rows = files, kind, settings, rows
        self.there = files.text(WHOLE) is not None
        self.whole = files.json(WHOLE)
        self.options = {name: settings.get(name, usual) for name, usual in kind.options.items()}

    def made(self) -> Made:
        added = self._added()
        named, kind = self._named({_content(one): one for one in added}), self.kind
        tokenizer = _MODELS[kind.model](self, named)
        special = [one for one in named.values() if one is not None]
        changed = kind.frame_first and self._frame(tokenizer, named)
        changed |= tokenizers.add_tokens(tokenizer, added, special, self._extra())
        changed |= not kind.frame_first and self._frame(tokenizer, named)
        text = self.files.text(WHOLE) if kind.model is None and not changed else None
        return Made(
            text=text or tokenizer.to_str(),
            tokenizer=tokenizer,
            special={name: _content(one) for name, one in named.items() if one is not None},
            sides=self._sides(),
        )

    # ------------------------------------------------------------ vocabularies

    def as_it_is(self, named: Mapping[str, Token | None]) -> Tokenizer:
        """Whatever `tokenizer.json` has."""
        self._checked(self._vocabulary(), WHOLE)
        return tokenizers.read(self.files.text(WHOLE) or "")

    def word_pieces(self, named: Mapping[str, Token | None]) -> Tokenizer:
        if self.there:
            source, vocabulary = WHOLE, _as_ids(self._vocabulary())
        else:
            source, vocabulary = "vocab.txt", _lines_as_ids(self.files.text("vocab.txt") or "")
        self._checked(vocabulary, source)
        unk = _content(named["unk_token"])
        if unk not in vocabulary:
            every = dict.fromkeys(_content(one) for one in named.values() if one is not None)
            lacking = [unk, *(one for one in every if one not in vocabulary and one != unk)]
            raise ConfigError(
                f"{source} has {len(vocabulary)} tokens, and lacks the special token(s) "
                f"{', '.join(lacking)}."
            )
        return tokenizers.word_pieces(vocabulary, unk=unk, options=self.options)

    def byte_pairs(self, named: Mapping[str, Token | None]) -> Tokenizer:
        if self.there:
            source, vocabulary = WHOLE, _as_ids(self._vocabulary())
            merges = [
                tuple(pair.split(" ") if isinstance(pair, str) else pair)
                for pair in self.whole["model"].get("merges", ())
            ]
        else:
            source, vocabulary = "vocab.json", self.files.json("vocab.json")
            lines = (self.files.text("merges.txt") or "").split("\n")
            pairs = (line.removesuffix("\r") for line in lines if not line.startswith("#version"))
            merges = [tuple(pair.split(" ")) for pair in pairs if pair]
        self._checked(vocabulary, source)
        if wrong := [pair for pair in merges if len(pair) != 2]:
            said = " ".join(map(str, wrong[0]))
            raise ConfigError(f"the merge {said!r} is none of two tokens.")
        processor = self.whole.get("post_processor")
        return tokenizers.byte_pairs(vocabulary, merges, options=self.options, processor=processor)

    def unigrams(self, named: Mapping[str, Token | None]) -> Tokenizer:
        pieces = self._vocabulary()
        self._checked(pieces, WHOLE)
        if not isinstance(pieces, list):
            raise ConfigError(f"{WHOLE} has no Unigram model, which the {self.kind.name} needs.")
        pieces = [tuple(piece) for piece in pieces]
        unk_id = self.kind.unk_id
        if unk_id is None:
            unk = _content(named["unk_token"])
            unk_id = next((k for k, piece in enumerate(pieces) if piece[0] == unk), 0)
        return tokenizers.unigrams(
            pieces, unk_id=unk_id, charsmap=self._charsmap(), options=self.options
        )

    def _vocabulary(self) -> Any:
        model = self.whole.get("model")
        vocabulary = model.get("vocab") if isinstance(model, dict) else None
        if not isinstance(vocabulary, dict | list):
            raise ConfigError(f"{WHOLE} is no tokenizer: its model has no vocabulary.")
        return vocabulary

    def _checked(self, vocabulary: Mapping[str, Any] | list[Any], source: str) -> None:
        """Raise `ConfigError` for ids that the network has no row for.

        The library takes memory for every id up to the highest one.
        """
        ids: Iterable[Any] = range(len(vocabulary))
        if isinstance(vocabulary, Mapping):
            ids = vocabulary.values()
            if wrong := [k for k in ids if type(k) is not int or k < 0]:
                raise ConfigError(f"{source} has the id {wrong[0]!r}, which is none.")
        if (highest := max(ids, default=0)) >= self.rows:
            raise ConfigError(
                f"the tokenizer has the id {highest}, but the network's table has {self.rows} "
                f"tokens: they are not of one model. Take the tokenizer files that the weights "
                "were published with."
            )

    def _charsmap(self) -> bytes | None:
        """sentencepiece's table of characters, where `tokenizer.json` has one."""
        data = self.whole.get("normalizer") or ()
        if isinstance(data, dict):
            data = data.get("normalizers", ()) if data.get("type") == "Sequence" else [data]
        for one in data:
            if one.get("type") == "Precompiled" and "precompiled_charsmap" in one:
                return base64.b64decode(one["precompiled_charsmap"])
        return None

    # ------------------------------------------------------------ tokens

    def _added(self) -> list[AddedToken]:
        """The tokens that files list as added, in the order of the ids they have there."""
        found: dict[int, AddedToken] = {}
        if DECODER in self.settings:
            for k, data in self.settings[DECODER].items():
                found[int(k)] = tokenizers.token(data)
        else:
            special = self._special_by_text()
            for content, k in self.files.json("added_tokens.json").items():
                flags = {"normalized": content not in special, "special": content in special}
                found[int(k)] = tokenizers.token(content, **flags)
            for data in self.whole.get("added_tokens") or ():
                found[int(data["id"])] = tokenizers.token(data)
        return [found[k] for k in sorted(found)]

    def _special_by_text(self) -> set[str]:
        """The texts of special tokens, as far as transformers knows them when it comes to
        `added_tokens.json`: an object in `tokenizer_config.json` is no token yet."""
        own, stated = (self.files.json(name) for name in (SETTINGS, SPECIAL_MAP))
        extra = own.get(EXTRA) or own.get(OLD_EXTRA) or ()
        texts = [own.get(name) for name in SPECIAL if name not in stated]
        texts += extra if isinstance(extra, list) else ()
        tokens = [stated.get(name) for name in SPECIAL]
        tokens += more if isinstance(more := stated.get(EXTRA), list) else ()
        return {one for one in texts if isinstance(one, str)} | {*map(_content, tokens)}

    def _named(self, added: Mapping[str, AddedToken]) -> dict[str, Token | None]:
        """The special tokens by name, None where the files say that there is none."""
        named: dict[str, Token | None] = {}
        for name in SPECIAL:
            value = self.settings.get(name, self.kind.special.get(name))
            if name in self.settings and value is not None:
                value = added.get(_content(value), value)
            elif name == "pad_token" and self.kind.model is None:
                value = _part(self.whole, "padding").get("pad_token")
            flags = self.kind.flags.get(name)
            if isinstance(value, dict):
                value = tokenizers.token(value)
            elif isinstance(value, str) and flags is not None:
                value = tokenizers.token(value, **flags)
            named[name] = value
        return named | self._own()

    def _own(self) -> dict[str, Token]:
        """Special tokens under names that only this model has."""
        extra = self.settings.get(EXTRA)
        own = {
            name: value for name, value in self.settings.items() if is_own(name) and is_token(value)
        }
        own |= extra if isinstance(extra, dict) else {}
        own = own or self.settings.get(_OWN) or {}
        return {
            name: tokenizers.token(value) if isinstance(value, dict) else value
            for name, value in own.items()
        }

    def _extra(self) -> list[Token]:
        listed = self.settings.get(EXTRA)
        if not listed or isinstance(listed, dict):
            listed = self.settings.get(OLD_EXTRA)
            if listed is None and not lists_extra(self.settings):
                listed = self.kind.extra
        return [
            tokenizers.token(one, special=True) if isinstance(one, dict) else one
            for one in listed or ()
        ]

    # ------------------------------------------------------------ what stands around a text

    def _frame(self, tokenizer: Tokenizer, named: Mapping[str, Token | None]) -> bool:
        """Set what stands around a text; whether that is not what `tokenizer.json` says."""

        def marked(name: str) -> tuple[str, int]:
            if (one := named[name]) is None:
                raise ConfigError(
                    f"{name} is null, but the {self.kind.name} puts it around each text."
                )
            k = tokenizer.token_to_id(_content(one))
            if k is None or k >= self.rows:
                raise ConfigError(
                    f"the {self.kind.name} puts {_content(one)} around each text, which has the "
                    f"id {k}, but the network's table has {self.rows} tokens."
                )
            return _content(one), k

        match self.kind.frame:
            case "bert":
                tokenizers.frame_bert(tokenizer, marked("cls_token"), marked("sep_token"))
            case "roberta":
                first, last = marked("cls_token"), marked("sep_token")
                tokenizers.frame_roberta(tokenizer, first, last, self.options)
            case "plain":
                tokenizers.frame_plain(tokenizer, marked("bos_token"), marked("eos_token"))
            case None if not self.there or tokenizer.post_processor is None:
                told = {} if self.there else self.settings
                tokenizers.frame_as_told(
                    tokenizer,
                    *(
                        marked(f"{name}_token")
                        if told.get(f"add_{name}_token") and named[f"{name}_token"] is not None
                        else None
                        for name in ("bos", "eos")
                    ),
                )
            case None:
                return False
        return True

    def _sides(self) -> dict[str, str]:
        parts = {"padding_side": "padding", "truncation_side": "truncation"}
        stated = {k: _part(self.whole, name).get("direction") for k, name in parts.items()}
        return {name: str(side).lower() for name, side in stated.items() if side is not None}


_MODELS: dict[str | None, Callable[[_Making, Mapping[str, Token | None]], Tokenizer]] = {
    None: _Making.as_it_is,
    "WordPiece": _Making.word_pieces,
    "BPE": _Making.byte_pairs,
    "Unigram": _Making.unigrams,
}


def _content(one: Any) -> str:
    """The text of a token in any of its forms."""
    if isinstance(one, Mapping):
        one = one.get("content")
    return one if isinstance(one, str) else str(getattr(one, "content", one))


def _part(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = data.get(name)
    return found if isinstance(found, Mapping) else {}


def _as_ids(vocabulary: Mapping[str, Any] | list[Any]) -> Mapping[str, Any]:
    """Id of each token, of a table or a list in their order."""
    if isinstance(vocabulary, Mapping):
        return vocabulary
    return {one[0] if isinstance(one, list) else one: k for k, one in enumerate(vocabulary)}


def _lines_as_ids(text: str) -> dict[str, int]:
    """Id of each token of a `vocab.txt`."""
    lines = text.removesuffix("\n").split("\n")
    return {line.rstrip(_BLANK): k for k, line in enumerate(lines)}
