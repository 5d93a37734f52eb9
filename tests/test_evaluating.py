"""Figures of classifiers: equal to scikit-learn's, and of the same predictions as `classify`."""

import json
import threading
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn import metrics
from sklearn.datasets import load_digits

import zoo
from zoo.errors import InputError, NotFoundError, TaskError, ZooError
from zoo.finetuning.evaluation import Evaluation, evaluate, score
from zoo.finetuning.examples import Examples, read_examples
from zoo.loading.pulling import BUNDLED
from zoo.tasks import base

FILES = sorted((BUNDLED / "digits").glob("*.png"))
DIGITS = [int(path.name[0]) for path in FILES]


@pytest.fixture(scope="module")
def images():
    return zoo.load("resnet_mini.digits", offline=True)


@pytest.fixture(scope="module")
def sequences():
    return zoo.load("lstm_mini.digits", offline=True)


@pytest.fixture
def folder(tmp_path):
    for path in FILES:
        (tmp_path / path.name[0]).mkdir(exist_ok=True)
        (tmp_path / path.name[0] / path.name).write_bytes(path.read_bytes())
    return tmp_path


def random_case(classes, n=300, seed=0, of=None):
    rng = np.random.default_rng(seed)
    labels = rng.integers(of or classes, size=n)
    logits = rng.normal(size=(n, classes)).astype(np.float32)
    logits[np.arange(n), labels] += 1.5
    return logits, labels


def probabilities(logits):
    exponents = np.exp(np.float64(logits))
    return exponents / exponents.sum(1, keepdims=True)


# ---------------------------------------------------------------- figures


# of 40 classes, only 7 are in the labels of the last case
@pytest.mark.parametrize(("classes", "of"), [(2, None), (5, None), (6, None), (30, None), (40, 7)])
def test_figures_are_those_of_scikit_learn(classes, of):
    logits, labels = random_case(classes, of=of)
    found, every = score(logits, labels), range(classes)
    guesses = logits.argmax(1)
    assert found.examples == 300
    assert found.accuracy == metrics.accuracy_score(labels, guesses)
    assert found.macro_f1 == pytest.approx(metrics.f1_score(labels, guesses, average="macro"))
    expected = metrics.log_loss(labels, probabilities(logits), labels=list(every))
    assert found.loss == pytest.approx(expected, rel=1e-12)
    assert np.array_equal(
        found.confusion, metrics.confusion_matrix(labels, guesses, labels=list(every))
    )
    columns = metrics.precision_recall_fscore_support(
        labels, guesses, labels=list(every), zero_division=0
    )
    for k, entry in enumerate(found.per_class):
        row = (entry.precision, entry.recall, entry.f1, entry.support)
        assert row == pytest.approx(tuple(column[k] for column in columns), rel=1e-12)
        assert entry.label == str(k)
    if classes < 6:
        assert found.top5 is None
    else:
        top5 = metrics.top_k_accuracy_score(labels, logits, k=5, labels=list(every))
        assert found.top5 == top5
        assert found.accuracy < found.top5 < 1


def calibration_error(logits, labels):
    """Bin by bin, as the paper's equations read."""
    found, error = probabilities(logits), 0.0
    for m in range(1, 16):
        inside = [
            (row.max(), row.argmax() == label)
            for row, label in zip(found, labels, strict=True)
            if (m - 1) / 15 < row.max() <= m / 15
        ]
        if inside:
            confidence = sum(p for p, _ in inside) / len(inside)
            accuracy = sum(hit for _, hit in inside) / len(inside)
            error += len(inside) / len(labels) * abs(accuracy - confidence)
    return error


@pytest.mark.parametrize("scale", [0.3, 1, 4])
def test_the_calibration_error_is_that_of_the_paper(scale):
    logits, labels = random_case(8, n=1000, seed=3)
    found = score(scale * logits, labels).calibration_error
    assert found == pytest.approx(calibration_error(scale * logits, labels), rel=1e-9)
    assert found > 0.01


def test_calibration_of_known_cases():
    sure = np.full((4, 3), -100.0)
    sure[:, 0] = 100
    assert score(sure, np.array([0, 0, 0, 0])).calibration_error == pytest.approx(0, abs=1e-12)
    assert score(sure, np.array([0, 0, 1, 2])).calibration_error == pytest.approx(0.5)
    even = np.zeros((4, 2))  # confidence 1/2, the first class is right in half of them
    assert score(even, np.array([0, 0, 1, 1])).calibration_error == pytest.approx(0, abs=1e-12)


def test_ties_go_to_the_first_class_as_in_classify():
    found = score(np.zeros((2, 8)), np.array([4, 5]))
    assert found.top5 == 0.5
    assert found.confusion[4, 0] == found.confusion[5, 0] == 1


def test_half_precision_logits_are_taken():
    logits, labels = random_case(6)
    half = tf.cast(logits, tf.bfloat16).numpy()
    assert score(half, labels).loss == score(half.astype(np.float64), labels).loss


def test_it_survives_json():
    found = score(*random_case(7), names=list("abcdefg"))
    again = Evaluation.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.to_dict() == found.to_dict()
    assert np.array_equal(again.confusion, found.confusion)
    assert again.per_class == found.per_class


def test_tables_for_people():
    logits, labels = random_case(30, n=2000)
    text = str(score(logits, labels, [f"class number {k}" for k in range(30)]))
    assert "top-5 accuracy" in text
    assert "The 20 of 30 classes with the lowest F1" in text
    assert "taken for class number" in text
    assert all(len(line) <= 100 for line in text.splitlines())
    perfect = str(score(np.eye(3) * 9, np.arange(3), ["x" * 90, "b", "c"]))
    assert "taken for" not in perfect
    assert "top-5" not in perfect
    assert all(len(line) <= 100 for line in perfect.splitlines())


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), "no examples"),
        (np.zeros((2, 3)), np.zeros(3, int), r"\[2, 3\] and labels \[3\] do not fit"),
        (np.zeros((2, 3)), np.array([0, 3]), "values 0 to 3; whole numbers from 0 to 2"),
        (np.zeros((2, 3)), np.array([0, -1]), "values -1 to 0"),
        (np.zeros((2, 3)), np.array([0.0, 1.0]), "array float64"),
        (np.array([[0, np.nan], [0, 1]]), np.array([0, 1]), "NaN or infinity for 1 of 2"),
        (np.array([[0, np.inf], [0, 1]]), np.array([0, 1]), "NaN or infinity for 1 of 2"),
    ],
)
def test_what_cannot_be_scored_is_an_error(logits, labels, message):
    with pytest.raises(InputError, match=message):
        score(logits, labels)


# ---------------------------------------------------------------- models


def agrees(model, found, inputs, labels):
    """The figures are those of what `classify` says."""
    predictions = model.classify(inputs, top=5)
    assert found.examples == len(labels)
    assert found.accuracy == np.mean(
        [p[0].index == k for p, k in zip(predictions, labels, strict=True)]
    )
    assert found.top5 == np.mean(
        [k in [q.index for q in p] for p, k in zip(predictions, labels, strict=True)]
    )
    for true in range(10):
        for guess in range(10):
            pairs = zip(predictions, labels, strict=True)
            assert found.confusion[true, guess] == sum(
                k == true and p[0].index == guess for p, k in pairs
            )
    return predictions


def test_a_folder_gives_what_classify_says(images, folder):
    found = evaluate(images, folder, batch_size=7)
    agrees(images, found, [str(path) for path in FILES], DIGITS)
    assert [entry.label for entry in found.per_class] == list("0123456789")
    assert [entry.support for entry in found.per_class] == [4] * 10
    assert found.accuracy > 0.9
    assert found.skipped == ()


def test_sequences_give_what_classify_says(sequences):
    data = load_digits()
    rows = np.rint(data.images * (255 / 16))[:300]
    found = evaluate(sequences, (rows, data.target[:300]))
    predictions = agrees(sequences, found, list(rows), data.target[:300])
    assert found.accuracy > 0.9
    likely = [p[0].score for p in predictions]
    right = [p[0].index == k for p, k in zip(predictions, data.target, strict=False)]
    assert abs(np.mean(likely) - np.mean(right)) <= found.calibration_error + 1e-6


def test_every_form_of_data_gives_the_same(images, folder):
    expected = evaluate(images, folder).to_dict()
    paths = [str(path) for path in FILES]
    table = folder / "digits.csv"
    lines = [f"{p.name[0]}/{p.name},{k}" for p, k in zip(FILES, DIGITS, strict=True)]
    table.write_text("\n".join(["path,label", *lines]))
    examples = read_examples((paths, [str(k) for k in DIGITS]), kind="image")
    x = images.preprocess(paths)
    batches = tf.data.Dataset.from_tensor_slices((x, DIGITS)).batch(7)
    one_hot = batches.map(lambda x, y: (x, tf.one_hot(y, 10)))
    column = batches.map(lambda x, y: (x, y[:, None]))
    for data in ((paths, DIGITS), list(zip(paths, DIGITS, strict=True)), table, examples):
        assert evaluate(images, data).to_dict() == expected
    for data in (batches, one_hot, column):
        found = evaluate(images, data).to_dict()
        assert found.pop("loss") == pytest.approx(expected["loss"], rel=1e-4)
        error = found.pop("calibration_error")
        assert error == pytest.approx(expected["calibration_error"], rel=1e-3)
        assert found == {k: v for k, v in expected.items() if k in found}


def test_classes_are_matched_by_name(images):
    paths = [str(path) for path in FILES if path.name[0] in "83"]
    names = tuple(path.name[0] for path in FILES if path.name[0] in "83")
    labels = np.array([("8", "3").index(name) for name in names], np.int32)
    examples = Examples(inputs=paths, labels=labels, classes=("8", "3"), names=names)
    found = evaluate(images, examples)
    assert [entry.support for entry in found.per_class] == [0, 0, 0, 4, 0, 0, 0, 0, 4, 0]
    assert found.accuracy == 1
    assert found.macro_f1 == 1  # over the two classes that occur


def test_a_class_that_the_model_does_not_have_is_an_error(images, folder):
    (folder / "9").rename(folder / "nine")
    with pytest.raises(InputError, match=r"'nine', which is no class.*10 classes are '0', '1'"):
        evaluate(images, folder)
    renamed = zoo.load("resnet_mini", labels=["zero", "one", *"23456789"], offline=True)
    examples = Examples(
        inputs=[str(FILES[0])], labels=np.zeros(1, np.int32), classes=("zer",), names=("a",)
    )
    with pytest.raises(InputError, match=r"1 examples is 'zer'.*Did you mean 'zero'"):
        evaluate(renamed, examples)


def test_a_model_without_labels_takes_numbers():
    model = zoo.load("resnet_mini", pretrained=False, num_classes=12)
    assert model.labels is None
    paths = [str(path) for path in FILES]
    found = evaluate(model, (paths, DIGITS))
    assert [entry.label for entry in found.per_class] == [str(k) for k in range(12)]
    assert found.confusion.sum() == len(FILES)
    with pytest.raises(InputError, match="'cat', which is no class"):
        evaluate(model, (paths[:2], ["cat", "dog"]))
    with pytest.raises(InputError, match="is 12; there are 12 classes, 0 to 11"):
        evaluate(model, (paths[:2], [0, 12]))


def test_unreadable_images_are_left_out_with_one_warning(images, folder):
    whole = evaluate(images, folder, batch_size=8)
    broken = folder / "3" / FILES[12].name
    broken.write_bytes(broken.read_bytes()[:60])
    (folder / "7" / "x.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="2 of 41 examples cannot be read") as caught:
        found = evaluate(images, folder, batch_size=8)
    assert len(caught) == 1
    assert found.examples == 39
    assert [name for name, _ in found.skipped] == [str(broken), str(folder / "7" / "x.png")]
    assert [e.support for e in found.per_class] == [4, 4, 4, 3, 4, 4, 4, 4, 4, 4]
    assert whole.examples == 40
    with pytest.raises(InputError, match=f"{broken}.*damaged or incomplete"):
        evaluate(images, folder, batch_size=8, strict=True)


def test_sequences_of_different_lengths_go_one_by_one():
    """A model that knows no padding still takes each of them."""
    model = zoo.load("lstm_mini", pretrained=False, labels=["a", "b"])
    task, spec = model.task, replace(model.preprocess.spec, length=None)
    model.attach(replace(model.record, card=replace(model.card, preprocessing=spec)))
    rng = np.random.default_rng(0)
    rows = [rng.uniform(0, 255, (t, 8)) for t in (8, 8, 5, 5, 9)]
    found = evaluate(model, (rows, [0, 1, 0, 1, 0]), batch_size=5)
    single = [int(model.classify(row, top=1)[0][0].index) for row in rows]
    assert task.preprocess.spec.length is None
    assert found.accuracy == np.mean(np.array(single) == [0, 1, 0, 1, 0])


def test_what_cannot_be_evaluated_is_an_error(images, folder):
    with pytest.raises(TaskError, match="image-feature-extraction; only classifiers"):
        evaluate(zoo.load("resnet_mini", num_classes=0, offline=True), folder)
    with pytest.raises(TaskError, match=r"sequential.*only classifiers"):
        evaluate(tf.keras.Sequential([tf.keras.layers.Dense(2)]), folder)
    with pytest.raises(NotFoundError, match="nowhere is not there"):
        evaluate(images, folder / "nowhere")
    with pytest.raises(ZooError, match="batch_size must be at least 1"):
        evaluate(images, folder, batch_size=0)
    single = tf.data.Dataset.from_tensor_slices((images.preprocess(FILES[:3]), DIGITS[:3]))
    with pytest.raises(InputError, match=r"takes batches.*batch them"):
        evaluate(images, single)
    with pytest.raises(InputError, match="pairs"):
        evaluate(images, single.map(lambda x, y: x))
    wide = single.batch(2).map(lambda x, y: (x, tf.one_hot(y, 7)))
    with pytest.raises(InputError, match="do not fit"):
        evaluate(images, wide)


# ---------------------------------------------------------------- preparing ahead


def wait_until(met):
    """Whether it comes true within some seconds."""
    end = time.monotonic() + 10
    while not met() and time.monotonic() < end:
        time.sleep(0.005)
    return met()


def test_the_next_batches_are_prepared_while_one_runs(images):
    begun = []
    results = images.task.batches(list(range(20)), 2, "test", lambda x: begun.append(x) or x)
    assert next(results) == [0, 1]
    ahead = [[2 * k, 2 * k + 1] for k in range(base.AHEAD + 1)]
    assert wait_until(lambda: len(begun) >= len(ahead))
    time.sleep(0.05)
    assert begun == ahead  # no more than these, whatever time there is
    assert [*results] == [[k, k + 1] for k in range(2, 20, 2)]


def test_an_error_comes_when_it_is_its_turn(images):
    def prepare(batch):
        if batch[0] == 4:
            raise InputError("broken")
        return batch

    results, seen = images.task.batches(list(range(20)), 2, "test", prepare), []
    with pytest.raises(InputError, match="broken"):
        seen.extend(iter(results.__next__, None))
    assert seen == [[0, 1], [2, 3]]
    assert list(results) == []


@pytest.mark.parametrize("end", ["abandoned", "closed", "failed", "done"])
def test_nothing_runs_on_afterwards(images, end):
    before, begun = threading.active_count(), []

    def prepare(batch):
        begun.append(batch)
        time.sleep(0.01)
        return batch

    results = images.task.batches(list(range(100)), 2, "test", prepare)
    next(results)
    assert threading.active_count() > before
    if end == "closed":
        results.close()
    elif end == "failed":
        with pytest.raises(RuntimeError):
            results.throw(RuntimeError("the model failed"))
    elif end == "done":
        list(results)
    del results
    assert threading.active_count() == before
    count = len(begun)
    time.sleep(0.05)
    assert len(begun) == count
    assert count == 50 if end == "done" else count <= base.AHEAD + 2


def test_one_batch_needs_no_thread(images):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        main = threading.current_thread()
        (ran,) = images.task.batches([1], 2, "test", lambda x: threading.current_thread())
    assert ran is main


def test_outputs_do_not_depend_on_the_batches(images):
    paths = [str(path) for path in FILES]
    whole = [p[0].label for p in images.classify(paths, batch_size=64)]
    assert [p[0].label for p in images.classify(paths, batch_size=3)] == whole
    bad = [*paths[:9], np.zeros((8, 8)), *paths]
    with pytest.raises(InputError, match="float64 array"):
        images.classify(bad, batch_size=3)
    with Image.open(paths[0]) as picture:
        assert images.classify([picture] * 9, batch_size=2)[0][0].label == whole[0]
