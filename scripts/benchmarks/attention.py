"""Scaled dot-product attention: peak memory on a long input, and time beside torch.

    python scripts/benchmarks/attention.py [--rounds N] [--lengths T ...]

Memory is that of 1 x 12 heads x 8192 tokens x 64 in float32, in a process of its own whose graph
has run on a small input before: the peak above what was resident before the inputs were made, over
the size of inputs and outputs. For time, the contenders take turns in one process, each round in
the other order. The gradient is timed with the forward pass that it needs.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.measure import peak_resident, resident

HEADS, WIDTH = 12, 64
LONG, SMALL = 8192, 64  # tokens
LENGTHS = (197, 577, 1025, 2048, LONG)
PLAIN_MOST = 2048  # beyond, all logits at once take gigabytes

Run = Callable[[], Any]


def inputs(tokens: int, count: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    shape = (1, HEADS, tokens, WIDTH)
    return [rng.standard_normal(shape, dtype=np.float32) for _ in range(count)]


# ---------------------------------------------------------------- memory


def memory(with_gradient: bool) -> float:
    """Peak above what was there before the inputs were made, over inputs and outputs.

    With the gradient, these are also the gradients of outputs and inputs.
    """
    import tensorflow as tf

    from zoo.layers.kernels.attention import attend

    signature = [tf.TensorSpec((1, HEADS, None, WIDTH))] * (4 if with_gradient else 3)
    run = tf.function(
        _tf_gradient(attend) if with_gradient else attend,
        input_signature=signature,
        autograph=False,
    )

    def call(tokens: int) -> Any:
        # an array of numpy would be there twice, and `tf.random.normal` makes copies on its way
        shape = (1, HEADS, tokens, WIDTH)
        make = functools.partial(tf.raw_ops.RandomStandardNormal, shape=shape, dtype=tf.float32)
        return run(*(make() for _ in signature))

    call(SMALL)
    before = resident()
    outputs = call(LONG)
    peak = peak_resident() - before
    del outputs  # held until here
    return peak / ((8 if with_gradient else 4) * HEADS * LONG * WIDTH * 4)


def _in_own_process(with_gradient: bool) -> float:
    command = [sys.executable, __file__, "--memory", "gradient" if with_gradient else "forward"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


# ---------------------------------------------------------------- time


def _tf_gradient(function: Callable[..., Any]) -> Callable[..., Any]:
    import tensorflow as tf

    def gradient(query, key, value, upstream):
        with tf.GradientTape() as tape:
            tape.watch((query, key, value))
            outputs = function(query, key, value)
        return outputs, *tape.gradient(outputs, (query, key, value), upstream)

    return gradient


def contenders(tokens: int, with_gradient: bool) -> dict[str, Run]:
    """Runs by name; zoo's own choice comes first."""
    import tensorflow as tf

    from zoo.layers.kernels import attention

    arrays = inputs(tokens, 4 if with_gradient else 3)
    tensors = [tf.constant(x) for x in arrays]
    ways = {"zoo": attention.attend, "zoo, blockwise": attention.blockwise}
    ways |= {"zoo, plain": attention.plain} if tokens <= PLAIN_MOST else {}
    found: dict[str, Run] = {}
    for name, way in ways.items():
        run = tf.function(_tf_gradient(way) if with_gradient else way, autograph=False)
        found[name] = functools.partial(lambda run: [x.numpy() for x in run(*tensors)], run)
    return found | {"torch": _torch(arrays, with_gradient)}


def _torch(arrays: Sequence[np.ndarray], with_gradient: bool) -> Run:
    import torch

    attend = torch.nn.functional.scaled_dot_product_attention
    tensors = [torch.from_numpy(x).requires_grad_(with_gradient) for x in arrays[:3]]

    def forward() -> Any:
        with torch.inference_mode():
            return attend(*tensors).numpy()

    def gradient() -> Any:
        grads = torch.autograd.grad(attend(*tensors), tensors, torch.from_numpy(arrays[3]))
        return [grad.numpy() for grad in grads]

    return gradient if with_gradient else forward


def times(tokens: int, with_gradient: bool, rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender, once a round, after one to warm up."""
    runs = contenders(tokens, with_gradient)
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        # in both orders, since threads of one still spin when the next begins
        for name, run in list(runs.items())[:: 1 if turn % 2 else -1]:
            start = time.perf_counter()
            run()
            if turn:
                found[name].append(time.perf_counter() - start)
    return found


# ---------------------------------------------------------------- printing


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    options = _options()
    if options.memory:
        print(memory(options.memory == "gradient"))
        return
    print(f"1 x {HEADS} heads x tokens x {WIDTH}, float32")
    for title, with_gradient in (("forward", False), ("gradient", True)):
        ratio = _in_own_process(with_gradient)
        print(f"{title}, {LONG} tokens: peak memory / inputs and outputs = {ratio:.2f}")
    print("\nms: median (least - most), and the median ratio to torch, round by round")
    for title, with_gradient in (("forward", False), ("gradient", True)):
        for tokens in options.lengths:
            _print(f"{title}, {tokens} tokens", times(tokens, with_gradient, options.rounds))


def _print(title: str, found: dict[str, list[float]]) -> None:
    for name, values in found.items():
        pairs = zip(values, found["torch"], strict=True)
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        low, middle, high = (1e3 * pick(values) for pick in (min, statistics.median, max))
        spread = f"{middle:8.1f}  ({low:.1f} - {high:.1f})"
        print(f"{title:24} {name:16} {spread:30} {ratio:.2f}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="in tokens")
    parser.add_argument("--memory", choices=("forward", "gradient"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
