"""JSON texts of files that nobody vouches for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from zoo.errors import AccessError, ConfigError, ZooError

LARGEST_TEXT = 64 << 20  # bytes: tokenizers of 250,000 tokens have a quarter of it
_DEEPEST = 64  # levels of lists and objects
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # half of a pair that spells one character


def parse_json(text: str | bytes, *, where: str, error: type[ZooError] = ConfigError) -> Any:
    """The value of a JSON text.

    Args:
        where: the file, for errors.
        error: what is raised.

    Raises:
        ZooError: no JSON, or more of it than any model has: in bytes, in levels, in digits.
    """
    if len(text) > LARGEST_TEXT:
        raise error(f"{where} has {len(text)} bytes; at most {LARGEST_TEXT} are read.")
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        value = json.loads(text)
        if _HALF.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeError as fault:
        raise error(f"{where} is not text in UTF-8: {fault}.") from fault
    except ValueError as fault:
        raise error(f"{where} is not valid JSON: {fault}.") from fault
    except RecursionError:
        raise error(f"{where} is nested too deeply to be read.") from None
    if _is_deeper(value, _DEEPEST):
        raise error(f"{where} is nested in more than {_DEEPEST} levels.")
    return value


def read_bounded(path: Path, *, where: str, error: type[ZooError] = ConfigError) -> bytes:
    """The content of a text file that nobody vouches for.

    Raises:
        ZooError: it is larger than `LARGEST_TEXT`.
        AccessError: it may not be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_TEXT + 1)
    except PermissionError as fault:
        raise AccessError(f"{where} may not be read by this user.") from fault
    if len(content) > LARGEST_TEXT:
        raise error(f"{where} has more than {LARGEST_TEXT} bytes, the most that are read.")
    return content


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested in more levels than that."""
    level = [value]
    for _ in range(levels + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict | list):
                items = item.values() if isinstance(item, dict) else item
                below.extend(v for v in items if isinstance(v, dict | list))
        if not below:
            return False
        level = below
    return True
