"""Data files as text: how JSON is laid out, and what is written of them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

WIDTH = 100


def render(value: Any) -> str:
    """JSON with as many items of an object on a line as 100 columns take, and a last newline."""
    return _render(value) + "\n"


def _render(value: Any, indent: str = "", head: str = "") -> str:
    """A value, on whose first line `indent` and then `head` stand before it."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict) or len(indent + head + line) < WIDTH:
        return line
    inner, open_row = indent + " ", False
    rows: list[str] = []
    for key, item in value.items():
        name = json.dumps(key) + ": "
        text = name + _render(item, inner, name)
        joins = open_row and len(inner + rows[-1] + text) <= WIDTH - 3
        if joins and not isinstance(item, dict):
            rows[-1] += f", {text}"
        else:
            rows.append(text)
        open_row = not isinstance(item, dict)
    return "{\n" + ",\n".join(inner + row for row in rows) + f"\n{indent}}}"


def lines(items: Iterable[str]) -> str:
    return "".join(f"{item}\n" for item in items)


def read(path: Path) -> str:
    """The text of a file, compressed or not; empty where there is none."""
    data = path.read_bytes() if path.exists() else b""
    return (gzip.decompress(data) if path.suffix == ".gz" and data else data).decode("utf-8")


def write(path: Path, text: str) -> None:
    """Write a file whose text changes, compressed by its suffix (the date left out)."""
    if read(path) == text:
        return
    data = text.encode("utf-8")
    path.write_bytes(gzip.compress(data, 9, mtime=0) if path.suffix == ".gz" else data)
    print(f"wrote {path.name}: {path.stat().st_size / 1000:.0f} kB")
