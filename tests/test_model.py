"""The model object: a Keras model in every respect, with a card that survives."""

import copy
import json
import pickle
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from synthetic_texts import bert

import zoo
from zoo.errors import InputError, OptionError, TaskError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, 70, 90, 3), np.uint8)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return zoo.load("test_resnet.r160_in1k", pretrained=False)


@pytest.fixture(scope="module")
def batch(model):
    return model.preprocess(list(IMAGES))


def same(a, b):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-5, atol=1e-6)


def test_it_is_a_keras_model_with_a_card(model, batch):
    assert isinstance(model, keras.Model)
    assert model.card.architecture == "test_resnet"
    assert model.labels[0] == "tench, Tinca tinca"
    assert len(model.labels) == 1000
    assert model.task.name == "image-classification"
    assert batch.shape == (3, 160, 160, 3)
    assert model(batch).shape == (3, 1000)
    assert model.count_params() == sum(w.numpy().size for w in model.weights)


def test_summary_and_layer_names(model):
    lines = []
    model.summary(print_fn=lines.append, line_length=100)
    assert "layer3.0" in "\n".join(lines)
    assert model.get_layer("layer3.0").count_params() > 0


def test_any_input_size(model):
    assert model(np.zeros((1, 33, 47, 3), np.float32)).shape == (1, 1000)


def test_classify(model):
    rows = model.classify(list(IMAGES), top=3)
    assert [len(r) for r in rows] == [3, 3, 3]
    best = rows[0][0]
    logits = np.asarray(model(model.preprocess(IMAGES[0])))[0]
    assert best.index == logits.argmax()
    assert best.label == model.labels[best.index]
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert best.score == pytest.approx(probabilities.max(), rel=1e-4)
    assert [p.score for p in rows[0]] == sorted((p.score for p in rows[0]), reverse=True)


def test_batches_do_not_change_results(model):
    one = model.embed(IMAGES, batch_size=2)
    same(one, model.embed(list(IMAGES)))
    same(one[1], model.embed(IMAGES[1])[0])
    assert one.dtype == np.float32


def test_embedding_is_the_input_of_the_head(model, batch):
    head = model.get_layer("fc")
    same(model(batch), head(model.embed(IMAGES)))


def test_no_inputs(model):
    assert model.classify([]) == []
    assert model.embed([]).shape == (0, model.get_layer("fc").kernel.shape[0])


def test_top_beyond_the_classes_gives_all(model):
    assert len(model.classify(IMAGES[0], top=5000)[0]) == 1000
    with pytest.raises(InputError, match="top must be at least 1"):
        model.classify(IMAGES[0], top=0)


def test_verbs_are_traced_once(model):
    from zoo.tasks.graphs import compiled

    model.classify(list(IMAGES))
    model.classify(IMAGES[:2])
    model.classify(IMAGES[0])
    assert compiled(model).experimental_get_tracing_count() <= 2


def test_verbs_under_xla(model):
    from zoo.tasks.graphs import compiled

    image = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    plain = model.classify(image, top=3)[0]
    model.jit_verbs = True
    try:
        found = model.classify(image, top=3)[0]
        assert compiled(model)._jit_compile
    finally:
        model.jit_verbs = False
    assert not compiled(model)._jit_compile
    assert [k.label for k in found] == [k.label for k in plain]
    np.testing.assert_allclose([k.score for k in found], [k.score for k in plain], rtol=1e-4)


def test_verbs_follow_the_weights():
    small = zoo.load("test_resnet", pretrained=False, num_classes=3, labels=["a", "b", "c"])
    small.classify(IMAGES[0])
    kernel, bias = small.get_layer("fc").weights
    kernel.assign(np.zeros(kernel.shape))
    bias.assign([0.0, 9.0, 0.0])
    assert small.classify(IMAGES[0])[0][0].label == "b"


def test_a_model_is_freed_when_it_is_dropped():
    import gc
    import weakref

    dropped = zoo.load("test_resnet", pretrained=False, num_classes=2, labels=["a", "b"])
    dropped.classify(IMAGES[0])
    dropped.embed(IMAGES[0])
    reference = weakref.ref(dropped)
    del dropped
    gc.collect()
    assert reference() is None


def test_a_verb_of_another_task_names_those_there_are():
    features = zoo.load("test_resnet", pretrained=False, num_classes=0)
    assert features.task.name == "image-feature-extraction"
    with pytest.raises(TaskError, match="no verb 'classify'; it has embed"):
        features.classify(IMAGES[0])
    assert features.embed(IMAGES[0]).shape == (1, 96)


def test_no_labels_names_embed():
    unlabelled = zoo.load("test_resnet", pretrained=False, num_classes=7)
    assert unlabelled.labels is None
    with pytest.raises(TaskError, match=r"no known labels.*embed\(\)"):
        unlabelled.classify(IMAGES[0])


def test_feature_maps():
    maps = zoo.load("test_resnet", pretrained=False, features_only=True, out_indices=(1, -1))
    assert [(f.name, f.channels, f.reduction) for f in maps.feature_info] == [
        ("layer1", 32, 4),
        ("layer4", 96, 32),
    ]
    outputs = maps(np.zeros((1, 64, 96, 3), np.float32))
    assert [o.shape for o in outputs] == [(1, 16, 24, 32), (1, 2, 3, 96)]
    with pytest.raises(TaskError, match="gives maps"):
        maps.embed(IMAGES[0])


# ---------------------------------------------------------------- Keras


def test_fit_with_callbacks_and_no_loss_given():
    trained = zoo.load("test_resnet", pretrained=False, num_classes=2, input_size=32)
    trained.compile(keras.optimizers.Adam(1e-3), metrics=["accuracy"])
    assert trained.loss.name == "sparse_categorical_crossentropy"
    x, y = RNG.normal(size=(8, 32, 32, 3)).astype("float32"), np.arange(8) % 2
    before = [np.array(w) for w in trained.trainable_variables]
    stop = keras.callbacks.EarlyStopping(monitor="loss", patience=5)
    history = trained.fit(x, y, epochs=2, batch_size=4, callbacks=[stop], verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    moved = [
        (np.asarray(w) != b).any() for w, b in zip(trained.trainable_variables, before, strict=True)
    ]
    assert all(moved)


REFUSED = {
    "string": "sparse_categorical_crossentropy",
    "class name": "BinaryCrossentropy",
    "function": keras.losses.categorical_crossentropy,
    "sparse": keras.losses.SparseCategoricalCrossentropy(),
    "smoothed": keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
}


@pytest.mark.parametrize("loss", REFUSED.values(), ids=REFUSED)
def test_a_loss_on_probabilities_is_refused(model, loss):
    with pytest.raises(OptionError, match="from_logits=True"):
        model.compile("sgd", loss)


TAKEN = {
    "on logits": keras.losses.CategoricalCrossentropy(from_logits=True),
    "regression": "mse",
    "none": None,
}


@pytest.mark.parametrize("loss", TAKEN.values(), ids=TAKEN)
def test_a_loss_on_logits_is_taken(loss):
    zoo.load("test_resnet", pretrained=False).compile("sgd", loss)


@pytest.mark.parametrize("how", ["keras file", "pickle", "deepcopy", "config"])
def test_the_card_survives(model, batch, tmp_path, how):
    if how == "keras file":
        model.save(tmp_path / "m.keras")
        again = keras.models.load_model(tmp_path / "m.keras")
    elif how == "pickle":
        again = pickle.loads(pickle.dumps(model))
    elif how == "deepcopy":
        again = copy.deepcopy(model)
    else:
        again = type(model).from_config(model.get_config())
        again.set_weights(model.get_weights())
    assert type(again) is zoo.Model
    assert again.card == model.card
    assert again.labels == model.labels
    assert again.load_report == model.load_report
    assert again.preprocess == model.preprocess
    assert again.classify(IMAGES[0]) == model.classify(IMAGES[0])
    same(again(batch), model(batch))


def test_a_process_that_imports_keras_alone_reloads(model, batch, tmp_path):
    """A model of images, and one of texts with its tokenizer and labels."""
    texts = zoo.load(bert(tmp_path / "bert"), labels=["good", "bad"])
    texts.save(tmp_path / "texts.keras")
    model.save(tmp_path / "m.keras")
    np.save(tmp_path / "x.npy", batch)
    code = (
        "import json, zoo, keras, numpy as np\n"
        "m = keras.models.load_model('m.keras')\n"
        "assert m.card.architecture == 'test_resnet' and len(m.labels) == 1000\n"
        "np.save('y.npy', np.asarray(m(np.load('x.npy'))))\n"
        "found = keras.models.load_model('texts.keras').classify('a dog, a cat.')[0]\n"
        "print(json.dumps({p.label: p.score for p in found}))\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, check=True, stdout=subprocess.PIPE, text=True)
    same(np.load(tmp_path / "y.npy"), model(batch))
    expected = {p.label: p.score for p in texts.classify("a dog, a cat.")[0]}
    assert json.loads(done.stdout) == pytest.approx(expected, abs=1e-6)


def test_a_compiled_model_reloads_compiled(tmp_path):
    compiled = zoo.load("test_resnet", pretrained=False, num_classes=2, input_size=32)
    compiled.compile("adam", metrics=["accuracy"])
    compiled.fit(np.zeros((2, 32, 32, 3)), np.array([0, 1]), verbose=0)
    compiled.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert again.optimizer.iterations == 1
    again.fit(np.zeros((2, 32, 32, 3)), np.array([0, 1]), verbose=0)


def test_a_clone_has_fresh_weights_and_no_card(model, batch):
    clone = keras.models.clone_model(model)
    assert clone.card is None
    assert clone.labels is None
    assert clone.preprocess is None
    assert clone.task is None
    assert not np.allclose(clone(batch), model(batch))
    with pytest.raises(TaskError, match="no card"):
        clone.classify(IMAGES[0])


def test_functional_composition(model):
    body = model.get_layer("global_pool").output
    composed = keras.Model(model.input, keras.layers.Dense(4)(body))
    assert composed(np.zeros((1, 64, 64, 3), np.float32)).shape == (1, 4)
    nested = keras.Sequential([keras.Input((64, 64, 3)), model, keras.layers.Softmax()])
    same(np.sum(nested(np.ones((1, 64, 64, 3), np.float32))), 1.0)


def test_export_to_saved_model(model, batch, tmp_path):
    model.export(tmp_path / "saved", verbose=False)
    served = tf.saved_model.load(tmp_path / "saved")
    same(served.serve(batch), model(batch))


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "mixed_bfloat16", "float16"])
def test_dtype_policies(dtype):
    made = zoo.load("test_resnet", pretrained=False, dtype=dtype)
    policy = keras.DTypePolicy(dtype)
    assert {w.dtype for w in made.weights} == {policy.variable_dtype}
    assert made(np.zeros((1, 32, 32, 3))).dtype == policy.compute_dtype
    assert keras.config.dtype_policy().name == "float32"


def test_dtype_none_follows_keras():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        made = zoo.load("test_resnet", pretrained=False)
    finally:
        keras.config.set_dtype_policy(before)
    assert made.get_layer("fc").compute_dtype == "bfloat16"


def test_under_a_distribution_strategy():
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    with strategy.scope():
        made = zoo.load("test_resnet", pretrained=False, num_classes=2, input_size=32)
        made.compile("sgd")
    made.fit(np.zeros((2, 32, 32, 3)), np.array([0, 1]), verbose=0)


FIRST = """
import importlib, sys, traceback
import keras
for module in sys.argv[1:]:
    for name in [name for name in sys.modules if name.partition(".")[0] == "zoo"]:
        del sys.modules[name]
    try:
        importlib.import_module(module)
        importlib.import_module("zoo.model")
    except Exception:
        print(module, traceback.format_exc(), sep=": ")
"""


def test_any_module_may_be_imported_first():
    """There is no circle, wherever one begins."""
    modules = ("zoo.tasks.language", "zoo.layers.base", "zoo.model")
    done = subprocess.run(
        [sys.executable, "-c", FIRST, *modules], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
