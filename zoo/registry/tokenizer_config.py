"""The tokenizer files of a text model: read as a spec, and written from one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from zoo.errors import ConfigError
from zoo.preprocessing.text_spec import TOKENS, TextSpec
from zoo.registry.dialect import Dialect
from zoo.registry.heads import max_length
from zoo.registry.tokenizer_classes import GENERIC, TokenizerClass, UnavailableError, class_of
from zoo.registry.tokenizer_files import Made, made
from zoo.registry.tokenizer_settings import Files, Read, settings_of

_LONGEST = 1 << 20  # transformers writes 1e30 where nothing bounds the length
_SIDES = ("padding_side", "truncation_side")


def text_spec(
    file: Read,
    *,
    dialect: Dialect,
    fields: Mapping[str, Any],
    config: Mapping[str, Any],
    origin: str,
) -> TextSpec:
    """What texts go through, by the files beside a model, as transformers reads them.

    Where the tokenizer is one that zoo does not have, the spec says so to whoever comes with
    texts: the model still takes token ids.

    Args:
        file: gives the content of a file.
        dialect: of the model's type.
        fields: of the network's config.
        config: content of the `config.json`.
        origin: handle of the repo or folder, named in errors.

    Raises:
        ConfigError: a file that is not what it should be, or more tokens than the network knows.
    """
    files = Files(file, origin)
    settings = settings_of(files)
    usual = dialect.tokenizer or GENERIC
    found, reason = None, None
    try:
        kind = class_of(settings, config, usual)
        named = {**settings, "tokenizer_class": kind.name}
        found = made(files, kind, named, fields["vocab_size"])
    except UnavailableError as error:
        kind, reason = usual, f"{origin}: {error}"
    except ConfigError as error:
        said = str(error)
        raise ConfigError(said if said.startswith(origin) else f"{origin}: {said}") from None
    settings = named if found else settings
    stops = _stop_ids(files, {"eos_token_id": dialect.stop_id} | dict(config))
    special = _special(found, kind, usual)
    pad = _pad_id(found, special, fields)
    sides = dict.fromkeys(_SIDES, "right") | dict(found.sides if found else {})
    return TextSpec(
        tokenizer=found.text if found else None,
        no_tokenizer=reason,
        settings=settings,
        inputs=_inputs(settings, kind, fields, found, origin),
        vocab_size=fields["vocab_size"],
        max_length=min(_stated_length(settings, origin), max_length(fields)),
        **{name: settings.get(name, side) for name, side in sides.items()},
        padding_idx=next((k for k in (pad, *stops) if k is not None), 0),
        special=special,
        stop_ids=stops,
        split_special=bool(settings.get("split_special_tokens")),
        clean_up=found is not None and _cleans_up(found, settings),
    )


def tokenizer_files(spec: TextSpec) -> dict[str, str]:
    """The files by which transformers cuts texts as `spec` says, by name."""
    if spec.tokenizer is None:
        # so that the tokenizer that zoo does not have is named when the folder is loaded
        return _written({"tokenizer_config.json": spec.settings} if spec.no_tokenizer else {})
    special = {f"{name}_token": token for name, token in spec.special.items()}
    sides = {name: getattr(spec, name) for name in _SIDES}
    settings = {**special, **sides, "model_max_length": spec.max_length, **spec.settings}
    texts = {"tokenizer_config.json": settings, "special_tokens_map.json": special}
    return {"tokenizer.json": spec.tokenizer, **_written(texts)}


def _written(texts: Mapping[str, Any]) -> dict[str, str]:
    return {name: json.dumps(data, indent=2) + "\n" for name, data in texts.items()}


# ---------------------------------------------------------------- what the files say


def _special(found: Made | None, kind: TokenizerClass, usual: TokenizerClass) -> dict[str, str]:
    """The special tokens by our names; what a generic class leaves open is as usual for the
    model, as far as the tokenizer has it as a special one."""
    special = dict(kind.special if found is None else found.special)
    if found is not None and kind.model is None:
        added = found.tokenizer.get_added_tokens_decoder().values()
        texts = {one.content for one in added if one.special}
        special = {k: one for k, one in usual.special.items() if one in texts} | special
    named = {name: special.get(f"{name}_token") for name in TOKENS}
    return {name: token for name, token in named.items() if token is not None}


def _pad_id(
    found: Made | None, special: Mapping[str, str], fields: Mapping[str, Any]
) -> int | None:
    """The id that fills up texts, if it has a row in the network's table: nothing reads it."""
    if found is not None and "pad" in special:
        k = found.tokenizer.token_to_id(special["pad"])
        if k is not None and k < fields["vocab_size"]:
            return k
    return fields.get("padding_idx")


def _inputs(
    settings: Mapping[str, Any],
    kind: TokenizerClass,
    fields: Mapping[str, Any],
    found: Made | None,
    origin: str,
) -> tuple[str, ...]:
    """What the network takes of what the tokenizer gives.

    The mask is always of it: without one, a text's vector would depend on those it is padded with.
    """
    names = settings.get("model_input_names", kind.inputs)
    if not (isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)):
        raise ConfigError(
            f"{origin}/tokenizer_config.json: model_input_names is {names!r}; a list of names was "
            "expected."
        )
    types = (fields.get("type_vocab_size") or 0) > 1
    types = types and (found is None or "token_type_ids" in names)
    return ("input_ids", "attention_mask", *(["token_type_ids"] if types else ()))


def _cleans_up(found: Made, settings: Mapping[str, Any]) -> bool:
    """Whether spaces before punctuation are taken out of decoded texts; not those of byte pairs,
    which have only spaces that were in the text."""
    forced = "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"
    pairs = type(found.tokenizer.model).__name__ == "BPE"
    return bool(settings.get("clean_up_tokenization_spaces")) and (
        not pairs or bool(settings.get(forced))
    )


def _stated_length(settings: Mapping[str, Any], origin: str) -> int:
    length = settings.get("model_max_length", settings.get("max_len"))
    if length is None:
        return _LONGEST
    if isinstance(length, bool) or not isinstance(length, int | float) or not length >= 1:
        raise ConfigError(
            f"{origin}/tokenizer_config.json: model_max_length is {length!r}; a number of tokens "
            "was expected."
        )
    return int(min(length, _LONGEST))


def _stop_ids(files: Files, config: Mapping[str, Any]) -> tuple[int, ...]:
    """The tokens that end a text, as generation reads them."""
    stated = {**config, **files.json("generation_config.json")}.get("eos_token_id")
    ids = stated if isinstance(stated, list) else [] if stated is None else [stated]
    if any(isinstance(k, bool) or not isinstance(k, int) for k in ids):
        raise ConfigError(
            f"{files.origin}: eos_token_id is {stated!r}; an id of a token or a list of them was "
            "expected."
        )
    return tuple(ids)
