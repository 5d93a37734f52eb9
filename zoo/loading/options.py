"""What a caller of `zoo.load` asks for, as one value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """What a caller wants other than the card says; None is as the card says.

    Attributes:
        config: fields of the family's config.
        names: of all options that the call takes, for errors.
    """

    task: str | None = None
    num_classes: int | None = None
    labels: tuple[str, ...] | None = None
    in_channels: int | None = None
    input_size: tuple[int, int] | None = None
    features_only: bool = False
    out_indices: tuple[int, ...] | None = None
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    names: tuple[str, ...] = ()


def given(**options: Any) -> dict[str, Any]:
    """The options that were given: those that are not None."""
    return {k: v for k, v in options.items() if v is not None}
