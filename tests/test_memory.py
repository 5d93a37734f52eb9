"""A model that was used and dropped leaves nothing behind."""

import gc
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tensorflow.python.framework import ops  # where `tf.custom_gradient` keeps its closures

_SCRIPT = Path(__file__).parents[1] / "scripts" / "memory_of_models.py"
_SPEC = importlib.util.spec_from_file_location("memory_of_models", _SCRIPT)
memory_of_models = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(memory_of_models)


@pytest.mark.parametrize("kind", ["resnet_silu", "vit_dynamic", "bert", "lstm"])
def test_weights_die_with_their_model(kind):
    memory_of_models.use_once(kind)
    closures = set(ops.gradient_registry._registry)
    variable, _ = memory_of_models.use_once(kind)
    gc.collect()
    assert variable() is None
    assert set(ops.gradient_registry._registry) == closures


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("kind", "onednn", "loads"), [("bert", "1", 8), ("silero", "1", 8), ("resnet", "0", 16)]
)
def test_memory_of_dropped_models_is_free_again(kind, onednn, loads):
    done = subprocess.run(
        [sys.executable, _SCRIPT, kind, "--loads", str(loads), "--json"],
        env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": onednn},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    row = json.loads(done.stdout)[kind]
    assert row["stays"] < max(2, 0.05 * row["weights"])
