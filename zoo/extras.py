"""What only some users need, and is installed with an extra: `pip install ".[plots]"`."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from zoo.errors import MissingExtraError

# By extra: the distributions of `pyproject.toml`, and a module of each.
EXTRAS: Mapping[str, Mapping[str, str]] = {
    "plots": {"matplotlib": "matplotlib"},
    "server": {
        "lz4": "lz4",
        "pyyaml": "yaml",
        "sqlalchemy": "sqlalchemy",
        "starlette": "starlette",
        "uvicorn": "uvicorn",
    },
    "tensorboard": {"tensorboard": "tensorboard"},
}


def missing(extra: str) -> list[str]:
    """The distributions of an extra that are not installed."""
    needed = EXTRAS[extra].items()
    return [name for name, module in needed if importlib.util.find_spec(module) is None]


def require(extra: str, what: str) -> None:
    """Refuse, before any work, what needs an extra that is not installed.

    Args:
        what: needs it, as the beginning of a sentence.

    Raises:
        MissingExtraError: with what to install.
    """
    if names := missing(extra):
        raise MissingExtraError(
            f"{what} needs {', '.join(names)}, which is not installed: "
            f'`pip install {" ".join(names)}`, or `pip install ".[{extra}]"` in a checkout of zoo.'
        )
