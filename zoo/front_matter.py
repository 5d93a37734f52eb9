"""The front matter of a README.md: YAML between two lines `---`, read in bounded time.

Whoever may write a repo writes it, so nothing is given to the YAML library that could take long:
not much text, no deep nesting, no aliases that stand for thousands of values, no endless numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

import yaml

from zoo.errors import ConfigError

_IN_C = hasattr(yaml, "CBaseLoader")  # libyaml; without it YAML is read fifty times slower
MAX_SIZE = 500_000 if _IN_C else 20_000  # characters
MAX_VALUES = 40_000  # with every alias written out
MAX_DEPTH = 50
_MAX_NUMBER = 1000  # characters: Python reads numbers in quadratic time

_LOADERS: dict[str, Any] = {
    "texts": getattr(yaml, "CBaseLoader", yaml.BaseLoader),
    "values": getattr(yaml, "CSafeLoader", yaml.SafeLoader),
}
_FIRST = re.compile(r"---[ \t]*(?:\r\n|\r|\n)")
_LAST = re.compile(r"(?:\r\n|\r|\n)---[ \t]*(?:\r\n|\r|\n|\Z)")


def split_front_matter(readme: str) -> tuple[str, str]:
    """The front matter, empty where there is none, and what follows."""
    first = _FIRST.match(readme)
    # The line break before the last line may be that of the first.
    last = _LAST.search(readme, first.end() - 1) if first else None
    if not first or not last:
        return "", readme
    return readme[first.end() : last.start()], readme[last.end() :]


def load_front_matter(block: str, scalars: Literal["texts", "values"]) -> dict[str, Any]:
    """What the front matter says.

    Args:
        block: the YAML alone.
        scalars: every scalar as a text, or as the value that YAML has for it.

    Raises:
        ConfigError: no YAML, no mapping, or more than zoo reads of it.
    """
    if len(block) > MAX_SIZE:
        raise ConfigError(
            f"The front matter has {len(block)} characters; at most {MAX_SIZE} are read."
        )
    try:
        _check(yaml.parse(block, _LOADERS[scalars]))
        content = yaml.load(block, _LOADERS[scalars])
    except ConfigError:
        raise
    # Besides its own errors the library lets through those of numbers, dates and lone surrogates.
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"The front matter is no YAML: {error}") from error
    if content is None or content == "":
        return {}
    if not isinstance(content, dict):
        raise ConfigError("The front matter is no mapping of names to values.")
    return content


def _check(events: Iterator[yaml.Event]) -> None:
    """Count what is there before anything is built of it. Raises `ConfigError`."""
    sizes = [0]  # of every collection that is open, in values
    anchors: list[str | None] = []
    known: dict[str, int] = {}
    for event in events:
        match event:
            case yaml.CollectionStartEvent():
                sizes.append(1)
                anchors.append(event.anchor)
                if len(sizes) > MAX_DEPTH:
                    raise ConfigError(f"The front matter is nested deeper than {MAX_DEPTH} levels.")
                continue
            case yaml.CollectionEndEvent():
                size, anchor = sizes.pop(), anchors.pop()
            case yaml.ScalarEvent():
                size, anchor = 1, event.anchor
                if len(event.value) > _MAX_NUMBER and event.implicit[0] and " " not in event.value:
                    raise ConfigError(
                        f"The front matter has {event.value[:20]!r}..., of {len(event.value)} "
                        "characters, outside of quotes."
                    )
            case yaml.AliasEvent():
                if event.anchor not in known:
                    raise ConfigError(f"The alias {event.anchor!r} stands for nothing before it.")
                size, anchor = known[event.anchor], None
            case _:
                continue
        sizes[-1] += size
        if anchor:
            known[anchor] = size
        if sizes[-1] > MAX_VALUES:
            raise ConfigError(f"The front matter has more than {MAX_VALUES} values.")
