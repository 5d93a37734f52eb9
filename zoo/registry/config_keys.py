"""The keys of others' configs: which field of ours each tells, read and written by one row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from zoo.errors import ConfigError, did_you_mean
from zoo.registry.heads import PROBLEMS

Fields = dict[str, Any]
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Codec:
    """How the value of a key is that of a field, and back.

    Attributes:
        read: the key's value, and all keys with their defaults -> the field's value.
        write: the field's value, and all fields -> the key's value.
    """

    read: Callable[[Any, Values], Any] = lambda value, keys: value
    write: Callable[[Any, Values], Any] = lambda value, fields: value


SAME = Codec()


@dataclass(frozen=True)
class Key:
    """A key of a config and the field that it tells.

    Attributes:
        name: the key.
        field: the field; several have the value of the first; None: the key is read alone.
        default: what a config without the key means, or makes it of the keys before.
        codec: how the values differ.
        sparse: whether it is written only where it says something else than its default, and tells
            nothing where it is null.
    """

    name: str
    field: str | tuple[str, ...] | None
    default: Any = None
    codec: Codec = SAME
    sparse: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.field,) if isinstance(self.field, str) else self.field or ()

    def default_in(self, keys: Values) -> Any:
        return self.default(keys) if callable(self.default) else self.default

    def read(self, keys: Values) -> Fields:
        if self.sparse and keys[self.name] is None:
            return {}
        return dict.fromkeys(self.fields, self.codec.read(keys[self.name], keys))

    def write(self, fields: Values, keys: Values) -> dict[str, Any]:
        if not self.fields:
            return {}
        value = self.codec.write(fields[self.fields[0]], fields)
        if self.sparse and value == self.default_in(keys):
            return {}
        return {self.name: value}


@dataclass(frozen=True)
class Choice:
    """A key with a few values, each of which stands for several fields.

    Attributes:
        name: the key.
        fields_of: value of the key -> fields.
        default: as of `Key`.
        beside: value of the key -> other keys that are written with it, where those are not read.
    """

    name: str
    fields_of: Mapping[Any, Values]
    default: Any = None
    beside: Mapping[Any, Values] = field(default_factory=dict)

    def default_in(self, keys: Values) -> Any:
        return self.default

    def read(self, keys: Values) -> Fields:
        value = keys[self.name]
        if value not in list(self.fields_of):  # which need not be hashable
            raise ConfigError(
                f"{self.name} is {value!r:.100}; one of "
                f"{', '.join(map(repr, self.fields_of))} was expected."
            )
        return dict(self.fields_of[value])

    def write(self, fields: Values, keys: Values) -> dict[str, Any]:
        for value, own in sorted(self.fields_of.items(), key=lambda item: -len(item[1])):
            if all(fields[name] == wanted for name, wanted in own.items()):
                return {self.name: value, **self.beside.get(value, {})}
        raise ConfigError(f"no value of {self.name} says what this network is.")


def same_as(name: str) -> Callable[[Values], Any]:
    """The default of a key that has another one's value."""
    return lambda keys: keys[name]


def one_value(value: Any, why: str) -> Codec:
    """A key that has one value in all networks that zoo has."""

    def read(stated: Any, keys: Values) -> Any:
        if stated != value:
            raise ConfigError(f"{stated!r} where {value!r} was expected: {why}.")
        return value

    return Codec(read, lambda _, fields: value)


_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "quick_gelu": "quick_gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_10": "clipped_gelu",
    "relu": "relu",
    "relu2": "squared_relu",
    "relu6": "relu6",
    "leaky_relu": "leaky_relu",
    "silu": "silu",
    "swish": "silu",
    "hardswish": "hard_swish",
    "mish": "mish",
    "laplace": "laplace",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "linear": "linear",
}


def activation(name: Any, keys: Values | None = None) -> str:
    """Our name of an activation of transformers.

    Raises:
        ConfigError: there is none of that name, or one with weights.
    """
    if name not in _ACTIVATIONS:
        raise ConfigError(
            f"the activation {name!r} is unknown; known are {', '.join(_ACTIVATIONS)}."
            f"{did_you_mean(str(name), _ACTIVATIONS)}"
        )
    return _ACTIVATIONS[name]


def activation_key(name: str, field: str | tuple[str, ...], default: str) -> Key:
    """A key that names an activation; of several names for one, the default is written, which also
    stands where there is none."""

    def write(ours: str | None, fields: Values) -> str:
        names = [theirs for theirs, name in _ACTIVATIONS.items() if name == ours]
        if ours is None or default in names:
            return default
        if not names:
            raise ConfigError(f"transformers has no activation {ours!r}.")
        return names[0]

    return Key(name, field, default, Codec(activation, write))


def _problem(stated: Any, keys: Values) -> Any:
    if stated is not None and stated not in PROBLEMS:
        raise ConfigError(f"problem_type is {stated!r}; one of {', '.join(PROBLEMS)} is known.")
    return stated


PROBLEM = Key("problem_type", "problem_type", None, Codec(_problem), sparse=True)
