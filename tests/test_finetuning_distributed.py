"""Training on two devices at once: two logical ones of the CPU, in a process of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import zoo
sys.path.insert(0, {tests!r})
from test_finetuning import digits, values

name, options = {name!r}, {options!r}
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
print("equal")
"""

TINY_VIT = {
    "in_channels": 1,
    "input_size": 16,
    "patch_size": 4,
    "embed_dim": 24,
    "depth": 2,
    "num_heads": 2,
}


@pytest.mark.parametrize(
    ("name", "options"),
    [("lstm_mini", {"dropout": 0.0, "drop_rate": 0.0}), ("vit_tiny_patch16_224", TINY_VIT)],
)
def test_two_devices_train_as_one_with_the_joined_batch(name, options):
    code = SCRIPT.format(tests=str(Path(__file__).parent), name=name, options=options)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "equal"
