"""What the gate found, as data, as a text and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["added", "changed", "same", "removed", "stays"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question of the gate: whether it was passed, and a sentence on what was found."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """One file, published or at the target.

    Attributes:
        name: path in the repo or folder.
        size: in bytes, after the publication; None where the target does not say.
        sha256: of a file that is published.
        state: what happens to it at the target. A file there that is not published `stays`,
            unless pruning was asked for: then it is `removed`.
    """

    name: str
    size: int | None
    state: State
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """What the gate found before anything was sent.

    Attributes:
        target: the repo and its hub, or the folder.
        checks: in the order in which they were made.
        files: the published ones and those of the target, by name.
        left_out: files of the source folder that are not published.
        bytes: size of all published files.
        parameters: number of the model's parameters.
    """

    target: str
    checks: tuple[Check, ...]
    files: tuple[Change, ...]
    left_out: tuple[str, ...]
    bytes: int
    parameters: int

    @property
    def passed(self) -> bool:
        """Whether every check was passed."""
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that were not passed."""
        return tuple(check for check in self.checks if not check.passed)

    @property
    def has_changes(self) -> bool:
        """Whether the target would become another."""
        return any(file.state in ("added", "changed", "removed") for file in self.files)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {**asdict(self), "passed": self.passed}

    def __str__(self) -> str:
        size = f"{self.bytes / 1e6:,.1f} MB"
        files = [f"  {file.state:8} {file.name}" for file in self.files]
        checks = [f"  {'ok' if c.passed else 'FAILED':8} {c.name}: {c.found}" for c in self.checks]
        count = f"{size}, {self.parameters:,} parameters"
        return "\n".join([f"{self.target} ({count})", *files, *checks])
