"""Learned position embeddings of a grid, and how they are resampled to another one."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from zoo.layers.base import choose

Grid = tuple[int, int]  # rows and columns

# name -> kernel, whether it is widened when it makes a grid smaller, whether corners stay corners
_METHODS = {
    "bicubic_antialias": ("bicubic", True, False),
    "bicubic": ("bicubic", False, False),
    "bilinear": ("bilinear", False, False),
    "bilinear_corners": ("bilinear", False, True),
}


def check_method(name: str) -> str:
    """The name of a way to resample.

    Raises:
        ConfigError: it is none.
    """
    choose("pos_resample", name, _METHODS)
    return name


def resample(table: Any, old: Grid, new: Any, method: str, xp: Any = ops) -> Any:
    """Positions `[1, old rows * columns, d]` of one grid, for another: `[1, rows * columns, d]`.

    The result is that of `torch.nn.functional.interpolate`, of which the product with one matrix
    per axis is another form.

    Args:
        new: rows and columns, perhaps tensors.
        xp: `numpy` or `keras.ops`.
    """
    width = table.shape[-1]
    rows, columns = (
        xp.cast(m, table.dtype) if xp is ops else m.astype(np.float64)
        for m in (resize_matrix(o, n, method, xp) for o, n in zip(old, new, strict=True))
    )
    grid = xp.reshape(table, (old[0], old[1] * width))
    grid = xp.reshape(xp.matmul(rows, grid), (new[0], old[1], width))
    return xp.reshape(xp.matmul(columns, grid), (1, new[0] * new[1], width))


def resize_matrix(old: int, new: Any, method: str, xp: Any = ops) -> Any:
    """The matrix `[new, old]` of float64 that resizes one axis.

    Args:
        new: a number, or a tensor for sizes that are known at run time alone.
    """
    kernel, antialias, corners = choose("pos_resample", method, _METHODS)
    count = new if xp is np else ops.cast(new, "float64")
    places = xp.expand_dims(xp.arange(new, dtype="float64"), -1)
    if corners:
        centres = places * ((old - 1) / xp.maximum(count - 1, 1.0))
    else:
        centres = (places + 0.5) * (old / count) - 0.5
    if antialias:
        scale = xp.maximum(old / count, 1.0)
        distances = (xp.arange(old, dtype="float64")[None] - centres) / scale
        weights = _KERNELS[kernel](xp.abs(distances), -0.5, xp)
        return weights / xp.sum(weights, axis=-1, keepdims=True)
    return _clamped(centres, old, kernel, xp)


def _clamped(centres: Any, old: int, kernel: str, xp: Any) -> Any:
    """Taps beyond the border count for the border."""
    first = xp.floor(centres)
    taps = range(-1, 3) if kernel == "bicubic" else range(2)
    places = xp.arange(old, dtype="float64")[None]
    total = 0.0
    for tap in taps:
        weight = _KERNELS[kernel](xp.abs(first + tap - centres), -0.75, xp)
        at = xp.clip(first + tap, 0.0, old - 1.0) == places
        total = total + weight * (at.astype(np.float64) if xp is np else ops.cast(at, "float64"))
    return total


def _cubic(x: Any, a: float, xp: Any) -> Any:
    """Keys' cubic convolution (1981, equation 15) of distances x; `a` is its free parameter."""
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return xp.where(x < 1, near, xp.where(x < 2, far, 0 * x))


_KERNELS = {"bicubic": _cubic, "bilinear": lambda x, a, xp: xp.maximum(1 - x, 0.0)}


def resampled_table(table: np.ndarray, slots: int, old: Grid, new: Grid, method: str) -> Any:
    """A file's positions `[1, slots + old, d]` for a model's grid: `[1, slots + new, d]`,
    float64.

    The slots before the grid, of class tokens, stay as they are. A table that fits comes back
    itself, and so does one of other slots, which does not fit.
    """
    if old == new or table.shape[1] - slots != old[0] * old[1]:
        return table
    wide = np.asarray(table, np.float64)
    grid = resample(wide[:, slots:], old, new, method, np)
    return np.concatenate([wide[:, :slots], grid], axis=1)


def resampled_patches(kernel: np.ndarray, edge: int, method: str) -> np.ndarray:
    """A patch projection `[p, p, c, d]` for patches of another edge: `[edge, edge, c, d]`, float64.

    It gives for a resized patch what the kernel gave for the patch (Beyer et al., FlexiViT,
    arXiv:2212.08013, section 3.4): the pseudo-inverse of the resize acts on the kernel.
    """
    if kernel.shape[0] == edge:
        return kernel
    inverse = np.linalg.pinv(resize_matrix(kernel.shape[0], edge, method, np).T)
    return np.einsum("yh,xw,hwcd->yxcd", inverse, inverse, np.asarray(kernel, np.float64))
