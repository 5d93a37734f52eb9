"""Where dialects are found: by family, and by the model types of transformers."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator

from zoo.errors import ConfigError, UnknownNameError, did_you_mean
from zoo.registry import registry
from zoo.registry.dialect import Dialect, Formats


def formats_of(family: str) -> Formats:
    """How others write a family.

    Raises:
        UnknownNameError: no such family.
        ConfigError: the module has no `FORMATS`.
    """
    module = importlib.import_module(registry.formats_module(family))
    if not hasattr(module, "FORMATS"):
        raise ConfigError(f"{module.__name__!r}, the formats of {family!r}, has no `FORMATS`.")
    return module.FORMATS


def dialect_of(family: str, layout: str) -> Dialect:
    """The dialect of a layout."""
    return formats_of(family).of_layout(layout)


def transformers_dialect(model_type: str) -> tuple[str, Dialect]:
    """The dialect of a model type of transformers, and its own name: another one where the type's
    config has that of the dialect as a part.

    Raises:
        ConfigError: a type that zoo does not have.
    """
    with contextlib.suppress(UnknownNameError):
        family = registry.architecture_card(model_type).family
        dialect = formats_of(family).dialects.get(model_type)
        if dialect is not None and dialect.config_form == "transformers":
            return model_type, dialect
    for name, dialect in transformers_dialects():
        if model_type == name or model_type in dialect.wholes:
            return name, dialect
    known = [known for name, one in transformers_dialects() for known in (name, *one.wholes)]
    raise ConfigError(
        f"model_type is {model_type!r}, which zoo does not have; it has {', '.join(known)}."
        f"{did_you_mean(model_type, known)}"
    )


def transformers_dialects() -> Iterator[tuple[str, Dialect]]:
    """Those of all families, by name."""
    for family in registry.families():
        for name, dialect in formats_of(family).dialects.items():
            if dialect.config_form == "transformers":
                yield name, dialect
