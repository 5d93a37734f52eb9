"""transformers' `config.json`: read as the fields of our configs, and written from them.

`transformers_vision` and `transformers_text` have the tables, one per model type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.errors import ConfigError, did_you_mean
from zoo.registry import transformers_keys
from zoo.registry.transformers_text import TEXT
from zoo.registry.transformers_types import Fields, ModelType
from zoo.registry.transformers_vision import PROJECTION, VISION
from zoo.typed import Count, fits

MODEL_TYPES = VISION | TEXT

# Whole checkpoints: their class -> the class of the vision half, which is what zoo loads of them.
_LABELS: tuple[str, ...] = ("id2label", "label2id", "num_labels", "problem_type")
_OF_WHOLES: tuple[str, ...] = (
    "projection_dim",
    "logit_scale_init_value",
    "vision_config",
    "vision_config_dict",
)
_OF_WHOLES += ("text_config", "text_config_dict", *_LABELS)  # the text half is left out
WHOLE = {
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
        idle: keys that change nothing, for the report.
        projects: whether what would be classes is a projection.
    """

    model_type: str
    fields: Fields
    labels: tuple[str, ...] | None
    idle: tuple[str, ...] = ()
    projects: bool = False


def read(config: Mapping[str, Any], *, where: str) -> Found:
    """The fields of our config that a `config.json` describes.

    Args:
        where: the file, for errors.

    Raises:
        ConfigError: a model type or class that zoo does not have, or a key that it does not know.
    """
    model_type = config["model_type"]
    name = _class(config, where)
    idle: tuple[str, ...] = ()
    if model_type in WHOLE:
        model_type, halves = WHOLE[model_type]
        idle = transformers_keys.check(config, config["model_type"], _OF_WHOLES, where=where)
        name, config = halves.get(name or "", name), _vision_half(config, where)
    if model_type not in MODEL_TYPES:
        known = (*MODEL_TYPES, *WHOLE)
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
    keys = transformers_keys.under_their_names(config, model_type)
    used = {*kind.defaults, *kind.same, *kind.idle, *_LABELS}
    idle += transformers_keys.check(keys, model_type, used, where=where)
    held = {**kind.defaults, **keys}
    try:
        fields = {ours: held[theirs] for theirs, ours in kind.same.items()}
        fields |= {**kind.fields, **kind.derive(held), **kind.heads[name]}
    except (ConfigError, ArithmeticError) as error:
        raise ConfigError(f"{where}: {error}") from error
    if kind.heads[name].get("causal") and not held.get("is_decoder", True):
        raise ConfigError(
            f"{where} is of a {name} with is_decoder false: its tokens would see those after them. "
            "Set is_decoder to true, as the class needs it."
        )
    labels = _labels(config, where)
    fields["num_classes"] = _classes(name, kind, held, labels)
    named = labels is not None and len(labels) == fields["num_classes"]
    return Found(
        model_type=model_type,
        fields=fields,
        labels=labels if named else None,
        idle=tuple(key for key in idle if key != "license"),
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


def _class(config: Mapping[str, Any], where: str) -> str | None:
    """The class that a file names first."""
    names = config.get("architectures")
    if not fits(names, tuple[str, ...] | None):
        raise ConfigError(
            f"{where}: architectures is {names!r:.100}; a list of names was expected."
        )
    return names[0] if names else None


def _vision_half(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The config of the vision half of a whole checkpoint, with the labels of the whole.

    Older files of CLIP have it twice, and `vision_config_dict` wins.
    """
    read = transformers_keys.keys_read(config["model_type"])
    halves = [config.get(key) for key in ("vision_config_dict", "vision_config") if key in read]
    inner: Any = next((half for half in halves if half is not None), {})
    if not isinstance(inner, Mapping):
        raise ConfigError(f"{where}: vision_config is {inner!r:.100}; an object was expected.")
    whole = (*_LABELS, "projection_dim")
    return {**inner, **{key: config[key] for key in whole if key in config}}


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


def _labels(config: Mapping[str, Any], where: str) -> tuple[str, ...] | None:
    """Names of the classes, unless they are those that transformers makes up."""
    stated = config.get("id2label") or {}
    if not isinstance(stated, Mapping) or not all(map(_is_index, stated)):
        raise ConfigError(
            f"{where}: id2label is {stated!r:.100}; an object of names by index was expected."
        )
    if not fits(config.get("num_labels"), Count | None):
        raise ConfigError(f"{where}: num_labels is {config['num_labels']!r:.100}, not a count.")
    by_index = {int(k): str(v) for k, v in stated.items()}
    if sorted(by_index) != list(range(len(by_index))) or not by_index:
        return None
    names = tuple(by_index[k] for k in range(len(by_index)))
    return None if all(n == f"LABEL_{k}" for k, n in enumerate(names)) else names


def _is_index(key: Any) -> bool:
    return len(str(key)) < 10 and str(key).isascii() and str(key).isdecimal()
