"""Features of frozen layers, computed once and kept on the disk."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from zoo.finetuning.examples import Examples
from zoo.finetuning.pipeline import evaluation_batches
from zoo.finetuning.sampling import Sampler
from zoo.layers.building import named_weights
from zoo.model import Model
from zoo.registry.card import to_data
from zoo.tasks.graphs import compiled
from zoo.weights.disk import disk_errors
from zoo.weights.endpoint import feature_cache
from zoo.weights.handle import Source


def head_of(model: Model, heads: Sequence[str]) -> tuple[list[Any], keras.Model]:
    """Where a model's head begins, and the head alone.

    Args:
        heads: names of its layers that learn.

    Returns:
        The tensors that these layers read, and a network from them to the outputs, which shares
        the model's layers.
    """
    inputs = [model.get_layer(name).input for name in heads]
    return inputs, keras.Model(inputs, model.outputs[0], name="head")


def features(
    model: Model, tensors: Sequence[Any], examples: Examples, batch_size: int
) -> list[np.ndarray]:
    """What the model computes at some places for each example, from the disk where it is there.

    Args:
        tensors: symbolic, of the model.

    Returns:
        An array `[n, ...]` of each tensor, perhaps mapped from a file.
    """
    folder = feature_cache(Source()) / _key(model, tensors, examples)
    if not folder.is_dir():
        _compute(model, tensors, examples, batch_size, folder)
    with suppress(OSError):  # a cache that can only be read serves as well
        os.utime(folder)  # for `zoo cache prune`: used now
    return [np.load(folder / f"{k}.npy", mmap_mode="r") for k in range(len(tensors))]


def _compute(
    model: Model, tensors: Sequence[Any], examples: Examples, batch_size: int, folder: Path
) -> None:
    forward = compiled(model, list(tensors), "finetuning.features")
    batches = evaluation_batches(examples, model.preprocess, batch_size)
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
        temporary.mkdir()
        try:
            rows = _rows(forward, batches, len(examples))
            for k, parts in enumerate(zip(*rows, strict=True)):
                np.save(temporary / f"{k}.npy", np.concatenate(parts))
            temporary.replace(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _rows(forward: Any, batches: Any, count: int) -> Iterator[list[np.ndarray]]:
    """The features of each batch, with a progress bar on a terminal."""
    with tqdm(total=count, desc="features", unit="example", disable=None, leave=False) as bar:
        for x, y in batches:
            found = forward(x)
            yield [np.asarray(p) for p in (found if isinstance(found, list | tuple) else [found])]
            bar.update(len(y))


def _key(model: Model, tensors: Sequence[Any], examples: Examples) -> str:
    """What the features depend on: the network below them, the preprocessing, the inputs."""
    below = keras.Model(model.inputs, list(tensors))
    layers = {layer.name for layer in below.layers}
    digest = hashlib.sha256()
    for name, weight in named_weights(model).items():
        if name.partition(".")[0] in layers or any(name.startswith(f"{n}.") for n in layers):
            digest.update(f"{name} {weight.dtype}".encode())
            digest.update(np.ascontiguousarray(weight).tobytes())
    card = model.record.card
    facts = {
        "architecture": card.architecture,
        "config": {k: v for k, v in card.config.items() if k != "num_classes"},
        "preprocessing": to_data(card.preprocessing),
        "dtype": model.compute_dtype,
        "inputs": examples.fingerprint(),
    }
    digest.update(json.dumps(to_data(facts), sort_keys=True, default=str).encode())
    return digest.hexdigest()


def feature_batches(
    arrays: Sequence[np.ndarray],
    labels: np.ndarray,
    sampler: Sampler,
    weights: np.ndarray | None,
    first: int,
    end: int,
) -> Any:
    """Batches `(x, y, w)` of features for the epochs `first` to `end`, as `training_batches` has.

    Args:
        labels: float32 `[n, classes]`.
        weights: of the classes.
    """
    import tensorflow as tf

    one = [np.asarray(array) for array in arrays]
    held = np.ones(len(labels), np.float32) if weights is None else labels @ weights

    def batches() -> Iterator[Any]:
        for epoch in range(first, end):
            for rows in sampler.batches(epoch):
                x = tuple(array[rows] for array in one)
                yield x if len(x) > 1 else x[0], labels[rows], held[rows].astype(np.float32)

    specs = tuple(tf.TensorSpec((None, *a.shape[1:]), a.dtype) for a in one)
    signature = (
        specs if len(specs) > 1 else specs[0],
        tf.TensorSpec((None, labels.shape[1]), tf.float32),
        tf.TensorSpec((None,), tf.float32),
    )
    return tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(2)
