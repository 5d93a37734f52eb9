"""Files of pictures, drawn with matplotlib (the extra `plots`) and no display."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import InputError
from zoo.extras import require
from zoo.weights.disk import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def require_matplotlib() -> None:
    """Raise `MissingExtraError` where matplotlib is not installed, before any work is done."""
    require("plots", "A picture")


def check_format(path: Path) -> None:
    """Raise `InputError` where matplotlib knows no format of the file's suffix."""
    from matplotlib.figure import Figure

    _format(Figure(), path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the file's suffix names.

    Raises:
        InputError: matplotlib knows no such format.
        DiskError: the file cannot be written.
    """
    kind = _format(figure, path)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=120)


def _format(figure: Figure, path: Path) -> str:
    kinds = figure.canvas.get_supported_filetypes()
    kind = path.suffix.removeprefix(".").lower()
    if kind not in kinds:
        raise InputError(
            f"{path} names no format of a picture; its suffix should be one of "
            f"{', '.join(sorted(kinds))}."
        )
    return kind
