"""Which keys of a `config.json` transformers reads, and which of them change nothing here.

`transformers_keys.json` has the keys of each model type, told from transformers' own code by
`scripts/cards/config_keys.py`. Any other key is idle: a load lists it. A key that transformers
reads must be one that zoo uses, or stand below with a reason, or have the value that transformers
would take without it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from zoo.errors import ConfigError, did_you_mean
from zoo.typed import fits_json

DATA = Path(__file__).parent / "transformers_keys.json"

# Keys that transformers reads and that change nothing in what a network of zoo's computes.
WITHOUT_EFFECT: dict[str, str] = {
    **dict.fromkeys(
        ("architectures", "model_type", "id2label", "label2id", "num_labels", "problem_type"),
        "read here: they tell the network and its classes",
    ),
    **dict.fromkeys(
        ("eos_token_id", "pad_token_id", "bos_token_id", "sep_token_id"),
        "of the texts: generation and the tokenizer read them where they count",
    ),
    **dict.fromkeys(
        ("transformers_version", "_name_or_path", "name_or_path", "_commit_hash"),
        "say where the file comes from",
    ),
    **dict.fromkeys(("dtype", "torch_dtype"), "the file's tensors have a dtype of their own"),
    **dict.fromkeys(
        ("initializer_range", "initializer_factor", "init_std"), "of weights that are not loaded"
    ),
    **dict.fromkeys(
        ("return_dict", "output_hidden_states", "output_attentions", "use_cache"),
        "say what is returned beside the result",
    ),
    **dict.fromkeys(
        ("_attn_implementation", "attn_implementation", "_attn_implementation_internal"),
        "another way to compute the same",
    ),
    "chunk_size_feed_forward": "computes the same in pieces",
    "gradient_checkpointing": "of the memory of training",
    "attention_dropout": "of training, where a type has it under this name",
    "tie_word_embeddings": "of language models, which use it",
}

# Keys that older releases of transformers read, by the one value that computes what today's does.
ONCE_READ: dict[str, Any] = {"position_embedding_type": "absolute", "pruned_heads": {}}


@functools.cache
def _data() -> dict[str, dict[str, dict[str, Any]]]:
    return json.loads(DATA.read_text("utf-8"))


def _of(model_type: str) -> dict[str, dict[str, Any]]:
    """What is known of a type; nothing of one that another package brings."""
    return _data().get(model_type, {"fields": {}, "reads": {}, "aliases": {}})


@functools.cache
def keys_read(model_type: str) -> Mapping[str, list[Any]]:
    """The keys that transformers reads of a type, each with the value that stands for a missing
    one: `[value]`, or `[]` where its code does not state one."""
    parts = (_of("*"), _of(model_type))
    read = {key: default for part in parts for key, default in part["reads"].items()}
    return read | {k: [default] for part in parts for k, (default, _) in part["fields"].items()}


def under_their_names(config: Mapping[str, Any], model_type: str) -> dict[str, Any]:
    """The keys of a `config.json` with those that the type has another name for under that one,
    which they win over, as in transformers."""
    aliases = _of(model_type)["aliases"]
    own = {key: value for key, value in config.items() if key not in aliases}
    return own | {aliases[key]: value for key, value in config.items() if key in aliases}


def check(
    config: Mapping[str, Any], model_type: str, used: Collection[str], *, where: str
) -> tuple[str, ...]:
    """The idle keys of a `config.json`, once all others are known to be read here.

    Args:
        used: what zoo reads, or knows to change nothing in the networks of this type.
        where: the file, for errors.

    Raises:
        ConfigError: a key that transformers reads and zoo does not, or a value of a type that is
            none of the key's. Of a type that another package brings, nobody knows what is read:
            there, each key must be one that is used.
    """
    read, idle = keys_read(model_type), []
    others = [] if model_type in _data() else sorted({*config} - {*used, *read, *ONCE_READ})
    if others:
        raise ConfigError(
            f"{where} sets {', '.join(others)}, which the dialect of {model_type!r} does not know."
            f"{did_you_mean(others[0], used)} If it changes nothing, its `idle` should say so."
        )
    for key, value in config.items():
        if key in ONCE_READ:
            _check_once_read(key, value, where)
        elif key in used:
            _check_type(key, value, model_type, where)
        elif key not in read:
            idle.append(key)
        elif key not in WITHOUT_EFFECT and [value] != (read[key] or [None]):
            raise ConfigError(
                f"{where} sets {key} to {value!r:.100}, which transformers reads and zoo does not: "
                f"the network would compute something else.{did_you_mean(key, used)} Remove it "
                "only if the weights were trained without it."
            )
    return tuple(sorted(idle))


def _check_once_read(key: str, value: Any, where: str) -> None:
    if value is not None and value != ONCE_READ[key]:
        raise ConfigError(
            f"{where} sets {key} to {value!r:.100}, which older releases of transformers read; "
            f"today's computes as with {ONCE_READ[key]!r}, and so does zoo."
        )


def _check_type(key: str, value: Any, model_type: str, where: str) -> None:
    for part in (_of(model_type), _of("*")):
        if key in part["fields"]:
            _, types = part["fields"][key]
            if not fits_json(value, types):
                raise ConfigError(f"{where}: {key} is {value!r:.100}; expected {types}.")
            return
