"""The two ends of a network: its input, and the pooled classifier of images."""

from __future__ import annotations

from typing import Any

import keras

from zoo.layers.linear import Dense
from zoo.layers.pooling import GlobalPool2D


def image_input(size: tuple[int | None, int | None], channels: int) -> Any:
    """A symbolic batch of images `[n, h, w, channels]`, float64 under that policy, else float32."""
    return real_input((*size, channels), "images")


def real_input(shape: tuple[int | None, ...], name: str) -> Any:
    """A symbolic batch of numbers `[n, *shape]`, float64 under that policy, else float32."""
    wide = keras.config.dtype_policy().compute_dtype == "float64"
    return keras.Input(shape, dtype="float64" if wide else "float32", name=name)


def dense_uniform() -> keras.initializers.Initializer:
    """PyTorch's own initialisation of linear layers: uniform within 1 / sqrt(inputs)."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


def classifier(x: Any, num_classes: int, *, pool: str, drop_rate: float, prefix: str = "") -> Any:
    """Pool, dropout, dense: `[n, h, w, c] -> [n, num_classes]` logits.

    Args:
        num_classes: 0 gives the pooled features `[n, c]`.
        prefix: the reference's name of the head, with a dot.
    """
    x = GlobalPool2D(pool, name=f"{prefix}global_pool")(x)
    if drop_rate:
        x = keras.layers.Dropout(drop_rate, name=f"{prefix}drop")(x)
    if num_classes == 0:
        return x
    return Dense(num_classes, kernel_initializer=dense_uniform(), name=f"{prefix}fc")(x)
