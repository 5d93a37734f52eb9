"""transformers' `config.json`: read as the fields of our configs, and written from them, by the
dialect of its model type."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.errors import ConfigError
from zoo.registry import transformers_keys
from zoo.registry.config_keys import Fields
from zoo.registry.dialect import Dialect, ModelClass
from zoo.registry.dialects import transformers_dialect
from zoo.typed import Count, fits

_LABELS = ("id2label", "label2id", "num_labels", "problem_type")
# Of a config that has one of ours as a part: the text half is left out.
_OF_WHOLES = (
    *("projection_dim", "logit_scale_init_value", "vision_config", "vision_config_dict"),
    *("text_config", "text_config_dict", *_LABELS),
)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a `config.json` of transformers says.

    Attributes:
        model_type: the name of the dialect.
        dialect: by which it was read.
        fields: fields of our config.
        labels: names of the classes; None where the file has none of its own.
        idle: keys that change nothing, for the report.
        projects: whether what would be classes is a projection.
    """

    model_type: str
    dialect: Dialect
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
    config, model_type, dialect, name, idle = _own_part(config, where)
    if name not in dialect.classes:
        raise ConfigError(
            f"{where} is of a {name}; of the type {model_type!r} zoo has "
            f"{', '.join(dialect.classes)}."
        )
    one = dialect.classes[name]
    keys = transformers_keys.under_their_names(config, model_type)
    used = {*(key.name for key in dialect.keys), *dialect.idle, *_LABELS}
    idle += transformers_keys.check(keys, model_type, used, where=where)
    keys = dialect.filled(keys)
    try:
        fields = {**dialect.read(keys), **one.fields}
    except (ConfigError, ArithmeticError) as error:
        raise ConfigError(f"{where}: {error}") from error
    for key, (value, why) in one.needs.items():
        if keys[key] != value:
            raise ConfigError(
                f"{where} is of a {name} with {key} {json.dumps(keys[key])}: {why}. Set {key} to "
                f"{json.dumps(value)}, as the class needs it."
            )
    labels = _labels(config, where)
    fields["num_classes"] = _classes(one, keys, labels)
    named = labels is not None and len(labels) == fields["num_classes"]
    return Found(
        model_type=model_type,
        dialect=dialect,
        fields=fields,
        labels=labels if named else None,
        idle=tuple(key for key in idle if key != "license"),
        projects=one.projects,
    )


def _own_part(
    config: Mapping[str, Any], where: str
) -> tuple[Mapping[str, Any], str, Dialect, str, tuple[str, ...]]:
    """The config, or the part of it, that a dialect reads: with the dialect's name and itself, the
    class, and the idle keys of the whole."""
    stated, name = config["model_type"], _class(config, where)
    try:
        model_type, dialect = transformers_dialect(stated)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    idle: tuple[str, ...] = ()
    if model_type != stated:
        idle = transformers_keys.check(config, stated, _OF_WHOLES, where=where)
        name = dialect.wholes[stated].get(name or "", name)
        config = _vision_half(config, where)
    return config, model_type, dialect, name or next(iter(dialect.classes)), idle


def write(
    model_type: str, fields: Mapping[str, Any], labels: Sequence[str] | None = None
) -> dict[str, Any]:
    """A `config.json` for fields of our config, all of them given.

    Raises:
        ConfigError: no class of the type has such a head.
    """
    _, dialect = transformers_dialect(model_type)
    if fields.get("head") == "sentence":
        # what makes one vector of a text stands in files of its own, beside a base model
        fields = {**fields, "head": "base"}
    name = dialect.class_of(fields, model_type)
    one = dialect.classes[name]
    head: dict[str, Any] = {"architectures": [name], "model_type": model_type}
    config = dialect.write(fields)
    if one.whole is not None:
        problem = {key: config.pop(key) for key in ("problem_type",) if key in config}
        config = {"vision_config": {"model_type": model_type, **config}, **problem}
        head["model_type"] = one.whole
    if isinstance(one.classes, str):
        config[one.classes] = fields["num_classes"]
    elif fields["num_classes"]:
        labels = labels or [f"LABEL_{k}" for k in range(fields["num_classes"])]
        config["id2label"] = {str(k): label for k, label in enumerate(labels)}
        config["label2id"] = {label: k for k, label in enumerate(labels)}
    return head | config


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


def _classes(one: ModelClass, keys: Mapping[str, Any], labels: tuple[str, ...] | None) -> int:
    if isinstance(one.classes, int):
        return one.classes
    if one.classes is not None:
        return keys[one.classes]
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
