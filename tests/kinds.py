"""The families of networks and their kinds, as `kinds.toml` lists them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Options = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Family:
    """What is built and compared of one family; `kinds.toml` says what the fields are."""

    name: str
    timm: Sequence[str] = ()
    transformers: Mapping[str, Options] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    parity: Options = field(default_factory=dict)
    golden: Options = field(default_factory=dict)
    sweep: Options = field(default_factory=dict)
    own: Mapping[str, Mapping[str, Options]] = field(default_factory=dict)

    def options(self, use: str, name: str) -> dict[str, Any]:
        """The options of the network `name` where it serves as `parity`, `golden` or `sweep`."""
        options = self.own.get(use, {}).get(name, getattr(self, use))
        return {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}


_FILE = Path(__file__).with_suffix(".toml")
FAMILIES = {
    name: Family(name=name, **row)
    for name, row in tomllib.loads(_FILE.read_text(encoding="utf-8")).items()
}
