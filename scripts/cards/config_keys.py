"""`zoo/registry/transformers_keys.json`: which keys of a `config.json` transformers reads.

It has each of the model types that zoo has. A key is read if the type's config class has a field of
that name, or if the modelling code, the type's own or that of all types, reads it of a config: told
from its syntax tree, so that `getattr(config, "head_dim", None)` counts as well. What a config
class takes under another name is an alias. All other keys change nothing.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import types
import typing
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import transformers
from reference import torch
from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from zoo.registry.dialect import TRANSFORMERS
from zoo.registry.dialects import transformers_dialects
from zoo.registry.transformers_keys import DATA

# What every model goes through, beside the file of its type.
_SHARED: tuple[str, ...] = (
    "configuration_utils",
    "modeling_utils",
    "masking_utils",
    "loss.loss_utils",
)
_SHARED += ("quantizers.auto",)

_ROOT = Path(transformers.__file__).parent
_CONFIGS = {"config", "text_config", "vision_config"}  # what code calls a config
_JSON = {int: "int", float: "float", bool: "bool", str: "str", types.NoneType: "null"}
_JSON |= {list: "list", tuple: "list", dict: "dict"}


def files() -> dict[Path, Any]:
    """The text of the file, by a function."""
    return {DATA: lambda: _render(_keys())}


def _keys() -> dict[str, Any]:
    """The content of the file."""
    if f"transformers {transformers.__version__}" != TRANSFORMERS:
        raise SystemExit(f"transformers {transformers.__version__} is not {TRANSFORMERS}")
    every = _fields(PreTrainedConfig)
    shared = _reads(*_SHARED) | _taken(PreTrainedConfig)
    content: dict[str, Any] = {"*": {"fields": every, "reads": _without(shared, every)}}
    dialects = dict(transformers_dialects())
    wholes = [whole for dialect in dialects.values() for whole in dialect.wholes]
    for model_type in (*dialects, *wholes):
        config = CONFIG_MAPPING[model_type]
        fields = {k: v for k, v in _fields(config).items() if every.get(k) != v}
        reads = _reads(_module(config).replace(".configuration_", ".modeling_")) | _taken(config)
        halves = {name for half in _halves(config) for name in _fields(half)}
        content[model_type] = {
            "fields": fields,
            "aliases": dict(config.attribute_map),
            "reads": _without(reads, {*fields, *config.attribute_map, *every, *halves}),
        }
    return content


def _halves(config: type[PreTrainedConfig]) -> Iterable[type]:
    """The config classes of the parts of a model; what is read of them stands in their own."""
    return (spec.config_class for spec in config.sub_configs_defaults.values())


def _fields(config: type) -> dict[str, list[Any]]:
    """Key -> its default and the JSON types that it may have, of a config class."""
    hints = typing.get_type_hints(config, localns={"torch": torch})  # named for type checkers alone
    fields = [f for f in dataclasses.fields(config) if not f.name.startswith("_")]
    return {f.name: [_default(f), _types(hints[f.name])] for f in sorted(fields, key=_name)}


def _name(field: dataclasses.Field) -> str:
    return field.name


def _default(field: dataclasses.Field) -> Any:
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        value = None
    return list(value) if isinstance(value, tuple) else value


def _types(hint: Any) -> str:
    """The JSON types of a hint, such as `int|list|null`; a sub-config is an object."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        found = {name for arg in args for name in _types(arg).split("|")}
        return "|".join(sorted(found, key=lambda name: (name == "null", name)))
    if origin is typing.Literal:
        return _types(typing.Union[tuple({type(arg) for arg in args})])  # noqa: UP007
    return _JSON.get(origin or hint, "dict")


def _reads(*modules: str) -> dict[str, list[Any]]:
    """The attributes of configs that the modules' code reads.

    Each has the value that stands for a missing one, where all places agree on it: `[None]`; `[]`
    where none is stated.
    """
    found: dict[str, list[Any]] = {}
    for node in (node for module in modules for node in _nodes(module)):
        match node:
            case ast.Attribute(value=owner, attr=name) if _is_config(owner):
                found.setdefault(name, [])
            case ast.Call(func=ast.Name("hasattr"), args=[owner, ast.Constant(str(name))]):
                if _is_config(owner):
                    found.setdefault(name, [])
            case ast.Call(func=ast.Name("getattr"), args=[owner, ast.Constant(str(name)), default]):
                if _is_config(owner):
                    value = [default.value] if isinstance(default, ast.Constant) else []
                    found[name] = value if found.get(name, value) == value else []
    return {k: v for k, v in found.items() if not callable(getattr(PreTrainedConfig, k, None))}


def _is_config(node: ast.AST) -> bool:
    name = getattr(node, "id", getattr(node, "attr", None))
    return name in _CONFIGS


def _taken(config: type) -> dict[str, list[Any]]:
    """What a config class takes by name beside its fields."""
    (own,) = (n for n in _nodes(_module(config)) if getattr(n, "name", None) == config.__name__)
    starts = (n for n in ast.walk(own) if getattr(n, "name", None) == "__post_init__")
    found: dict[str, list[Any]] = {}
    for node in (node for start in starts for node in ast.walk(start)):
        match node:
            case ast.Call(
                func=ast.Attribute(ast.Name("kwargs"), "pop" | "get"),
                args=[ast.Constant(str(name)), *_],
            ):
                found[name] = []
    return found


def _module(config: type) -> str:
    return config.__module__.partition(".")[2]


def _nodes(module: str) -> Iterable[ast.AST]:
    """The syntax tree of a module of transformers, which is not imported: some need torchvision."""
    path = _ROOT.joinpath(*module.split(".")).with_suffix(".py")
    return ast.walk(ast.parse(path.read_text("utf-8")))


def _without(reads: dict[str, list[Any]], known: Collection[str]) -> dict[str, list[Any]]:
    return {k: v for k, v in reads.items() if k not in known and not k.startswith("__")}


def _render(content: dict[str, Any]) -> str:
    """The text of the file: a line for each key."""
    lines = []
    for model_type, parts in content.items():
        inner = [
            f'  "{part}": {{'
            + ",".join(f"\n   {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(keys.items()))
            + "}"
            for part, keys in parts.items()
        ]
        lines.append(f" {json.dumps(model_type)}: {{\n" + ",\n".join(inner) + "}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
