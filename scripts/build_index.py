"""Write `zoo/registry/index/`: which file has a name, and which module registers a class.

    python scripts/build_index.py

`names.json`: architecture, card or deprecated name -> data file in `zoo/registry/cards/`.
`families.json`: family -> the module that builds it; `formats.json`: family -> the one that says
how others write it. `classes.json`: class that zoo registers with Keras -> its module, as the
sources have them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from zoo.errors import ConfigError
from zoo.registry.card_file import CardFile
from zoo.registry.registry import CARDS, INDEX

ZOO = Path(__file__).resolve().parents[1] / "zoo"
REGISTERED = re.compile(r"^@register\n(?:@.*\n)*class (\w+)", re.M)


def tables(cards: Path = CARDS, sources: Path = ZOO) -> dict[str, str]:
    """The files of `index/`, by name.

    Raises:
        ConfigError: two files have a name, or two modules a family or a class, or a card is none.
    """
    files = {path.stem: CardFile(path) for path in sorted(cards.glob("*.json"))}
    for file in files.values():
        file.every()
    facts = {
        "names": ((name, stem) for stem, file in files.items() for name in file.names()),
        "families": sorted({(file.family, file.module) for file in files.values()}),
        "formats": sorted({(file.family, file.formats) for file in files.values()}),
        "classes": (
            (name, ".".join((sources.name, *path.relative_to(sources).with_suffix("").parts)))
            for path in sorted(sources.rglob("*.py"))
            for name in REGISTERED.findall(path.read_text("utf-8"))
        ),
    }
    return {f"{fact}.json": render(unique(pairs)) for fact, pairs in facts.items()}


def unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    table: dict[str, str] = {}
    for name, home in pairs:
        if name in table:
            raise ConfigError(f"{name!r} is in {table[name]!r} and in {home!r}.")
        table[name] = home
    return table


def render(table: dict[str, str]) -> str:
    """One entry a line, so that branches that add some can be merged."""
    return json.dumps(table, indent=0, sort_keys=True) + "\n"


def main() -> None:
    for name, text in tables().items():
        path = INDEX / name
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
