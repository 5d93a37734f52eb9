"""Values from files, checked against the annotations of the dataclasses that they are for.

JSON has no types of its own: what a file says may be a list where a number belongs, or a number
that no network can have. One reader checks them all, by what the field is annotated with.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from zoo.errors import ConfigError, ZooError, did_you_mean

LARGEST = 2**31 - 1  # of whole numbers: sizes, counts and indices are int32 in many places
_FINITE = 1.7976931348623157e308


@dataclass(frozen=True)
class Bounds:
    """The smallest and the largest value of an annotated number."""

    least: float
    most: float = LARGEST

    def __str__(self) -> str:
        return f"{self.least} or more" if self.most == LARGEST else f"{self.least} to {self.most}"


Count = Annotated[int, Bounds(0)]
Size = Annotated[int, Bounds(1)]
Channels = Annotated[int, Bounds(1, 4096)]  # of an input
Token = Annotated[int, Bounds(-1)]  # an id; -1 is none of them
Depth = Annotated[int, Bounds(1, 4096)]  # of layers, each of which takes time to build
Rate = Annotated[float, Bounds(0, 1)]  # of dropout

_JSON: dict[str, Any] = {
    "bool": bool,
    "int": Count,
    "float": float,
    "str": str,
    "list": tuple[Any, ...],
    "dict": Mapping[Any, Any],
    "null": None,
}


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type. A list fits a tuple, a whole number a float; a bool
    is no number, and NaN and infinite numbers fit nothing."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = [b for b in args[1:] if isinstance(b, Bounds)]
        return fits(value, args[0]) and all(b.least <= value <= b.most for b in bounds)
    if origin in (Union, UnionType):
        return any(fits(value, arg) for arg in args)
    if origin is Literal:
        return isinstance(value, str) and value in args
    if origin is tuple:
        if len(args) == 2 and args[0] == args[1] and fits(value, args[0]):
            return True  # one edge stands for a square
        return isinstance(value, list | tuple) and _fit_all(value, args)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            fits(k, args[0]) and fits(v, args[1]) for k, v in value.items()
        )
    if hint in (int, float):
        kinds = int if hint is int else int | float
        number = isinstance(value, kinds) and not isinstance(value, bool)
        return number and -_FINITE <= value <= _FINITE
    if hint in (None, NoneType):
        return value is None
    return hint in (Any, object) or isinstance(value, hint)


def _fit_all(values: list | tuple, hints: tuple[Any, ...]) -> bool:
    if len(hints) == 2 and hints[1] is Ellipsis:
        hints = hints[:1] * len(values)
    return len(values) == len(hints) and all(map(fits, values, hints))


def fits_json(value: Any, types: str) -> bool:
    """Whether a value has one of JSON's types, such as `int|list|null`; numbers that say how many
    are counts."""
    return any(fits(value, _JSON[name]) for name in types.split("|"))


def check(
    kind: type, values: Mapping[str, Any], *, where: str, error: type[ZooError] = ConfigError
) -> None:
    """Check values for the fields of a dataclass; names that it does not have are left alone.

    Args:
        where: what they stand in, for the error.
        error: what is raised.

    Raises:
        ZooError: a value that its field cannot have.
    """
    hints = _hints(kind)
    for name, value in values.items():
        if name in hints and not fits(value, hints[name]):
            raise error(
                f"{where}: {name} is {value!r:.200}; expected {_described(hints[name])}."
                f"{did_you_mean(str(value)[:99], _choices(hints[name]))}"
            )


def depth(config: Any) -> int:
    """How many layers a config asks for: all that its fields of the type `Depth` say."""
    kind: Any = type(config)
    hints = _hints(kind)
    counts = (getattr(config, k) for k in hints if hints[k] in (Depth, tuple[Depth, ...]))
    return sum(sum(n) if isinstance(n, tuple) else n for n in counts)


@functools.cache
def _hints(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _choices(hint: Any) -> tuple[str, ...]:
    """The names that an annotation lists."""
    args = get_args(hint)
    return args if get_origin(hint) is Literal else sum(map(_choices, args), ())


def _described(hint: Any) -> str:
    """An annotation in words."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return f"{_described(args[0])}, {', '.join(map(str, args[1:]))}"
    if origin in (Union, UnionType):
        return " or ".join(_described(arg) for arg in args if arg is not NoneType)
    if origin is Literal:
        return f"one of {', '.join(map(str, args))}"
    if origin is tuple:
        several = len(args) == 2 and args[1] is Ellipsis
        each = _described(args[0]) if several else ", ".join(map(_described, args))
        return f"a list of {each}" if several else f"[{each}]"
    if origin is not None:
        return f"an object of {_described(args[1])}"
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}.get(
        hint, "null" if hint in (None, NoneType) else getattr(hint, "__name__", str(hint))
    )
