"""Tokenizers built from a vocabulary, for checkpoints that have no `tokenizer.json`.

What they are made of is what transformers makes them of (`models/*/tokenization_*.py`; 5.23.0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def word_pieces(
    lines: Sequence[str], special: Mapping[str, str], settings: Mapping[str, Any], *, roberta: bool
) -> str:
    """The `tokenizer.json` of a WordPiece vocabulary.

    Args:
        lines: the tokens, in the order of their ids.
        special: the special tokens by name.
        settings: content of a `tokenizer_config.json`: `do_lower_case`, `strip_accents`,
            `tokenize_chinese_chars`.
        roberta: whether texts begin and end as RoBERTa's do, and not as BERT's.

    Raises:
        ConfigError: the vocabulary lacks a special token.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    vocabulary = {token: k for k, token in enumerate(lines)}
    _check_has(vocabulary, special, "vocab.txt")
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=special["unk"]))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    # MPNet's mask takes the space before it; that of RoBERTa's own class does not any more
    return _finished(tokenizer, vocabulary, special, roberta=roberta, lstrip_mask=roberta)


def byte_pairs(
    vocabulary: Mapping[str, int],
    merges: Sequence[str],
    special: Mapping[str, str],
    settings: Mapping[str, Any],
    *,
    roberta: bool,
) -> str:
    """The `tokenizer.json` of byte pairs.

    Args:
        vocabulary: id of each token.
        merges: the lines of a `merges.txt`.
        special, settings, roberta: as `word_pieces`; the setting is `add_prefix_space`.

    Raises:
        ConfigError: the vocabulary lacks a special token.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    _check_has(vocabulary, special, "vocab.json")
    lines = (line.partition(" ") for line in merges if not line.startswith("#version"))
    pairs = [(left, right) for left, _, right in lines if right]
    tokenizer = Tokenizer(models.BPE(dict(vocabulary), pairs, fuse_unk=False))
    spaced = bool(settings.get("add_prefix_space", False))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=spaced)
    tokenizer.decoder = decoders.ByteLevel()
    if roberta:
        return _finished(tokenizer, vocabulary, special, roberta=True, spaced=spaced)
    tokenizer.add_special_tokens(sorted(set(special.values())))
    return tokenizer.to_str()


def _finished(
    tokenizer: Tokenizer,
    vocabulary: Mapping[str, int],
    special: Mapping[str, str],
    *,
    roberta: bool,
    spaced: bool = False,
    lstrip_mask: bool = False,
) -> str:
    """With special tokens, and what stands before and after each text."""
    from tokenizers import AddedToken, processors

    first, last = ((special[name], vocabulary[special[name]]) for name in ("cls", "sep"))
    if roberta:
        tokenizer.post_processor = processors.RobertaProcessing(
            last, first, trim_offsets=True, add_prefix_space=spaced
        )
    else:
        begin, end = first[0], last[0]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin}:0 $A:0 {end}:0",
            pair=f"{begin}:0 $A:0 {end}:0 $B:1 {end}:1",
            special_tokens=[first, last],
        )
    added = [
        AddedToken(token, special=True, normalized=False, lstrip=lstrip_mask and name == "mask")
        for name, token in special.items()
    ]
    tokenizer.add_special_tokens(added)
    return tokenizer.to_str()


def _check_has(vocabulary: Mapping[str, int], special: Mapping[str, str], file: str) -> None:
    lacking = [token for token in dict.fromkeys(special.values()) if token not in vocabulary]
    if lacking:
        raise ConfigError(
            f"{file} has {len(vocabulary)} tokens, and lacks the special token(s) "
            f"{', '.join(lacking)}."
        )
