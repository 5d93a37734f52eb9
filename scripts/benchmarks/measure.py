"""One measurement, in a process of its own: prints a JSON object as its last line.

python -m benchmarks.measure (timm | keras_hub) MODEL FOLDER     writes the files
python -m benchmarks.measure (logits | load | inference) CONTENDER FOLDER
python -m benchmarks.measure (lstm | lstm_training | lstm_load) CONTENDER FOLDER
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import recurrent
from benchmarks.contenders import LOADERS, RUNNERS, Images, write_keras_hub, write_timm

SIZE = 224
BATCHES = (1, 32)
SECONDS = 3.0  # how long one batch size is run, at least


def load(contender: str, folder: Path) -> dict[str, float]:
    """Seconds and CPU seconds of one load, and its peak memory above the imports in MB."""
    return _loading(LOADERS[contender].prepare(folder))


def lstm_load(contender: str, folder: Path) -> dict[str, float]:
    """The same of a language model."""
    return _loading(recurrent.LOADERS[contender](folder))


def _loading(load_model: Callable[[], Any]) -> dict[str, float]:
    before = resident()
    cpu, start = time.process_time(), time.perf_counter()
    model = load_model()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = peak_resident() - before
    del model  # held until here
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak / 1e6}


def logits(contender: str, folder: Path) -> dict[str, list]:
    """The loaded model's answer to one fixed input: it shows that the same weights were loaded."""
    loader = LOADERS[contender]
    outputs = loader.logits(loader.prepare(folder)(), _images(1))
    return {"logits": outputs.ravel().tolist()}


def inference(contender: str, folder: Path) -> dict[str, dict[str, float]]:
    """Images per second and CPU milliseconds for each, by batch size."""
    bind = RUNNERS[contender](folder)
    return {str(batch): _throughput(bind(_images(batch)), batch) for batch in BATCHES}


def lstm(contender: str, folder: Path) -> dict[str, dict[str, float]]:
    """Sequences per second and CPU milliseconds for each, by batch size."""
    bind = recurrent.RUNNERS[contender]()
    return {str(batch): _throughput(bind(batch), batch) for batch in recurrent.BATCHES}


def lstm_training(contender: str, folder: Path) -> dict[str, dict[str, float]]:
    """The same with the gradients of all weights."""
    bind = recurrent.TRAINERS[contender]()
    return {str(batch): _throughput(bind(batch), batch) for batch in recurrent.BATCHES}


def write_language_model(_: str, folder: Path) -> None:
    recurrent.write_language_model(folder)


def _throughput(run: Callable[[], Any], batch: int) -> dict[str, float]:
    for _ in range(2):  # traces or compiles, and lets buffers settle
        run()
    seconds: list[float] = []
    cpu, end = time.process_time(), time.perf_counter() + SECONDS
    while len(seconds) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    cpu = (time.process_time() - cpu) / (len(seconds) * batch)
    return {
        "per_second": batch / statistics.median(seconds),
        "cpu_ms": 1e3 * cpu,
    }


def _images(batch: int) -> Images:
    shape = (batch, SIZE, SIZE, 3)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def resident() -> int:
    """Bytes of memory that the process holds now; its recorded peak starts anew where it can."""
    if not _STATUS.exists():
        return peak_resident()
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak_resident() -> int:
    """The most bytes of memory that the process has held."""
    if _STATUS.exists():
        return _status("VmHWM")
    # Linux does not clear this figure of the parent's at exec, so it is used elsewhere alone
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


_STATUS = Path("/proc/self/status")


def _status(field: str) -> int:
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return int(lines[field].split()[0]) * 1024


def main(kind: str, name: str, folder: str) -> None:
    measures: dict[str, Callable[[str, Path], Any]] = {
        "timm": write_timm,
        "keras_hub": write_keras_hub,
        "logits": logits,
        "load": load,
        "inference": inference,
        "language_model": write_language_model,
        "lstm": lstm,
        "lstm_training": lstm_training,
        "lstm_load": lstm_load,
    }
    print("\n" + json.dumps(measures[kind](name, Path(folder))))


if __name__ == "__main__":
    main(*sys.argv[1:])
