"""Weights and images that anyone can make again from their names and shapes alone."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

GOLDENS = Path(__file__).parent / "goldens"
IMAGE_SIZE = (64, 96)  # both halve five times, which every network takes


def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A float64 tensor that depends on its name and shape alone, of a scale networks live with."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith(("running_var", ".v")):
        return rng.uniform(0.6, 1.4, shape)
    if len(shape) > 1:
        return rng.normal(0, math.sqrt(2 / math.prod(shape[1:])), shape)
    if name.endswith("weight"):
        return rng.uniform(0.5, 1.0, shape)
    return rng.uniform(-0.2, 0.2, shape)


def state(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    return {name: tensor(name, tuple(shape)) for name, shape in shapes.items()}


def images(channels: int = 3) -> np.ndarray:
    """Two float64 images `[2, *IMAGE_SIZE, channels]`."""
    return np.random.default_rng(7).normal(size=(2, *IMAGE_SIZE, channels))


def as_trained(model: Any) -> Any:
    """The model with other weights than it was made with, as after training."""
    for weight in model.trainable_weights:
        weight.assign(0.99 * weight)
    return model


def read_golden(name: str) -> dict:
    return json.loads((GOLDENS / name).read_text(encoding="utf-8"))
