"""Voice-activity detection: how much faster than real time zoo is, beside onnxruntime.

    python scripts/benchmarks/speech.py

All contenders take turns in one process on the same minute of audio. zoo and the package's
model for sequences get it at once; `silero_vad.onnx` gets one window after another, as
`get_speech_timestamps` does. The package sets one thread; two are measured besides.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

RATE = 16_000  # Hz
SECONDS = 60

Run = Callable[[np.ndarray], Any]


def contenders() -> dict[str, Run]:
    """Each takes samples `[t]` and gives the probabilities of their windows."""
    import silero_vad
    from silero_vad.sequence_vad import SileroVADSequence
    from silero_vad.utils_vad import OnnxWrapper

    import zoo

    data = Path(silero_vad.__file__).parent / "data"
    model = zoo.load("silero_vad", weights=data / "silero_vad_16k.safetensors")
    found: dict[str, Run] = {"zoo": model.speech_probabilities}
    for threads in (1, 2):
        title = f"onnxruntime, {threads} thread{'s' * (threads > 1)}"
        windowed = OnnxWrapper(str(data / "silero_vad.onnx"))
        whole = SileroVADSequence(str(data / "silero_vad_16k_sequence.onnx"))
        for wrapper, file in (
            (windowed, "silero_vad.onnx"),
            (whole, "silero_vad_16k_sequence.onnx"),
        ):
            wrapper.session = _session(data / file, threads)
        found[f"{title}, window by window"] = _by_tensor(windowed)
        found[f"{title}, sequence"] = whole.audio_forward
    return found


def _session(path: Path, threads: int) -> Any:
    """As the package makes it, but for the threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )


def _by_tensor(wrapper: Any) -> Run:
    import torch

    return lambda samples: wrapper.audio_forward(torch.from_numpy(samples)[None], RATE)


def speeds(rounds: int = 5) -> dict[str, list[float]]:
    """Seconds of audio per second of work, each contender once a round, after one to warm up."""
    samples = np.random.default_rng(0).normal(size=SECONDS * RATE).astype(np.float32) / 10
    runs = contenders()
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run(samples)
            if turn:
                found[name].append(SECONDS / (time.perf_counter() - start))
    return found


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    found = speeds()
    ours = found["zoo"]
    print(f"{SECONDS} s of audio, times real time: median (least - most), zoo is faster by")
    for name, values in found.items():
        ratio = statistics.median(a / b for a, b in zip(ours, values, strict=True))
        middle = f"{statistics.median(values):6.0f}  ({min(values):.0f} - {max(values):.0f})"
        print(f"{name:44} {middle:24} {ratio:.2f}")


if __name__ == "__main__":
    main()
