"""transformers' classes of tokenizers: what each is made of, and which one a repo means.

A class takes the vocabulary from the repo's files and makes all else anew (`models/*/
tokenization_*.py`, `models/auto/tokenization_auto.py`; 5.24.0), so that it says more about the ids
of a text than `tokenizer.json` does. Only the classes that are `GENERIC` take that file as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from zoo.errors import did_you_mean

Flags = Mapping[str, Mapping[str, bool]]

# sentencepiece's models and tiktoken's: transformers reads them where there is no tokenizer.json
# and they have a name that it takes before all others.
FOREIGN = ("tokenizer.model", "tekken.json", "tiktoken.model")
_SENTENCEPIECE = ("sentencepiece.bpe.model",)


class UnavailableError(Exception):
    """Texts go through what zoo does not have; the message says what it is and what to do."""


@dataclass(frozen=True, kw_only=True)
class TokenizerClass:
    """How the tokenizer of a class is made.

    Attributes:
        name: by which transformers knows it.
        model: the kind of vocabulary; None: whatever `tokenizer.json` has.
        files: the vocabulary's own files, where there is no `tokenizer.json`.
        special: the tokens with a meaning of their own, by names such as `pad_token`, unless the
            files say otherwise.
        flags: what is said of such a token where the files say no more than its text.
        extra: further special tokens, unless the files say otherwise.
        options: what of `tokenizer_config.json` it reads, with its defaults.
        unk_id: the id of what is unknown; None: that of the special token.
        inputs: what its encoded texts consist of.
        frame: what stands around a text; None: what `tokenizer.json` says.
        frame_first: whether that is of the vocabulary itself, before tokens are added to it.
    """

    name: str
    model: Literal["WordPiece", "BPE", "Unigram"] | None = None
    files: tuple[str, ...] = ()
    special: Mapping[str, str] = field(default_factory=dict)
    flags: Flags = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    unk_id: int | None = None
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")
    frame: Literal["bert", "roberta", "plain"] | None = None
    frame_first: bool = False


_BERT = {f"{n}_token": f"[{n.upper()}]" for n in ("unk", "sep", "pad", "cls", "mask")}
_ROBERTA = {f"{n}_token": f"<{n}>" for n in ("unk", "pad", "mask")}
_ROBERTA |= dict.fromkeys(("bos_token", "cls_token"), "<s>")
_ROBERTA |= dict.fromkeys(("eos_token", "sep_token"), "</s>")
_WORDS = {"do_lower_case": True, "tokenize_chinese_chars": True, "strip_accents": None}
_UNTRIMMED: dict[str, bool] = {"lstrip": False, "rstrip": False}

GENERIC = TokenizerClass(name="PreTrainedTokenizerFast")
_TYPED = TokenizerClass(
    name="BertTokenizer",
    model="WordPiece",
    files=("vocab.txt",),
    special=_BERT,
    options=_WORDS,
    inputs=("input_ids", "attention_mask", "token_type_ids"),
    frame="bert",
)
_CLASSES = (
    GENERIC,
    _TYPED,
    TokenizerClass(
        name="DistilBertTokenizer",
        model="WordPiece",
        files=("vocab.txt",),
        special=_BERT,
        options=_WORDS,
        frame="bert",
    ),
    TokenizerClass(
        name="MPNetTokenizer",
        model="WordPiece",
        files=("vocab.txt",),
        special=_ROBERTA | {"unk_token": "[UNK]"},
        # the mask takes the space before it
        flags=dict.fromkeys(_ROBERTA, _UNTRIMMED)
        | {"mask_token": {"lstrip": True, "rstrip": False}},
        options=_WORDS,
        frame="roberta",
    ),
    TokenizerClass(
        name="GPT2Tokenizer",
        model="BPE",
        files=("vocab.json", "merges.txt"),
        special=dict.fromkeys(("unk_token", "bos_token", "eos_token"), "<|endoftext|>"),
        options={"add_prefix_space": False},
    ),
    TokenizerClass(
        name="RobertaTokenizer",
        model="BPE",
        files=("vocab.json", "merges.txt"),
        special=_ROBERTA,
        options={"add_prefix_space": False, "trim_offsets": True},
        frame="roberta",
    ),
    TokenizerClass(
        name="XLMRobertaTokenizer",
        model="Unigram",
        files=_SENTENCEPIECE,
        special=_ROBERTA,
        unk_id=3,
        options={"add_prefix_space": True},
        frame="plain",
    ),
    TokenizerClass(
        name="CamembertTokenizer",
        model="Unigram",
        files=_SENTENCEPIECE,
        special=_ROBERTA,
        flags={"mask_token": {"lstrip": True, "special": True}},
        extra=("<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"),
        options={"add_prefix_space": True},
        frame="plain",
    ),
)
_ALIASES = {
    "BertTokenizer": ("Electra", "MobileBert", "Lxmert", "SqueezeBert", "ConvBert"),
    "RobertaTokenizer": ("Longformer", "Bart", "LED", "Mvp"),
    "PreTrainedTokenizerFast": ("PreTrained",),
}
_BY_NAME = {one.name: one for one in _CLASSES}
# by its name without "Fast", which transformers leaves out as well
CLASSES: Mapping[str, TokenizerClass] = MappingProxyType(
    {
        **_BY_NAME,
        **{f"{a}Tokenizer": _BY_NAME[name] for name, every in _ALIASES.items() for a in every},
        "TokenizersBackend": GENERIC,
        "PythonBackend": GENERIC,
    }
)


def class_of(
    settings: Mapping[str, Any], config: Mapping[str, Any], usual: TokenizerClass
) -> TokenizerClass:
    """The class by which transformers reads the tokenizer of a repo.

    Args:
        settings: content of `tokenizer_config.json`.
        config: content of `config.json`.
        usual: the class of the model's type, where neither names one.

    Raises:
        UnavailableError: zoo does not have it, or it is code of the repo's own.
    """
    code = settings.get("auto_map")
    code = code.get("AutoTokenizer") if isinstance(code, Mapping) else code
    if any(code) if isinstance(code, list) else code:
        raise UnavailableError(
            f"tokenizer_config.json names code of the repo's own, {code}, under auto_map, and zoo "
            f"runs no code of a repo. {_INSTEAD}"
        )
    stated = settings.get("tokenizer_class") or config.get("tokenizer_class")
    if stated is None:
        return usual
    found = {**CLASSES, usual.name: usual}.get(str(stated).removesuffix("Fast"))
    if found is None:
        raise UnavailableError(
            f"the repo's tokenizer is a {stated}, which zoo does not have; it has "
            f"{', '.join(_BY_NAME)}.{did_you_mean(str(stated), CLASSES)} {_INSTEAD}"
        )
    return found


_INSTEAD = (
    "Cut the texts into token ids with it yourself and call the model on those; where one of these "
    "classes gives the same ids, save it with transformers and put its tokenizer.json and "
    "tokenizer_config.json there."
)
