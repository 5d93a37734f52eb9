"""What goes to standard output (tables, JSON) and to standard error (notes).

rich is imported where it is used: JSON and messages do not need it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

_UNBOUNDED = 100_000  # columns, where nobody looks: each row is one line for the next program


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[str] = ()
) -> None:
    """Print rows under the titles `columns`; those in `right` hold numbers.

    On a narrow terminal the first and the last column break their lines, the others do not.
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in columns:
        table.add_column(
            title,
            justify="right" if title in right else "left",
            no_wrap=title not in (columns[0], columns[-1]),
            overflow="fold",
        )
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    _print(table)


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print names beside values; a value that is None is left out."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        if value is not None:
            table.add_row(name, str(value))
    _print(table)


def print_json(data: Any) -> None:
    """Print a value as JSON; a list with one item on each line."""
    if not isinstance(data, list):
        click.echo(json.dumps(data, indent=2))
        return
    items = ",\n".join(f"  {json.dumps(item)}" for item in data)
    click.echo(f"[\n{items}\n]" if data else "[]")


def note(message: str) -> None:
    """Say something to the person who looks on, apart from the data."""
    click.echo(message, err=True)


def number(count: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def size(count: int) -> str:
    """A number of bytes for people: `97.8 MB`."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def _print(renderable: Any) -> None:
    from rich.console import Console

    width = None if sys.stdout.isatty() else _UNBOUNDED
    console = Console(width=width, markup=False, highlight=False, emoji=False)
    with console.capture() as capture:
        console.print(renderable)
    text = "\n".join(line.rstrip() for line in capture.get().splitlines())
    encoding = sys.stdout.encoding or "utf-8"
    # A file name may have bytes that are no text, and a terminal may not know every character.
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding))
