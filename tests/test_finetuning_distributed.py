"""Training on two devices at once: two logical ones of the CPU, in a process of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
import keras
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import zoo
sys.path.insert(0, {tests!r})
from zoo.finetuning.flow import mirrored
from zoo.finetuning.groups import optimizer_for
from zoo.finetuning.optimizer import schedule
from test_finetuning import digits, values
from test_finetuning_optimizer import LOSS, SHALLOW, batch, load

def flow(name, **options):
    model = zoo.load(name, pretrained=False, **options)
    runs = []
    for distribute in (None, "mirrored"):
        result = zoo.finetune(
            model, digits(8), digits(6, offset=8), epochs=2, batch_size=8,
            learning_rate=1e-3, dtype="float64", distribute=distribute,
        )
        runs.append((values(result.model), result.history))
    (one, history), (two, mirrored) = runs
    for key in one:
        scale = max(np.linalg.norm(one[key]), 1e-3)
        assert np.linalg.norm(two[key] - one[key]) < 1e-9 * scale, key
    assert np.allclose(history["loss"], mirrored["loss"], rtol=1e-5)
    assert np.allclose(history["val_loss"], mirrored["val_loss"], rtol=1e-9)

def train(name, steps=3):
    model = load(name, dtype="float64", **SHALLOW[name])
    model.compile(optimizer_for(model, schedule("linear", 2**-6, 6, 2), layer_decay=0.5), LOSS)
    x, y = batch(name)
    start = [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]
    model.fit(x, y, batch_size=8, epochs=steps, shuffle=False, verbose=0)
    return start, [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]

def in_a_scope(name):
    strategy = mirrored()
    assert strategy.num_replicas_in_sync == 2
    start, alone = train(name)
    with strategy.scope():
        also, together = train(name)
    norm = lambda arrays: np.sqrt(sum(np.sum(a**2) for a in arrays))
    moved = norm([a - b for a, b in zip(alone, start)])
    assert all(np.array_equal(a, b) for a, b in zip(start, also))
    off = norm([a - b for a, b in zip(alone, together)])
    assert off < 1e-10 * moved and moved > 0.01, (off, moved)

import traceback
def said(name, call, *given, **options):
    try:
        call(*given, **options)
    except Exception:
        print(name, repr(traceback.format_exc()), flush=True)
    else:
        print(name, "equal", flush=True)

said("sequences", flow, "lstm_classifier", **{lstm!r})
said("images", flow, "vit_tiny_patch16_224", **{vit!r})
keras.config.set_floatx("float64")  # of the losses and the learning rates
for name in ("vit_tiny_patch16_224", "lstm_classifier"):
    said(name, in_a_scope, name)
"""

VIT = {
    "in_channels": 1,
    "input_size": 16,
    "patch_size": 4,
    "embed_dim": 24,
    "depth": 2,
    "num_heads": 2,
}
LSTM = {"features": 8, "hidden_size": 16, "num_layers": 1, "num_classes": 10, "padding_value": 0.0}


@pytest.fixture(scope="module")
def answers():
    """What became of each comparison, all of them in one process."""
    code = SCRIPT.format(tests=str(Path(__file__).parent), lstm=LSTM, vit=VIT)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize("kind", ["images", "sequences"])
def test_two_devices_fine_tune_as_one_with_the_joined_batch(answers, kind):
    assert answers[kind] == "equal"


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "lstm_classifier"])
def test_two_devices_train_as_one(answers, name):
    assert answers[name] == "equal"
