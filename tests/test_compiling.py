"""Losses and metrics of models that give logits, and what one class alone means."""

import functools

import keras
import numpy as np
import pytest
from keras import losses, metrics

import zoo
from zoo.errors import OptionError, TaskError

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
X = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype(np.float32)


@keras.saving.register_keras_serializable("tests")
class Renamed(losses.BinaryCrossentropy):
    """Keras's loss by another name."""


class OfProbabilities(losses.BinaryCrossentropy):
    """A loss that makes probabilities itself."""

    def call(self, y_true, y_pred):
        return super().call(y_true, keras.ops.sigmoid(y_pred))


class OwnPrecision(metrics.Precision):
    def update_state(self, y_true, y_pred, sample_weight=None):
        return super().update_state(y_true, keras.ops.sigmoid(y_pred), sample_weight)


def own(y_true, y_pred):
    return keras.ops.mean(keras.ops.square(y_pred), -1)


def wrapped(**options):
    kind = losses.MeanSquaredError.__mro__[1]  # which wraps a function
    return kind(losses.binary_crossentropy, **options)


@pytest.fixture(scope="module")
def model():
    return zoo.load("test_resnet", pretrained=False, num_classes=3)


@pytest.fixture
def single():
    keras.utils.set_random_seed(0)
    return zoo.load("test_resnet", pretrained=False, labels=["hot dog"])


# ---------------------------------------------------------------- losses

REFUSED = {
    "list": ["sparse_categorical_crossentropy"],
    "tuple": (losses.BinaryCrossentropy(),),
    "dict": {"fc": losses.CategoricalCrossentropy()},
    "nested": {"a": [("mse", "bce")]},
    "short name": "BCE",
    "by the shapes": "crossentropy",
    "class": losses.BinaryCrossentropy,
    "serialised": {"class_name": "BinaryCrossentropy", "config": {"from_logits": False}},
    "partial": functools.partial(losses.binary_crossentropy, label_smoothing=0.1),
    "subclass": Renamed(),
    "wrapped": wrapped(),
    "focal": losses.CategoricalFocalCrossentropy(),
    "binary focal": "binary_focal_crossentropy",
    "operation": keras.ops.binary_crossentropy,
}
WITHOUT_LOGITS = {
    "divergence": losses.KLDivergence(),
    "divergence by name": ["kld"],
    "rates": {"fc": "poisson"},
    "dice": losses.Dice(),
    "tversky": "tversky",
}


@pytest.mark.parametrize("loss", REFUSED.values(), ids=REFUSED)
def test_losses_on_probabilities_in_any_form(model, loss):
    with pytest.raises(OptionError, match="without from_logits=True expects probabilities"):
        model.compile("sgd", loss)


@pytest.mark.parametrize("loss", WITHOUT_LOGITS.values(), ids=WITHOUT_LOGITS)
def test_losses_that_have_no_form_for_logits(model, loss):
    with pytest.raises(OptionError, match="no form that takes them"):
        model.compile("sgd", loss)


TAKEN = {
    "list": [losses.SparseCategoricalCrossentropy(from_logits=True)],
    "dict": {"fc": losses.CategoricalCrossentropy(from_logits=True)},
    "partial": functools.partial(losses.binary_crossentropy, from_logits=True),
    "subclass": Renamed(from_logits=True),
    "wrapped": wrapped(from_logits=True),
    "makes probabilities": OfProbabilities(),
    "function": own,
    "margin": "categorical_hinge",
}


@pytest.mark.parametrize("loss", TAKEN.values(), ids=TAKEN)
def test_losses_on_logits_in_any_form(model, loss):
    model.compile("sgd", loss)


def test_weights_of_losses_and_a_reload(tmp_path):
    model = zoo.load("test_resnet", pretrained=False, num_classes=3)
    loss = [losses.SparseCategoricalCrossentropy(from_logits=True)]
    model.compile("sgd", loss, loss_weights=[0.5], metrics=["accuracy"])
    before = model.evaluate(X, np.array([0, 1, 2, 0]), verbose=0)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(again.evaluate(X, np.array([0, 1, 2, 0]), verbose=0), before, 1e-4)


# ---------------------------------------------------------------- metrics

METRICS_REFUSED = {
    "auc": [metrics.AUC()],
    "by name": ["AUC"],
    "precision": ["accuracy", metrics.Precision()],
    "recall": {"fc": [metrics.Recall(thresholds=[0.3, 0.7])]},
    "counts": [metrics.TruePositives()],
    "binary accuracy": [metrics.BinaryAccuracy()],
    "its name": ["binary_accuracy"],
    "its function": [metrics.binary_accuracy],
    "wrapped": [metrics.MeanMetricWrapper(metrics.binary_accuracy)],
    "entropy": [metrics.CategoricalCrossentropy()],
    "entropy by name": ["sparse_categorical_crossentropy"],
    "divergence": [metrics.KLDivergence()],
    "f1": [metrics.F1Score(threshold=0.5)],
    "intersection": [metrics.BinaryIoU()],
    "sensitivity": [metrics.SensitivityAtSpecificity(0.5)],
}


@pytest.mark.parametrize("chosen", METRICS_REFUSED.values(), ids=METRICS_REFUSED)
@pytest.mark.parametrize("option", ["metrics", "weighted_metrics"])
def test_metrics_on_probabilities(model, option, chosen):
    with pytest.raises(OptionError, match="zoo's models give logits"):
        model.compile("sgd", **{option: chosen})


METRICS_TAKEN = {
    "auc": [metrics.AUC(from_logits=True)],
    "precision": [metrics.Precision(thresholds=0), metrics.Recall(top_k=1)],
    "accuracy": ["accuracy", "sparse_categorical_accuracy"],
    "binary accuracy": {"fc": metrics.BinaryAccuracy(threshold=0.0)},
    "entropy": [metrics.SparseCategoricalCrossentropy(from_logits=True)],
    "highest": [metrics.F1Score(), metrics.SparseTopKCategoricalAccuracy(2)],
    "one's own": [own, OwnPrecision(), "mae"],
}


@pytest.mark.parametrize("chosen", METRICS_TAKEN.values(), ids=METRICS_TAKEN)
def test_metrics_on_logits(model, chosen):
    model.compile("sgd", metrics=chosen)


# ---------------------------------------------------------------- one class


def logits_of(model, images=X):
    return np.asarray(model(images), np.float64)[:, 0]


def test_the_score_of_one_class_is_its_sigmoid(single):
    ((found,),) = single.classify(IMAGE)
    logit = logits_of(single, single.preprocess(IMAGE))[0]
    assert found.label == "hot dog"
    assert found.score == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-4)
    assert single.explain(IMAGE)[0].score == pytest.approx(found.score, rel=1e-4)


def test_loss_and_accuracy_of_one_class(single, tmp_path):
    single.get_layer("fc").bias.assign([0.3])  # logits of 0.3 are more than even, and below 0.5
    single.get_layer("fc").kernel.assign(0 * single.get_layer("fc").kernel)
    single.compile("sgd", metrics=["accuracy"])
    for y in (np.ones(4), np.zeros(4), np.array([0, 1, 1, 1])):
        loss, accuracy = single.evaluate(X, y, verbose=0)
        z = logits_of(single)
        assert loss == pytest.approx(np.mean(np.logaddexp(0, z) - y * z), rel=1e-4)
        assert accuracy == np.mean(y)
    single.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert again.evaluate(X, np.ones(4), verbose=0)[1] == 1


@pytest.mark.parametrize(
    "options",
    [
        {"loss": losses.SparseCategoricalCrossentropy(from_logits=True)},
        {"loss": [losses.CategoricalCrossentropy(from_logits=True)]},
        {"metrics": ["sparse_categorical_accuracy"]},
        {"metrics": [metrics.CategoricalCrossentropy(from_logits=True)]},
    ],
)
def test_what_compares_classes_says_nothing_of_one(single, options):
    with pytest.raises(OptionError, match="compares classes, and 'test_resnet' has one"):
        single.compile("sgd", **options)


def test_one_class_is_measured_on_what_is_of_it_and_what_is_not(single):
    images = [IMAGE, 255 - IMAGE, IMAGE // 2, IMAGE // 3]
    single.get_layer("fc").bias.assign([-np.median(logits_of(single, single.preprocess(images)))])
    z = logits_of(single, single.preprocess(images))
    y = np.array([1, 0, 1, 0])
    found = zoo.evaluate(single, (images, y))
    assert found.accuracy == np.mean((z > 0) == y)
    assert found.loss == pytest.approx(np.mean(np.logaddexp(0, z) - y * z), rel=1e-3)
    assert [entry.label for entry in found.per_class] == ["not hot dog", "hot dog"]
    names = [("hot dog" if k else "not hot dog") for k in y]
    assert zoo.evaluate(single, (images, names)).accuracy == found.accuracy


def test_batches_of_one_class(single):
    import tensorflow as tf

    y = np.array([1.0, 0.0, 1.0, 1.0], np.float32)
    for targets in (y, y[:, None], y.astype(int)):
        found = zoo.evaluate(single, tf.data.Dataset.from_tensor_slices((X, targets)).batch(3))
        assert found.accuracy == np.mean((logits_of(single) > 0) == y)
    data = tf.data.Dataset.from_tensor_slices((X, y[:, None])).batch(2)
    with pytest.raises(TaskError, match=r"multi_label_classification, and zoo\.finetune trains"):
        zoo.finetune(single, data, data)


def test_one_tag_for_all_tokens_is_refused():
    with pytest.raises(OptionError, match="needs two classes"):
        zoo.load("lstm_tagger", pretrained=False, labels=["NAME"])


# ---------------------------------------------------------------- what classes are


@pytest.fixture
def several():
    options = {"depth": 1, "labels": ["red", "round"], "input_size": 32}
    return functools.partial(zoo.load, "vit_tiny_patch16_224", pretrained=False, **options)


def test_classes_that_do_not_exclude_each_other(several, tmp_path):
    model = several(problem_type="multi_label_classification")
    logits = np.asarray(model(model.preprocess(IMAGE)), np.float64)[0]
    found = {p.label: p.score for p in model.classify(IMAGE)[0]}
    np.testing.assert_allclose([found["red"], found["round"]], 1 / (1 + np.exp(-logits)), rtol=1e-4)
    model.compile("sgd", metrics=["accuracy"])
    assert model.loss.name == "binary_crossentropy"
    again = zoo.load(zoo.save(model, tmp_path / "m"))
    assert again.classify(IMAGE) == model.classify(IMAGE)
    with pytest.raises(TaskError, match="does multi_label_classification"):
        zoo.evaluate(model, ([IMAGE], ["red"]))


def test_numbers(several):
    model = several(problem_type="regression")
    logits = np.asarray(model(model.preprocess(IMAGE)))[0]
    assert sorted(p.score for p in model.classify(IMAGE)[0]) == pytest.approx(
        sorted(logits.tolist())
    )
    model.compile("sgd", metrics=["mae"])
    assert model.loss.name == "mean_squared_error"
    with pytest.raises(OptionError, match="gives numbers, which have no accuracy"):
        model.compile("sgd", metrics=["accuracy"])


def test_a_problem_that_is_none(several):
    with pytest.raises(zoo.errors.ConfigError, match="problem_type='ranking' is not known"):
        several(problem_type="ranking")
