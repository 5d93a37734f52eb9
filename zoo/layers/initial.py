"""Which weights were never trained, by the values that they began with."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import keras
import numpy as np

from zoo.layers.building import learned_weights, named_weights, parameters


def checksum(values: Any) -> int:
    """A number that tells these values of a weight from others, by every bit of them."""
    return zlib.crc32(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)


def checksums(model: keras.Model, names: Iterable[str]) -> dict[str, int]:
    """The checksums of the weights of these names."""
    weights = named_weights(model)
    return {name: checksum(weights[name]) for name in names}


def drawn(model: keras.Model) -> dict[str, int]:
    """The checksums of the weights with random values; one value alone, such as 0, is common."""
    found = {name: np.asarray(values) for name, values in learned_weights(model).items()}
    return {n: checksum(v) for n, v in found.items() if v.size and (v != v.flat[0]).any()}


def untrained(model: keras.Model, initial: Mapping[str, Collection[int]]) -> tuple[str, ...]:
    """The weights that were never trained.

    A weight that has its first value was trained all the same where its layer of the model was, and
    it is not frozen: it may have had no gradient, as the bias of the keys of attention, or not yet,
    as what comes before a scale of 0. Running statistics change without training.

    Args:
        initial: checksums of the values that a weight may have begun with, by name.
    """
    weights, learn = named_weights(model), parameters(model)
    names = [name for name in initial if name in weights]
    changed = {name for name in names if checksum(weights[name]) not in initial[name]}
    layers = _layers(model, weights)
    trained = {layers[name] for name in changed & set(learn)}
    return tuple(
        name
        for name in names
        if name not in changed
        and (layers[name] not in trained or (name in learn and not weights[name].trainable))
    )


def _layers(model: keras.Model, weights: Iterable[str]) -> dict[str, str]:
    """The layer of the model that each weight is in."""
    names = sorted((layer.name for layer in model.layers), key=len)
    return {w: name for name in names for w in weights if w.startswith(f"{name}.")}
