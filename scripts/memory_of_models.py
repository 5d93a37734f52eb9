"""What stays in memory of models that were loaded, run, trained for a step and dropped.

    .venv/bin/python scripts/memory_of_models.py [KIND ...] [--loads 20] [--json]

Each kind is loaded anew in a loop, in this process; the growth of resident memory is counted from
the fourth load on. It is right below the larger of 2 MB and 5 % of the weights. Run it again with
`TF_ENABLE_ONEDNN_OPTS=0`, where convolutions take another way.
"""

import argparse
import ctypes
import gc
import json
import os
import weakref
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

import zoo
from zoo.tasks.graphs import compiled

_TEXT = {"max_positions": 32, "hidden_size": 128, "num_layers": 2, "num_heads": 4}
_TEXT |= {"vocab_size": 8000, "intermediate_size": 256}
_IMAGES = {"num_classes": 8, "labels": [str(i) for i in range(8)]}

_M_PERTURB = -6  # of glibc's malloc.h

# one of each way to compute, with weights that stand out of the noise: architecture, options
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet": ("resnet10t", _IMAGES),
    "resnet_silu": ("resnet10t", {"act_layer": "silu", **_IMAGES}),
    "seresnet": ("seresnet18", _IMAGES),
    "skresnet": ("skresnet18", _IMAGES),
    "resnest": ("resnest14d", _IMAGES),
    "resnext": ("resnext50_32x4d", {"layers": (1, 1, 1, 1), **_IMAGES}),
    "bit": ("resnetv2_50x1_bit", {"layers": (1, 1, 1, 1), **_IMAGES}),
    "vit": ("vit_tiny_patch16_224", {"depth": 4, **_IMAGES}),
    "vit_dynamic": ("vit_tiny_patch16_224", {"depth": 4, "dynamic_img_size": True, **_IMAGES}),
    "bert": ("bert", _TEXT),
    "gpt2": ("gpt2", _TEXT),
    "lstm": ("lstm_classifier", {"features": 3, "hidden_size": 256, "num_layers": 2}),
    "awd_lstm": ("awd_lstm", {"vocab_size": 8000, "emb_sz": 64, "n_hid": 128}),
    "silero": ("silero_vad", {}),
}


def example(model) -> dict[str, np.ndarray] | np.ndarray | list[np.ndarray]:
    """A batch of one for the model, its unknown sizes as small as it takes."""

    def one(x):
        sizes = [32 if size is None else size for size in x.shape[1:]]
        return np.ones((1, *sizes), x.dtype)

    return tf.nest.map_structure(one, model.input)


def use_once(kind: str) -> tuple[weakref.ref, int]:
    """Load a model, run it and a step of training, both in graphs: a variable, bytes of weights."""
    architecture, options = KINDS[kind]
    model = zoo.load(architecture, pretrained=False, **options)
    x = example(model)
    compiled(model)(*(x if isinstance(x, list) else [x]))

    @tf.function(autograph=False)
    def step(x):
        with tf.GradientTape() as tape:
            outputs = tf.nest.flatten(model(x, training=True))
            loss = tf.add_n([tf.reduce_sum(tf.cast(y, tf.float32) ** 2) for y in outputs])
        grads = tape.gradient(loss, [v.value for v in model.trainable_variables])
        return [tf.reduce_sum(tf.convert_to_tensor(g)) for g in grads if g is not None]

    step(x)
    if kind.startswith(("resnet", "vit")):
        model.classify(np.zeros((40, 40, 3), np.uint8))
    variable = model.trainable_variables[0]
    return weakref.ref(variable), sum(v.numpy().nbytes for v in model.weights)


def growth(kind: str, loads: int) -> dict[str, float | bool]:
    """Megabytes that stay of one load, by resident memory, and what was to be expected."""
    libc, resident, dead = ctypes.CDLL(None), [], True
    # memory is touched as soon as it is allocated: the pool that TensorFlow has with oneDNN would
    # else become resident bit by bit, over dozens of loads, though it grows no more
    libc.mallopt(_M_PERTURB, 1)
    for _ in range(loads):
        variable, size = use_once(kind)
        gc.collect()
        libc.malloc_trim(0)
        dead &= variable() is None
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        resident.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
    stays = (resident[-1] - resident[3]) / (loads - 4)
    weights = size / 2**20
    right = dead and stays < max(2.0, 0.05 * weights)
    return {"weights": round(weights, 1), "stays": round(stays, 2), "dead": dead, "right": right}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=list(KINDS), metavar="KIND")
    parser.add_argument("--loads", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = {}
    for kind in arguments.kinds:
        rows[kind] = row = growth(kind, arguments.loads)
        if not arguments.json:
            verdict = "" if row["right"] else "  WRONG"
            print(f"{kind:12} {row['weights']:6} MB, stays {row['stays']:6} MB a load{verdict}")
    if arguments.json:
        print(json.dumps(rows))
    if not all(row["right"] for row in rows.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
