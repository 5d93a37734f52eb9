"""How near vectors are to each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo.errors import InputError, OptionError


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors `[..., dim]` divided by their length; those of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, 1e-12)


def similarity(a: Any, b: Any = None, *, kind: str = "cosine") -> np.ndarray:
    """How near each vector of one set is to each of another.

    Args:
        a, b: `[n, dim]` and `[m, dim]`, or one vector `[dim]`; no `b`: `a` with itself.
        kind: `cosine` (-1..1), or `dot` (the product as it is).

    Returns:
        float32 `[n, m]`.

    Raises:
        InputError: vectors of different lengths, or something else than vectors.
        OptionError: no such kind.
    """
    if kind not in ("cosine", "dot"):
        raise OptionError(f"kind={kind!r}; 'cosine' or 'dot' was expected.")
    left, right = (np.atleast_2d(np.asarray(x, np.float32)) for x in (a, a if b is None else b))
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
        raise InputError(
            f"Vectors [n, dim] and [m, dim] were expected; got {list(left.shape)} and "
            f"{list(right.shape)}."
        )
    if kind == "cosine":
        left, right = unit(left), unit(right)
    return left @ right.T
