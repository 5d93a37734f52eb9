"""transformers' `config.json`: read as the fields of our configs, and written from them.

`transformers_vision` and `transformers_text` have the tables, one per model type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.errors import ConfigError, did_you_mean
from zoo.registry.transformers_text import TEXT
from zoo.registry.transformers_types import Fields, ModelType
from zoo.registry.transformers_vision import PROJECTION, VISION

MODEL_TYPES = VISION | TEXT

# Keys of every config of transformers that change nothing in the network.
_GENERIC = {
    *("architectures", "model_type", "transformers_version", "_name_or_path", "torch_dtype"),
    *("dtype", "initializer_range", "initializer_factor", "id2label", "label2id", "num_labels"),
    *("problem_type", "finetuning_task", "task_specific_params", "return_dict", "use_return_dict"),
    *("output_attentions", "output_hidden_states", "torchscript", "use_bfloat16", "use_cache"),
    *("pruned_heads", "tie_word_embeddings", "tie_encoder_decoder", "cross_attention_hidden_size"),
    *("chunk_size_feed_forward", "is_encoder_decoder", "is_decoder", "add_cross_attention"),
    *("_attn_implementation", "attn_implementation", "_attn_implementation_autoset", "auto_map"),
    *("gradient_checkpointing", "layerdrop", "prefix", "bos_token_id", "pad_token_id"),
    *("eos_token_id", "sep_token_id", "decoder_start_token_id", "tokenizer_class", "max_length"),
    *("min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups"),
    *("diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty"),
    *("length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids"),
    *("num_return_sequences", "output_scores", "return_dict_in_generate", "forced_bos_token_id"),
    *("forced_eos_token_id", "remove_invalid_values", "exponential_decay_length_penalty"),
    *("suppress_tokens", "begin_suppress_tokens", "tf_legacy_loss", "encoder_stride"),
    "license",
}

# Whole checkpoints: their class -> the class of the vision half, which is what zoo loads of them.
_WHOLE = {
    "clip": ("clip_vision_model", {"CLIPModel": "CLIPVisionModelWithProjection"}),
    "siglip": ("siglip_vision_model", {"SiglipModel": "SiglipVisionModel"}),
}


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a `config.json` of transformers says.

    Attributes:
        model_type: one of `MODEL_TYPES`.
        fields: fields of our config.
        labels: names of the classes; None where the file has none of its own.
        projects: whether what would be classes is a projection.
    """

    model_type: str
    fields: Fields
    labels: tuple[str, ...] | None
    projects: bool = False


def read(config: Mapping[str, Any], *, where: str) -> Found:
    """The fields of our config that a `config.json` describes.

    Args:
        where: the file, for errors.

    Raises:
        ConfigError: a model type or class that zoo does not have, or a key that it does not know.
    """
    model_type = config["model_type"]
    names = config.get("architectures") or [None]
    name, keys = names[0], dict(config)
    if model_type in _WHOLE:
        model_type, halves = _WHOLE[model_type]
        inner = dict(config.get("vision_config") or {})
        inner |= {k: config[k] for k in ("projection_dim",) if k in config}
        name, keys = halves.get(name, name), {**_labels_of(config), **inner}
    if model_type not in MODEL_TYPES:
        known = (*MODEL_TYPES, *_WHOLE)
        raise ConfigError(
            f"{where} has model_type {model_type!r}, which zoo does not have; it has "
            f"{', '.join(known)}.{did_you_mean(str(model_type), known)}"
        )
    kind = MODEL_TYPES[model_type]
    name = next(iter(kind.heads)) if name is None else name
    if name not in kind.heads:
        raise ConfigError(
            f"{where} is of a {name}; of the type {model_type!r} zoo has {', '.join(kind.heads)}."
        )
    _check_keys(keys, kind, where)
    held = {**kind.defaults, **keys}
    try:
        fields = {ours: held[theirs] for theirs, ours in kind.same.items()}
        fields |= {**kind.fields, **kind.derive(held), **kind.heads[name]}
    except (ConfigError, TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error
    if kind.heads[name].get("causal") and not held.get("is_decoder", True):
        raise ConfigError(
            f"{where} is of a {name} with is_decoder false: its tokens would see those after them. "
            "Set is_decoder to true, as the class needs it."
        )
    labels = _labels(config)
    fields["num_classes"] = _classes(name, kind, held, labels)
    named = labels is not None and len(labels) == fields["num_classes"]
    return Found(
        model_type=model_type,
        fields=fields,
        labels=labels if named else None,
        projects=kind.heads[name] is PROJECTION,
    )


def write(
    model_type: str, fields: Mapping[str, Any], labels: Sequence[str] | None = None
) -> dict[str, Any]:
    """A `config.json` for fields of our config, all of them given.

    Raises:
        ConfigError: no class of the type has such a head.
    """
    kind = MODEL_TYPES[model_type]
    name = _class_of(model_type, fields)
    config = {theirs: fields[ours] for theirs, ours in kind.same.items()} | kind.revert(fields)
    head: dict[str, Any] = {"architectures": [name], "model_type": model_type}
    if name == "SiglipForImageClassification":
        vision = {"model_type": model_type, **config}
        head, config = {"architectures": [name], "model_type": "siglip"}, {"vision_config": vision}
        if "problem_type" in vision:
            config["problem_type"] = vision.pop("problem_type")
    if name == "CLIPVisionModelWithProjection":
        config["projection_dim"] = fields["num_classes"]
    elif fields["num_classes"]:
        labels = labels or [f"LABEL_{k}" for k in range(fields["num_classes"])]
        config["id2label"] = {str(k): label for k, label in enumerate(labels)}
        config["label2id"] = {label: k for k, label in enumerate(labels)}
    return head | config


def _class_of(model_type: str, fields: Fields | Mapping[str, Any]) -> str:
    """The class in `architectures` for fields of our config."""
    heads = MODEL_TYPES[model_type].heads
    base, *classifiers = heads
    if model_type in TEXT:
        # what makes one vector of a text stands in files of its own, beside a base model
        fields = {**fields, "head": "base"} if fields["head"] == "sentence" else fields
        choices, decisive = list(heads), ("head", "causal")
    elif fields["num_classes"]:
        fields = {**fields, "pooler_act": None}  # classifiers have no pooler
        choices, decisive = classifiers, ("num_classes", "global_pool")
    else:
        choices, decisive = [base], ("num_classes", "global_pool")
    fitting = [c for c in choices if all(fields[k] == v for k, v in heads[c].items())]
    if not fitting:
        found = " and ".join(f"{name}={fields[name]!r}" for name in decisive)
        raise ConfigError(
            f"transformers has no {model_type} with {found}; its classes are {', '.join(heads)}."
        )
    return max(fitting, key=lambda c: len(heads[c]))


def _check_keys(keys: Mapping[str, Any], kind: ModelType, where: str) -> None:
    known = {*kind.defaults, *kind.same, *kind.idle, *_GENERIC}
    unknown = [k for k, v in keys.items() if k not in known and v not in (None, False, {}, [])]
    if unknown:
        raise ConfigError(
            f"{where} sets {', '.join(unknown)}, which zoo does not know and which may change what "
            f"the network computes.{did_you_mean(unknown[0], known)} Remove what has no effect."
        )


def _classes(
    name: str, kind: ModelType, keys: Mapping[str, Any], labels: tuple[str, ...] | None
) -> int:
    if name == next(iter(kind.heads)):
        return 0
    if "num_classes" in kind.heads[name]:
        return kind.heads[name]["num_classes"]
    if name == "CLIPVisionModelWithProjection":
        return keys["projection_dim"]
    if labels is not None:
        return len(labels)
    return keys.get("num_labels") or len(keys.get("id2label") or "ab")  # two by default


def _labels_of(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        k: config[k] for k in ("id2label", "label2id", "num_labels", "problem_type") if k in config
    }


def _labels(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Names of the classes, unless they are those that transformers makes up."""
    by_index = {int(k): str(v) for k, v in (config.get("id2label") or {}).items()}
    if sorted(by_index) != list(range(len(by_index))) or not by_index:
        return None
    names = tuple(by_index[k] for k in range(len(by_index)))
    return None if all(n == f"LABEL_{k}" for k, n in enumerate(names)) else names
