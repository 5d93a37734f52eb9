"""Parity without the reference library: stored outputs, and the names and shapes of every name."""

import functools
import gzip
import json
import os

import keras
import numpy as np
import pytest
import synthetic
import tensorflow as tf
from safetensors.numpy import save_file

import zoo
from zoo.layers.building import build_uninitialized, dtype_scope, initialize, named_weights
from zoo.registry import registry


def goldens(library: str) -> dict[str, dict]:
    """The files of a library's folder, by name."""
    paths = sorted((synthetic.GOLDENS / library).iterdir())
    return {path.stem: json.loads(path.read_text("utf-8")) for path in paths}


FILES = goldens("timm").values()
TYPES = goldens("transformers")
GOLDENS = {name: (file, golden) for file in FILES for name, golden in file["outputs"].items()}


@functools.cache
def manifests() -> dict[str, dict[str, list[int]]]:
    return json.loads(gzip.decompress((synthetic.GOLDENS / "manifests.json.gz").read_bytes()))


def build(name: str, dtype: str = "float32", **options):
    family_name, config = registry.architecture_config(name)
    family = registry.import_family(family_name)
    config = family.change_config(family.read_config(config, origin=name), options)

    def network() -> keras.Model:
        graph = family.build(config)
        return keras.Model(graph.inputs, graph.outputs)

    with dtype_scope(keras.DTypePolicy(dtype)):
        return build_uninitialized(network), family.layouts["timm"]


def source_tensors(model: keras.Model, table) -> dict[str, np.ndarray]:
    """The reference's tensors as our model would write them: their shapes cost nothing."""
    weights = {k: np.broadcast_to(0.0, v.shape) for k, v in named_weights(model).items()}
    return table.export(weights) | table.constants_for(weights)


@pytest.mark.parametrize("name", GOLDENS)
def test_outputs_are_the_references(name):
    file, golden = GOLDENS[name]
    model, table = build(name, "float64", num_classes=file["classes"], **golden["options"])
    shapes = {k: v.shape for k, v in source_tensors(model, table).items()}
    weights = {k: tuple(v.shape) for k, v in named_weights(model).items()}
    initialize(model, table.resolve(synthetic.state(shapes), weights).values)
    ours = model(tf.constant(synthetic.images())).numpy()
    theirs = np.array(golden["logits"])
    assert ours.shape == theirs.shape
    assert np.linalg.norm(ours - theirs) < 1e-9 * np.linalg.norm(theirs)


@pytest.mark.parametrize("model_type", TYPES)
def test_text_models_are_the_references(model_type, tmp_path):
    golden = TYPES[model_type]
    (tmp_path / "config.json").write_text(json.dumps(golden["config"]))
    save_file(synthetic.state(golden["tensors"]), tmp_path / "model.safetensors")
    model = zoo.load(tmp_path, dtype="float64")
    ours = model({name: tf.constant(array) for name, array in golden["inputs"].items()}).numpy()
    theirs = np.array(golden["logits"])
    assert ours.shape == theirs.shape
    assert np.linalg.norm(ours - theirs) < 1e-9 * np.linalg.norm(theirs)
    assert not model.load_report.fresh


# of every kind; `make parity-all` takes every name
NAMES = manifests() if os.environ.get("ZOO_EVERY_NAME") else GOLDENS


@pytest.mark.parametrize("name", sorted(NAMES))
def test_names_and_shapes_are_the_references(name):
    model, table = build(name)
    ours = {k: list(v.shape) for k, v in source_tensors(model, table).items()}
    assert ours == manifests()[name]


def test_every_architecture_has_a_manifest():
    files = [json.loads(path.read_text("utf-8")) for path in registry.CARDS.glob("*.json")]
    timms = [f for f in files if f.get("source", {}).get("library") == "timm"]
    assert set(manifests()) == {name for file in timms for name in file["architectures"]}
