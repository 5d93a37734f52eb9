"""Fine-tuning: what a run does, what it leaves behind, and how it goes on after it was killed."""

import csv
import json
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.datasets import load_digits
from tensorflow.python.framework.config import is_op_determinism_enabled

import zoo
from zoo.errors import DiskError, InputError, OptionError, TaskError, TrainingError
from zoo.finetuning import Augment, pipeline
from zoo.finetuning import features as cached_features
from zoo.layers.building import named_weights

PLAIN = Augment(crop=None, flip=0.0)

# runs of an epoch or two, that learn little and say so
pytestmark = pytest.mark.filterwarnings("ignore:The model has learned nothing that shows")


def digits(per_class: int, classes=range(5, 10), offset: int = 0):
    """uint8 scans [n, 8, 8] and the names of their digits."""
    data = load_digits()
    rows = np.concatenate(
        [np.flatnonzero(data.target == k)[offset : offset + per_class] for k in classes]
    )
    images = np.rint(data.images[rows] * (255 / 16)).astype(np.uint8)
    return list(images), [str(k) for k in data.target[rows]]


@pytest.fixture(scope="module")
def resnet():
    return zoo.load("resnet_mini.digits")


@pytest.fixture(scope="module")
def lstm():
    """Of one layer: XLA compiles its loop for every shape."""
    options = {"features": 8, "hidden_size": 16, "num_layers": 1, "padding_value": 0.0}
    return zoo.load("lstm_classifier", pretrained=False, num_classes=10, **options)


def values(model: zoo.Model) -> dict[str, np.ndarray]:
    return {name: np.array(weight) for name, weight in named_weights(model).items()}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def run(model, train=None, validation=None, **options):
    train = digits(8) if train is None else train
    validation = digits(6, offset=8) if validation is None else validation
    options = {"epochs": 2, "batch_size": 8, "augment": PLAIN, **options}
    if model.record.task.startswith("sequence"):
        options["augment"] = None
    return zoo.finetune(model, train, validation, **options)


@pytest.fixture(scope="module")
def whole(resnet, tmp_path_factory):
    """A run with a folder, and what a callback saw of it."""
    seen = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda k, logs: seen.append(dict(logs)))
    before = values(resnet)
    result = run(
        resnet, output=tmp_path_factory.mktemp("whole") / "run", callbacks=[callback], **WHOLE
    )
    assert same(values(resnet), before)
    return result, seen


WHOLE = {"epochs": 3, "mixup": 0.2, "learning_rate": 3e-3}


# ---------------------------------------------------------------- a run


def check_learned(result, epochs):
    assert result.model.labels == ("5", "6", "7", "8", "9")
    assert result.history.keys() == {
        "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy",
    }  # fmt: skip
    assert all(len(column) == epochs for column in result.history.values())
    best = result.history["val_accuracy"][result.best_epoch - 1]
    assert best == max(result.history["val_accuracy"]) == result.metrics.accuracy
    assert best > 0.4
    assert result.history["loss"][-1] < result.history["loss"][0]


def test_full_changes_every_weight(resnet, whole):
    result, seen = whole
    check_learned(result, 3)
    old, new = values(resnet), values(result.model)
    assert [k for k in new if np.array_equal(new[k], old[k])] == []
    assert [logs["val_loss"] for logs in seen] == result.history["val_loss"]
    assert not is_op_determinism_enabled()  # as before the run


def test_gradual_begins_with_the_head(resnet):
    result = run(resnet, strategy="gradual", epochs=4, learning_rate=1e-2)
    check_learned(result, 4)
    first = run(resnet, strategy="gradual", epochs=1, learning_rate=1e-2)  # one epoch: all at once
    assert first.history["loss"] != result.history["loss"][:1]


def test_head_trains_the_head_alone_on_features_computed_once(resnet, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    result = run(resnet, strategy="head", epochs=4, learning_rate=3e-2)
    check_learned(result, 4)
    old, new = values(resnet), values(result.model)
    changed = {k for k in new if new[k].shape != old[k].shape or not np.array_equal(new[k], old[k])}
    assert changed == {"fc.kernel", "fc.bias"}
    monkeypatch.setattr(cached_features, "_compute", None)  # would be called
    again = run(resnet, strategy="head", epochs=4, learning_rate=3e-2)
    assert same(new, values(again.model))
    with pytest.raises(TypeError):  # other inputs, other features
        run(resnet, digits(9), strategy="head")


def test_validation_is_split_off_where_none_is_given(lstm):
    result = zoo.finetune(lstm, digits(10), epochs=1)
    assert result.metrics.examples == 10
    assert [entry.support for entry in result.metrics.per_class] == [2] * 5


def test_a_head_of_the_same_classes_is_kept(resnet):
    train, test = digits(4, range(10)), digits(2, range(10), 4)
    result = run(resnet, train, test, learning_rate=1e-9, epochs=1)
    assert result.model.labels == resnet.labels
    assert result.history["val_accuracy"][0] > 0.9


def test_frozen_layers_stay_as_they_are(resnet):
    block = resnet.get_layer("layer2.0")
    norms = [part for part in block._flatten_layers() if "Norm" in type(part).__name__]
    frozen = [resnet.get_layer("layer1.0"), *norms]
    try:
        for part in frozen:
            part.trainable = False
        result = run(resnet, epochs=1)
        learning = {name for name, weight in named_weights(resnet).items() if weight.trainable}
    finally:
        for part in frozen:
            part.trainable = True
    old, new = values(resnet), values(result.model)
    still = {name for name in old if name in new and np.array_equal(old[name], new[name])}
    inside = {name for name in old if name.startswith("layer2.0.")}
    assert {name for name in old if name.startswith("layer1.0.")} <= still
    assert inside & still == inside - learning  # the statistics of the norms among them
    assert "conv1.0.kernel" not in still
    assert not result.model.get_layer("layer1.0").trainable
    weights = named_weights(result.model)
    assert {name for name, weight in weights.items() if weight.trainable} == learning


def test_averages_of_the_weights_are_what_is_kept(resnet, whole):
    plain, _ = whole
    averaged = run(resnet, ema=0.9, **WHOLE)
    assert plain.history["loss"] == averaged.history["loss"]  # training itself is the same
    assert plain.history["val_loss"] != averaged.history["val_loss"]
    assert not same(values(plain.model), values(averaged.model))


def test_early_stopping_ends_a_run_that_gets_no_better(lstm):
    result = run(lstm, epochs=12, learning_rate=1e-12, early_stopping=2)
    assert result.best_epoch == len(result.history["loss"]) - 2 < 10


def test_the_model_can_be_trained_on_and_saved_with_its_optimizer(whole, tmp_path):
    result, _ = whole
    result.model.save(tmp_path / "model.keras")
    x, y = result.model.preprocess(digits(2)[0]), np.repeat(np.arange(5), 2)
    models = [keras.models.load_model(tmp_path / "model.keras") for _ in range(2)]
    for model in models:
        model.fit(x, y, epochs=1, verbose=0, shuffle=False)
    assert same(*map(values, models))
    assert int(models[0].optimizer.iterations) == int(result.model.optimizer.iterations) + 1
    assert not same(values(models[0]), values(result.model))


def test_ready_batches(resnet):
    x, y = resnet.preprocess(digits(4, range(10))[0]), np.repeat(np.arange(10), 4)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    result = zoo.finetune(resnet, data, data, epochs=1, learning_rate=1e-4)
    assert result.model.labels == resnet.labels
    assert result.metrics.examples == 40
    with pytest.raises(OptionError, match="needs one for validation"):
        zoo.finetune(resnet, data)
    with pytest.raises(OptionError, match="augment in its own"):
        zoo.finetune(resnet, data, data, mixup=0.2)
    with pytest.raises(InputError, match=r"takes batches float32 \[None, None, None, 1\]"):
        zoo.finetune(resnet, data.unbatch(), data)


def test_the_dtype_is_that_of_the_run(resnet):
    result = run(resnet, dtype="float64", epochs=1)
    assert result.model.compute_dtype == "float64"
    assert all(w.dtype == "float64" for w in result.model.trainable_weights)


# ---------------------------------------------------------------- its folder


def test_the_folder_of_a_run(whole):
    result, _ = whole
    folder = result.folder
    assert {p.name for p in folder.iterdir()} == {
        "README.md", "config.json", "confusion.png", "curves.png", "history.csv",
        "logs", "metrics.json", "model.safetensors", "run.json",
    }  # fmt: skip
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_loss"]) for row in rows] == result.history["val_loss"]
    assert json.loads((folder / "metrics.json").read_text())["accuracy"] == result.metrics.accuracy
    again = zoo.load(folder)
    assert same(values(again), values(result.model))
    assert again.labels == result.model.labels
    pictures = digits(3)[0]
    assert again.classify(pictures) == result.model.classify(pictures)
    assert (
        f"| validation | accuracy | {result.metrics.accuracy:.4g} |"
        in (folder / "README.md").read_text()
    )


def test_tensorboard_shows_the_history(whole):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result, _ = whole
    for part, names in (("train", ("loss", "accuracy")), ("validation", ("loss", "accuracy"))):
        events = EventAccumulator(str(result.folder / "logs" / part))
        events.Reload()
        for name in names:
            logged = [tf.make_ndarray(e.tensor_proto) for e in events.Tensors(f"epoch_{name}")]
            column = name if part == "train" else f"val_{name}"
            assert np.allclose(logged, result.history[column], rtol=1e-6), column


def test_a_run_begun_anew_has_no_logs_of_the_one_before(lstm, tmp_path):
    options = {"output": tmp_path / "run", "epochs": 1}
    run(lstm, **options)
    first = {path.name for path in (tmp_path / "run" / "logs").rglob("events*")}
    run(lstm, **options, resume=False)
    second = {path.name for path in (tmp_path / "run" / "logs").rglob("events*")}
    assert first
    assert second
    assert not first & second


def test_without_tensorboard_there_are_no_logs(lstm, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    run(lstm, output=tmp_path / "run", epochs=1)
    assert not (tmp_path / "run" / "logs").exists()


def test_a_finished_run_is_not_made_again(resnet, whole):
    first, _ = whole
    stamp = (first.folder / "model.safetensors").stat().st_mtime_ns
    never = keras.callbacks.LambdaCallback(on_epoch_begin=lambda *_: pytest.fail("it trains"))
    again = run(resnet, output=first.folder, callbacks=[never], **WHOLE)
    assert again.history == first.history
    assert again.metrics.to_dict() == first.metrics.to_dict()
    assert again.best_epoch == first.best_epoch
    assert same(values(again.model), values(first.model))
    assert (first.folder / "model.safetensors").stat().st_mtime_ns == stamp


def test_another_run_in_the_folder_is_not_touched(resnet, whole, tmp_path):
    first, _ = whole
    with pytest.raises(OptionError, match=r"settings.epochs was 3, is 4.*resume=False"):
        run(resnet, output=first.folder, **WHOLE | {"epochs": 4})
    with pytest.raises(OptionError, match="the training examples are others"):
        run(resnet, digits(7), output=first.folder, **WHOLE)
    shutil.copytree(first.folder, tmp_path / "copy")
    anew = run(resnet, output=tmp_path / "copy", epochs=1, resume=False)
    assert len(anew.history["loss"]) == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    with pytest.raises(OptionError, match="files that are of no fine-tuning run"):
        run(resnet, output=tmp_path / "mine")


# ---------------------------------------------------------------- broken off

SCRIPT = """
import os, signal, sys
import keras
sys.path.insert(0, {tests!r})
from test_finetuning import train

class Kill(keras.callbacks.Callback):
    def on_train_batch_end(self, step, logs=None):
        if [self.epoch, step] == {at!r}:
            os.kill(os.getpid(), signal.SIGKILL)
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

train({model!r}, {output!r}, {images}, callbacks=[Kill()])
"""


def train(model: str | Path, output: str | Path, images: bool, **options):
    """A run that goes on where one in the same folder was broken off."""
    if images:
        options |= {"strategy": "gradual", "ema": 0.9, "mixup": 0.3, "random_erasing": 0.5}
        options |= {"augment": PLAIN}
    else:
        options |= {"strategy": "full"}
    held_out = digits(6, offset=8)
    zoo.finetune(model, digits(8), held_out, output=output, epochs=3, batch_size=8, **options)


def killed(model: str, output: Path, images: bool, at: list[int]) -> None:
    """The run in a process of its own, which is killed after that epoch's step."""
    tests = str(Path(__file__).parent)
    code = SCRIPT.format(tests=tests, at=at, model=model, output=str(output), images=images)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_sequences_are_encoded_once_for_all_phases_and_epochs(lstm, monkeypatch):
    encoded, calls = pipeline._encoded, []
    monkeypatch.setattr(
        pipeline, "_encoded", lambda *args: calls.append(len(args[0])) or encoded(*args)
    )
    run(lstm, strategy="gradual", epochs=2)
    assert calls == [40, 30]


@pytest.mark.parametrize(
    ("images", "places"),
    [(True, [[0, 1], [1, 3]]), (False, [[1, 3]])],  # before any checkpoint; inside of an epoch
    ids=["images", "sequences"],
)
def test_a_killed_run_goes_on_to_the_same_result(lstm, images, places, tmp_path):
    model = "resnet_mini.digits" if images else str(zoo.save(lstm, tmp_path / "lstm"))
    train(model, tmp_path / "whole", images)
    for at in places:
        killed(model, tmp_path / "broken", images, at)
    assert not (tmp_path / "broken" / "model.safetensors").exists()
    train(model, tmp_path / "broken", images)
    for name in ("model.safetensors", "history.csv", "metrics.json"):
        whole, broken = (tmp_path / part / name for part in ("whole", "broken"))
        assert whole.read_bytes() == broken.read_bytes(), name


def test_a_file_that_is_damaged_in_the_middle_is_named(resnet, tmp_path):
    images, labels = digits(6, (5, 6))
    for k, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / "data" / label / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)

    def damage(epoch, logs):
        path.write_bytes(path.read_bytes()[:50])

    callback = keras.callbacks.LambdaCallback(on_epoch_end=damage)
    with pytest.raises(InputError, match=rf"{path.name}.* cannot be decoded"):
        run(resnet, tmp_path / "data", digits(2, (5, 6)), epochs=9, callbacks=[callback])


class Spoil(keras.callbacks.Callback):
    """Makes a weight NaN after the first epoch."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.layers[-1].bias.assign(np.full(5, np.nan, np.float32))


def test_nan_stops_a_run_and_the_last_checkpoint_is_kept(resnet, whole, tmp_path):
    message = r"loss is nan in step 1 of epoch 2.*epoch 1 gave is kept.*learning_rate below"
    with pytest.raises(TrainingError, match=message):
        run(resnet, output=tmp_path / "run", callbacks=[Spoil()], **WHOLE)
    healed = run(resnet, output=tmp_path / "run", **WHOLE)
    assert same(values(healed.model), values(whole[0].model))


class Fill(keras.callbacks.Callback):
    """Lets no file grow beyond some bytes, in the second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))


def test_a_full_disk_leaves_the_checkpoint_before(resnet, whole, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(DiskError, match="No room to write"):
            run(resnet, output=tmp_path / "run", callbacks=[Fill()], **WHOLE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    found = sorted(p.name for p in (tmp_path / "run" / "checkpoint").iterdir())
    assert found == ["best-0000.safetensors", "state.safetensors"]
    healed = run(resnet, output=tmp_path / "run", **WHOLE)
    assert same(values(healed.model), values(whole[0].model))


# ---------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 41}, "batch_size=41 is more than the 40 training examples"),
        ({"strategy": "heads"}, "none of full, head, lp-ft, gradual.*'head'"),
        ({"schedule": "cosin"}, "'cosine'"),
        ({"strategy": "head", "mixup": 0.2}, "mixup and strategy='head' do not go together"),
        ({"augment": "lite"}, "none of none, crop, light, strong.*'light'"),
        ({"learning_rate": -1.0}, "a number from 0"),
        ({"epochs": 0}, "epochs=0"),
        ({"distribute": "horovod"}, "None or 'mirrored'"),
        ({"class_weights": {"six": 2.0}}, "'six', which is no class"),
        ({"class_weights": [1.0, 2.0]}, "one for each of the 5 classes"),
        ({"dtype": "float31"}, "no Keras dtype policy"),
    ],
)
def test_options_that_cannot_be(resnet, options, message):
    with pytest.raises(OptionError, match=message):
        run(resnet, **options)


def test_images_alone_are_cropped(lstm):
    with pytest.raises(OptionError, match="cutmix is for images"):
        run(lstm, cutmix=1.0)


def test_other_tasks_say_what_to_do():
    model = zoo.load("lstm_lm_mini.pydoc")
    with pytest.raises(TaskError, match=r"text-generation.*compile"):
        zoo.finetune(model, digits(4))


def test_validation_with_an_unknown_class(resnet):
    with pytest.raises(InputError, match="4"):
        run(resnet, validation=digits(3, range(4, 9)))


def test_class_weights_move_the_boundary(resnet, whole):
    heavy = run(resnet, class_weights={"8": 50.0}, **WHOLE)
    named = [int(r.metrics.confusion[:, 3].sum()) for r in (heavy, whole[0])]
    assert named[0] > named[1]
