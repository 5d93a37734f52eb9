"""The tokenizer files of a text model: read as a spec, and written from one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from zoo.errors import ConfigError
from zoo.preprocessing.text_spec import TOKENS, TextSpec
from zoo.preprocessing.tokenizers import byte_pairs, word_pieces
from zoo.registry.transformers_text import max_length

Read = Callable[[str], str | None]  # the content of a file, None where there is none
_LONGEST = 1 << 20  # transformers writes 1e30 where nothing bounds the length

_BERT = {"unk": "[UNK]", "pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
_ROBERTA = {
    "unk": "<unk>",
    "pad": "<pad>",
    "cls": "<s>",
    "sep": "</s>",
    "mask": "<mask>",
    "bos": "<s>",
    "eos": "</s>",
}
_SPECIAL = {  # the tokens of each model type, unless its files say otherwise
    "bert": _BERT,
    "distilbert": _BERT,
    "electra": _BERT,
    "mpnet": _ROBERTA | {"unk": "[UNK]"},
    "gpt2": dict.fromkeys(("unk", "bos", "eos"), "<|endoftext|>"),
}
# The ids that end a text where the config does not say, as transformers has them.
_STOPS = {"gpt2": 50256, **dict.fromkeys(("roberta", "xlm-roberta", "camembert", "mpnet"), 2)}


def text_spec(
    file: Read,
    *,
    model_type: str,
    fields: Mapping[str, Any],
    config: Mapping[str, Any],
    origin: str,
) -> TextSpec:
    """What texts go through, by the files beside a model.

    Args:
        file: gives the content of a file.
        fields: of the network's config.
        config: content of the `config.json`.
        origin: handle of the repo or folder, named in errors.

    Raises:
        ConfigError: a file that is not what it should be, or more tokens than the network knows.
    """
    settings = _object(file, "tokenizer_config.json", origin)
    special = _special_tokens(file, settings, model_type, origin)
    tokenizer = file("tokenizer.json") or _built(file, settings, special, model_type, origin)
    ids = {} if tokenizer is None else _ids(tokenizer, origin)
    if ids and (highest := max(ids.values())) >= fields["vocab_size"]:
        raise ConfigError(
            f"{origin}: the tokenizer has the id {highest}, but the network's table has "
            f"{fields['vocab_size']} tokens: they are not of one model. Take the tokenizer files "
            "that the weights were published with."
        )
    length = settings.get("model_max_length") or _LONGEST
    longest = min(length, max_length(fields))
    pad = ids.get(special.get("pad", ""), fields.get("padding_idx"))
    types = ("token_type_ids",) if (fields.get("type_vocab_size") or 0) > 1 else ()
    stops = _stop_ids(file, {"eos_token_id": _STOPS.get(model_type)} | dict(config), origin)
    return TextSpec(
        tokenizer=tokenizer,
        settings=settings,
        inputs=("input_ids", "attention_mask", *types),
        vocab_size=fields["vocab_size"],
        max_length=int(longest),
        padding_side=settings.get("padding_side", "right"),
        truncation_side=settings.get("truncation_side", "right"),
        padding_idx=next((k for k in (pad, *stops) if k is not None), 0),
        special={name: token for name, token in special.items() if not ids or token in ids},
        stop_ids=stops,
    )


def tokenizer_files(spec: TextSpec) -> dict[str, str]:
    """The files by which transformers cuts texts as `spec` says, by name."""
    if spec.tokenizer is None:
        return {}
    special = {f"{name}_token": token for name, token in spec.special.items()}
    sides = {"padding_side": spec.padding_side, "truncation_side": spec.truncation_side}
    settings = {**special, **sides, "model_max_length": spec.max_length, **spec.settings}
    texts = {"tokenizer_config.json": settings, "special_tokens_map.json": special}
    written = {name: json.dumps(data, indent=2) + "\n" for name, data in texts.items()}
    return {"tokenizer.json": spec.tokenizer, **written}


# ---------------------------------------------------------------- what the files say


def _object(file: Read, name: str, origin: str) -> dict[str, Any]:
    """A JSON object; an empty one where the file is missing."""
    text = file(name)
    if text is None:
        return {}
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{origin}/{name} is not valid JSON: {error}.") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{origin}/{name} should hold an object.")
    return data


def _special_tokens(
    file: Read, settings: Mapping[str, Any], model_type: str, origin: str
) -> dict[str, str]:
    stated = {**_object(file, "special_tokens_map.json", origin), **settings}
    special = dict(_SPECIAL.get(model_type, _ROBERTA))
    for name in TOKENS:
        token = stated.get(f"{name}_token")
        if token is not None:
            special[name] = token["content"] if isinstance(token, Mapping) else str(token)
    return special


def _built(
    file: Read,
    settings: Mapping[str, Any],
    special: Mapping[str, str],
    model_type: str,
    origin: str,
) -> str | None:
    """A tokenizer from its vocabulary; None where there is none that tells all."""
    try:
        if (text := file("vocab.txt")) is not None:
            lines = text.removesuffix("\n").split("\n")
            return word_pieces(lines, special, settings, roberta=model_type == "mpnet")
        if (merges := file("merges.txt")) is not None and file("vocab.json") is not None:
            vocabulary, roberta = _object(file, "vocab.json", origin), model_type != "gpt2"
            return byte_pairs(vocabulary, merges.split("\n"), special, settings, roberta=roberta)
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from None
    return None


def _ids(tokenizer: str, origin: str) -> dict[str, int]:
    """The id of each token of a `tokenizer.json`."""
    try:
        data = json.loads(tokenizer)
        table = data["model"]["vocab"]
        if isinstance(table, list):  # a unigram model: pairs of token and weight
            table = {token: k for k, (token, _) in enumerate(table)}
        added = {token["content"]: token["id"] for token in data.get("added_tokens") or ()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"{origin}/tokenizer.json is no tokenizer: {error!r}.") from error
    return {**table, **added}


def _stop_ids(file: Read, config: Mapping[str, Any], origin: str) -> tuple[int, ...]:
    """The tokens that end a text, as generation reads them."""
    stated = {**config, **_object(file, "generation_config.json", origin)}.get("eos_token_id")
    if stated is None:
        return ()
    return tuple(stated) if isinstance(stated, list) else (int(stated),)
