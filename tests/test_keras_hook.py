"""Keras finds zoo's classes by their names, in whatever order a process imports things."""

import functools
import importlib
import json
import os
import pickle
import pkgutil
import subprocess
import sys

import keras
import numpy as np
import pytest

import zoo
from zoo import _keras_hook
from zoo.finetuning.optimizer import AdamW, schedule
from zoo.registry import registry

ORDERS = {
    "keras first": "from keras.models import load_model\nimport zoo",
    "tensorflow first": (
        "import tensorflow as tf\nimport zoo\nload_model = tf.keras.models.load_model"
    ),
    "zoo first": "import zoo\nfrom keras.models import load_model",
    "another thread at it": (
        "import importlib, sys, threading\n"
        "thread = threading.Thread(target=importlib.import_module, args=['keras'])\n"
        "thread.start()\n"
        "while 'keras' not in sys.modules: pass\n"
        "assert sys.modules['keras'].__spec__._initializing\n"
        "import zoo\nfrom keras.models import load_model"
    ),
}
CHECK = """
import json, pickle, sys
parts = {name.split(".")[1] for name in sys.modules if name.startswith("zoo.")}
assert parts == {"_keras_hook", "_lazy"}, parts  # nothing is imported before it is asked for
import keras
adamw = keras.optimizers.deserialize(json.load(open("adamw.json")))
assert type(adamw).__module__ == "zoo.finetuning.optimizer"
assert "zoo.model" not in sys.modules
model = load_model("forecaster.keras")
assert type(model) is zoo.Model and model.card.architecture == "lstm_forecaster"
assert type(model.optimizer.learning_rate) is not str and model.optimizer.iterations == 1
assert type(model.loss).__name__ == "QuantileLoss"
assert "zoo.architectures.vit_blocks" not in sys.modules
block = pickle.load(open("block.pkl", "rb"))
assert "zoo.architectures.vit_blocks" in sys.modules
assert "zoo.architectures.resnet" not in sys.modules
print(float(keras.ops.sum(block(keras.ops.ones((1, 5, 24))))))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files that hold a compiled model, a block alone in a model of Keras, and an optimizer."""
    path = tmp_path_factory.mktemp("kept")
    keras.utils.set_random_seed(0)
    options = {"features": 1, "hidden_size": 4, "horizon": 2}
    model = zoo.load("lstm_forecaster", pretrained=False, **options)
    model.compile(AdamW(schedule("cosine", 1e-3, 10, 2)))
    model.fit(np.zeros((2, 5, 1)), np.zeros((2, 2)), verbose=0)
    model.save(path / "forecaster.keras")
    options = {"depth": 1, "embed_dim": 24, "num_heads": 2, "img_size": (32, 32)}
    vit = zoo.load("vit_tiny_patch16_224", pretrained=False, **options)
    block = keras.Sequential([keras.Input((5, 24)), vit.get_layer("blocks.0")])
    (path / "block.pkl").write_bytes(pickle.dumps(block))
    adamw = keras.optimizers.serialize(AdamW(1e-3, factors=[1.0]))
    (path / "adamw.json").write_text(json.dumps(adamw))
    (path / "sum.json").write_text(json.dumps(float(np.sum(block(np.ones((1, 5, 24)))))))
    return path


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_any_order_of_imports(folder, order):
    done = subprocess.run(
        [sys.executable, "-c", f"{order}\n{CHECK}"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    expected = json.loads((folder / "sum.json").read_text())
    np.testing.assert_allclose(float(done.stdout.splitlines()[-1]), expected, rtol=1e-4)


def test_every_class_is_found_by_its_name():
    modules = _keras_hook._registering_modules()
    for module in pkgutil.walk_packages(zoo.__path__, "zoo."):
        if not module.name.startswith(("zoo.hub", "zoo.cli", "zoo.__main__")):
            importlib.import_module(module.name)
    registered = {
        name.removeprefix("zoo>"): cls.__module__
        for name, cls in keras.saving.get_custom_objects().items()
        if name.startswith("zoo>")
    }
    assert len(registered) > 50
    assert modules == registered
    for name in modules:
        assert keras.saving.get_registered_object(f"zoo>{name}").__name__ == name


@pytest.mark.parametrize("name", ["zoo>NoLayer", "Other>NoLayer"])
def test_a_name_that_nobody_registers_is_keras_own_error(name):
    config = {"module": "builtins", "class_name": "NoLayer", "config": {}, "registered_name": name}
    assert keras.saving.get_registered_object(name) is None
    with pytest.raises(TypeError, match="Could not locate class 'NoLayer'"):
        keras.saving.deserialize_keras_object(config)


def test_a_users_own_class_comes_first():
    class Conv2D(keras.layers.Layer):
        pass

    config = keras.saving.serialize_keras_object(zoo.layers.convolution.Conv2D(3, 1))
    with keras.saving.custom_object_scope({"zoo>Conv2D": Conv2D}):
        assert keras.saving.get_registered_object("zoo>Conv2D") is Conv2D
    assert type(keras.saving.deserialize_keras_object(config)) is zoo.layers.convolution.Conv2D


# ---------------------------------------------------------------- other packages' families

BUILDERS = {
    "acme_layers": (
        "import keras\n"
        "@keras.saving.register_keras_serializable('acme')\n"
        "class Twice(keras.layers.Layer):\n"
        "    def call(self, x):\n"
        "        return 2 * x\n"
        "FAMILY = None\n"
    ),
    "acme_broken": "class Thrice:\n    pass\nraise RuntimeError('out of order')\n",
    "acme_other": "FAMILY = None\n",
}


@pytest.fixture
def families(tmp_path, monkeypatch):
    """Three installed packages with a family each, of which one cannot be imported."""
    for package, builder in BUILDERS.items():
        cards = {"family": package, "module": f"{package}.builder", "formats": package}
        cards |= {"architectures": {package: {"config": {}, "num_params": 0}}, "cards": {}}
        files = {
            f"{package}/__init__.py": "",
            f"{package}/builder.py": builder,
            f"{package}/cards.json": json.dumps(cards),
            f"{package}-1.0.dist-info/METADATA": f"Name: {package}\nVersion: 1.0\n",
            f"{package}-1.0.dist-info/entry_points.txt": f"[zoo.families]\n{package} = {package}\n",
        }
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
    caches: list[functools._lru_cache_wrapper] = [registry._others, _keras_hook._import_class]
    monkeypatch.syspath_prepend(tmp_path)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()
    keras.saving.get_custom_objects().pop("acme>Twice", None)
    for name in [name for name in sys.modules if name.partition(".")[0] in BUILDERS]:
        del sys.modules[name]


def acme(name):
    """What a file has for a layer of the first package."""
    names = {"class_name": name, "registered_name": f"acme>{name}", "config": {"name": "layer"}}
    return {"module": "acme_layers.builder", **names}


def test_a_layer_of_another_package_is_found_and_no_other_family_imported(families):
    layer = keras.saving.deserialize_keras_object(acme("Twice"))
    assert float(layer(keras.ops.ones(()))) == 2
    assert not {"acme_broken", "acme_other"} & set(sys.modules)


def test_a_package_that_cannot_be_imported_is_a_warning(families):
    with (
        pytest.warns(UserWarning, match="'acme_broken.builder'.*out of order"),
        pytest.raises(TypeError, match="Could not locate class 'Thrice'"),
    ):
        keras.saving.deserialize_keras_object(acme("Thrice"))
