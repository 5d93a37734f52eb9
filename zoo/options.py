"""What callers give for options, as Python's own values.

numpy's numbers stand for Python's. A bool is no number, and a float is no whole number: whoever
gives one meant something else.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from zoo.errors import OptionError, ZooError, did_you_mean

_Options = TypeVar("_Options")


def plain(value: Any) -> Any:
    """A value in Python's own types: scalars of numpy, arrays as tuples, also inside of others."""
    if type(value).__module__ != "builtins" and hasattr(value, "tolist"):
        value = value.tolist()  # of arrays and of their scalars
    if isinstance(value, str):
        return str(value)
    if isinstance(value, list | tuple | range):
        return tuple(plain(v) for v in value)
    return {k: plain(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def count(
    name: str, value: Any, least: int = 1, *, error: type[ZooError] = OptionError, hint: str = ""
) -> int:
    """An option that is a whole number.

    Args:
        name: of the option, for the error.
        least: the smallest number that makes sense.
        error: what is raised.
        hint: a further sentence for the error.

    Raises:
        ZooError: anything else.
    """
    number = plain(value)
    try:
        found = operator.index(number)
    except TypeError:
        found = None
    if found is None or isinstance(number, bool):
        raise error(f"{name} must be a whole number; got {value!r}.{hint}")
    if found < least:
        bound = f"{least} or more" if least == 0 else f"at least {least}"
        raise error(f"{name} must be {bound}; got {found}.{hint}")
    return found


def number(
    name: str, value: Any, low: float = -math.inf, high: float = math.inf, *, unit: str = "a number"
) -> float:
    """An option that is a number, whole or not, as it is.

    Args:
        name: of the option, for the error.
        low, high: bounds, which it may reach.
        unit: what the number is, for the error.

    Raises:
        OptionError: anything else, NaN, or one that is out of bounds.
    """
    found = plain(value)
    if isinstance(found, bool) or not isinstance(found, int | float) or not low <= found <= high:
        bounds = f", {low:g} to {high:g}," if high < math.inf else f", {low:g} or more,"
        expected = unit + bounds * (low > -math.inf)
        raise OptionError(f"{name} is {found!r}; {expected} expected.")
    return found


def flag(name: str, value: Any) -> bool:
    """An option that is True or False.

    Raises:
        OptionError: anything else.
    """
    found = plain(value)
    if not isinstance(found, bool):
        raise OptionError(f"{name} must be True or False; got {value!r}.")
    return found


def options_of(kind: type[_Options], given: Mapping[str, Any], what: str) -> _Options:
    """The options of a call as one value, of a dataclass.

    Args:
        what: they are options of, for the error.

    Raises:
        OptionError: one that is not there, named with the nearest, or out of range.
    """
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name in given:
        if name not in names:
            raise OptionError(
                f"{name!r} is no option of {what}.{did_you_mean(name, names)} "
                f"Options: {', '.join(names)}."
            )
    return kind(**given)
