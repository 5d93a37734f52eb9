"""Tokenizers of the `tokenizers` library, made of a vocabulary as transformers makes its own.

What they are made of is what transformers makes them of (`models/*/tokenization_*.py` and
`tokenization_utils_tokenizers.py`; 5.24.0).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zoo.errors import ConfigError, ZooError

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer

Pairs = Sequence[tuple[str, str]]
Pieces = Sequence[tuple[str, float]]

_SPACE = "\u2581"  # what sentencepiece writes for a space


# The fields of a token that is added.
_TOKEN = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")


@contextmanager
def library(what: str, error: type[ZooError] = ConfigError) -> Iterator[None]:
    """Turns whatever the `tokenizers` library raises into an `error` that begins with `what`.

    A panic of its Rust code arrives as an exception that is no `Exception`.
    """
    try:
        yield
    except ZooError:
        raise
    except BaseException as fault:
        panicked = type(fault).__name__ == "PanicException"
        if not isinstance(fault, Exception) and not panicked:
            raise  # an interrupt
        said = f"{type(fault).__name__}: {fault}"[:300]
        raise error(f"{what}: the tokenizers library says {said}.") from None


def token(data: str | Mapping[str, Any], **flags: bool) -> AddedToken:
    """A token that is cut out of a text before all others.

    Args:
        data: its text, or the object that files have of it.
        flags: what is said of it where `data` does not.
    """
    from tokenizers import AddedToken

    fields: dict[str, Any] = {"content": data} if isinstance(data, str) else dict(data)
    if not isinstance(fields.get("content"), str):
        raise ConfigError(f"a token is {data!r}; its text was expected.")
    known: dict[str, Any] = {k: value for k, value in fields.items() if k in _TOKEN}
    return AddedToken(**(flags | known))


def read(text: str) -> Tokenizer:
    """A `tokenizer.json`, which cuts and pads nothing by itself."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(text)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


# ---------------------------------------------------------------- vocabularies


def word_pieces(
    vocabulary: Mapping[str, int], *, unk: str, options: Mapping[str, Any]
) -> Tokenizer:
    """Words cut into pieces.

    Args:
        vocabulary: id of each token.
        unk: the token of words that it has no pieces for.
        options: `do_lower_case`, `strip_accents`, `tokenize_chinese_chars`.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordPiece(dict(vocabulary), unk_token=unk))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=options["tokenize_chinese_chars"],
        strip_accents=options["strip_accents"],
        lowercase=options["do_lower_case"],
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return tokenizer


def byte_pairs(
    vocabulary: Mapping[str, int],
    merges: Pairs,
    *,
    options: Mapping[str, Any],
    processor: Mapping[str, Any] | None = None,
) -> Tokenizer:
    """Bytes joined pair by pair.

    Args:
        vocabulary: id of each token.
        merges: which tokens are joined, the first ones first.
        options: `add_prefix_space`.
        processor: what stands before and after a text, as a `tokenizer.json` says it.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    model = models.BPE(
        dict(vocabulary),
        list(merges),
        continuing_subword_prefix="",
        end_of_word_suffix="",
        fuse_unk=False,
    )
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=options["add_prefix_space"])
    tokenizer.decoder = decoders.ByteLevel()
    if processor is not None:
        tokenizer.post_processor = _processor(processor)
    return tokenizer


def _processor(data: Mapping[str, Any]) -> Any:
    """A post-processor as an object, which the library reads as a part of a tokenizer alone."""
    from tokenizers import Tokenizer, models

    whole = json.loads(Tokenizer(models.BPE({}, [])).to_str())
    return Tokenizer.from_str(json.dumps({**whole, "post_processor": data})).post_processor


def unigrams(
    pieces: Pieces, *, unk_id: int, charsmap: bytes | None, options: Mapping[str, Any]
) -> Tokenizer:
    """The likeliest pieces of each word, as sentencepiece finds them.

    Args:
        pieces: token and logarithm of its probability, in the order of their ids.
        unk_id: the token of characters that are in no piece.
        charsmap: sentencepiece's table of characters that are written otherwise.
        options: `add_prefix_space`; those that write characters otherwise have `keep_accents` and
            `do_lower_case` as well.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.Unigram(list(pieces), unk_id=unk_id, byte_fallback=False))
    steps: list[Any] = []
    if "keep_accents" in options:
        steps += [normalizers.Replace(quote, '"') for quote in ("``", "''")]
        if not options["keep_accents"]:
            steps += [normalizers.NFKD(), normalizers.StripAccents()]
        if options["do_lower_case"]:
            steps.append(normalizers.Lowercase())
    if charsmap is not None:
        steps.append(normalizers.Precompiled(charsmap))
    if steps:
        tokenizer.normalizer = steps[0] if len(steps) == 1 else normalizers.Sequence(steps)
    scheme = "always" if options["add_prefix_space"] else "never"
    spaces = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme=scheme)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), spaces])
    tokenizer.decoder = decoders.Metaspace(replacement=_SPACE, prepend_scheme=scheme)
    return tokenizer


# ---------------------------------------------------------------- tokens that are added


def add_tokens(
    tokenizer: Tokenizer,
    added: Iterable[AddedToken],
    special: Sequence[str | AddedToken],
    extra: Iterable[str | AddedToken],
) -> bool:
    """Add to a tokenizer what it has not yet; what has no id gets the next one.

    Args:
        added: in the order of the ids that their files gave them.
        special: those with a meaning of their own.
        extra: further special ones.

    Returns:
        Whether that changed anything.
    """
    new: list[str | AddedToken] = list(added)
    known = {one.content for one in tokenizer.get_added_tokens_decoder().values()}
    known.update(map(_content, new))
    for one in (*special, *extra):
        if _content(one) not in known and one not in new:
            new.append(one)
    names = {_content(one) for one in special}
    tokens = [token(one, special=True) if isinstance(one, str) else one for one in new]
    for one in tokens:
        one.special = one.special or one.content in names
    before = tokenizer.get_added_tokens_decoder()
    tokenizer.add_tokens(tokens)
    after = tokenizer.get_added_tokens_decoder()
    return {k: repr(one) for k, one in before.items()} != {k: repr(one) for k, one in after.items()}


def _content(one: str | AddedToken) -> str:
    return one if isinstance(one, str) else one.content


# ---------------------------------------------------------------- what stands around a text

Marked = tuple[str, int]  # a token and its id


def frame_bert(tokenizer: Tokenizer, first: Marked, last: Marked) -> None:
    """`first`, a text, `last`; a second text and `last` again are another type of token."""
    from tokenizers import processors

    begin, end = first[0], last[0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin}:0 $A:0 {end}:0",
        pair=f"{begin}:0 $A:0 {end}:0 $B:1 {end}:1",
        special_tokens=[first, last],
    )


def frame_roberta(
    tokenizer: Tokenizer, first: Marked, last: Marked, options: Mapping[str, Any]
) -> None:
    """`first`, a text, `last`; two texts have `last` twice between them, and one type."""
    from tokenizers import processors

    tokenizer.post_processor = processors.RobertaProcessing(
        last, first, options.get("trim_offsets", True), options.get("add_prefix_space", False)
    )


def frame_plain(tokenizer: Tokenizer, first: Marked, last: Marked) -> None:
    """As `frame_roberta`, with all offsets as they are."""
    from tokenizers import processors

    begin, end = first[0], last[0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[begin, "$A", end],
        pair=[begin, "$A", end, end, "$B", end],
        special_tokens=[first, last],
    )


def frame_as_told(tokenizer: Tokenizer, first: Marked | None, last: Marked | None) -> None:
    """`first` and `last` around each text where they are given; a second text is another type."""
    from tokenizers import processors

    begin = ("", "") if first is None else (f"{first[0]}:0 ", f" {first[0]}:1")
    end = ("", "") if last is None else (f" {last[0]}:0", f" {last[0]}:1")
    single = f"{begin[0]}$A:0{end[0]}"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single,
        pair=f"{single}{begin[1]} $B:1{end[1]}",
        special_tokens=[mark for mark in (first, last) if mark is not None],
    )
