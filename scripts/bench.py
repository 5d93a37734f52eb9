"""Compare zoo with its peers: load time, peak memory and speed of inference, on this machine.

    python scripts/bench.py [--only KIND ...] [--models MODEL ...] [--repeats N] [--json FILE]

Kinds are `load` and `inference` of the image models, `lstm` (two layers of 512 over 256 steps, run
and trained, and the load of a language model), `speech` (silero_vad beside onnxruntime),
`attention` (memory at 8192 tokens, and time beside torch), `pipeline` (augmented images beside
torch's DataLoader with timm's transform), `head` (fine-tuning on features that are kept),
`training` (a full fine-tuning step beside torch with timm's model) and `text` (BERT, embeddings and
GPT-2 beside transformers and keras-hub).

Every figure comes from a process of its own, and the contenders take turns (A B C A B C ...), so
that a busy machine is as busy for each; tables give medians with the least and the most. Loading is
measured with the libraries imported, from the call to a model whose weights are in memory. Nothing
is downloaded: all contenders read the same random weights, which timm and keras-hub wrote before.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks import recurrent
from benchmarks.contenders import LOADERS, RUNNERS
from rich.console import Console
from rich.progress import track
from rich.table import Table

PACKAGES = ("tfzoo", "tensorflow", "keras", "keras-hub", "timm", "torch", "numpy")
SCRIPTS = ("speech", "attention", "pipeline", "head", "training", "text")  # files in benchmarks
KINDS = ("load", "inference", "lstm", *SCRIPTS)
TIMEOUT = 900  # seconds for one measurement

# what zoo sets out to reach
TIME_RATIOS = {"resnet50": 0.5, "vit_base_patch16_224": 0.25}  # of the fastest peer's time
MEMORY_RATIO, MEMORY_MB = 1.1, 40  # of the file, and above it

Sample = dict[str, Any]
Samples = dict[str, list[Sample]]

console = Console()


def main() -> None:
    options = _options()
    kinds = options.only or KINDS
    report: dict[str, Any] = {"machine": machine(), "versions": versions(), "models": {}}
    for title in ("machine", "versions"):
        console.print(", ".join(f"{k} {v}" for k, v in report[title].items()), highlight=False)
    for model in options.models if {"load", "inference"} & set(kinds) else ():
        with tempfile.TemporaryDirectory(prefix="zoo-bench-") as folder:
            report["models"][model] = compare(model, Path(folder), kinds, options.repeats)
    if "lstm" in kinds:
        report["lstm"] = compare_lstm(options.repeats)
    for kind in SCRIPTS:
        if kind in kinds:
            path = Path(__file__).parent / "benchmarks" / f"{kind}.py"
            subprocess.run([sys.executable, path], check=False)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", choices=KINDS, nargs="+")
    parser.add_argument("--models", nargs="+", default=list(TIME_RATIOS), help="names in timm")
    parser.add_argument("--repeats", type=int, default=5, help="rounds, each with every contender")
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    return parser.parse_args()


# ---------------------------------------------------------------- measuring


def compare(model: str, folder: Path, kinds: Sequence[str], repeats: int) -> dict[str, Any]:
    """Measure one model and print its tables; gives every sample."""
    if error := measure("timm", model, folder).get("error"):
        raise SystemExit(f"timm cannot write {model}: {error}")
    size = (folder / "timm" / "model.safetensors").stat().st_size / 1e6
    found: dict[str, Any] = {"file_mb": size}
    if "load" in kinds:
        measure("keras_hub", model, folder)  # without it, the row says that there is no preset
        agreement = agreements({n: folder / loader.reads for n, loader in LOADERS.items()})
        loads = {
            n: folder / LOADERS[n].reads for n, error in agreement.items() if error is not None
        }
        found["load"] = rounds("load", loads, repeats)
        found["agreement"] = agreement
        print_load(model, size, found["load"], agreement)
    if "inference" in kinds:
        found["inference"] = rounds("inference", dict.fromkeys(RUNNERS, folder / "timm"), repeats)
        print_speed(f"Running {model}, float32, 224 x 224", "images", found["inference"])
    return found


def compare_lstm(repeats: int) -> dict[str, Samples]:
    """LSTM layers beside those of others, and the load of a language model; prints the tables."""
    found: dict[str, Samples] = {}
    shape = f"{recurrent.LAYERS} x {recurrent.WIDTH}, {recurrent.STEPS} steps, float32"
    with tempfile.TemporaryDirectory(prefix="zoo-bench-") as name:
        folder = Path(name)
        for kind, title in (("lstm", "Running"), ("lstm_training", "Gradients of")):
            contenders = dict.fromkeys(recurrent.RUNNERS, folder)
            found[kind] = rounds(kind, contenders, repeats)
            print_speed(f"{title} an LSTM, {shape}", "sequences", found[kind])
        measure("language_model", "zoo", folder)
        contenders = dict.fromkeys(recurrent.LOADERS, folder)
        found["load"] = rounds("lstm_load", contenders, repeats)
        size = (folder / "model.safetensors").stat().st_size / 1e6
        print_load("an AWD-LSTM", size, found["load"], {})
    return found


def rounds(kind: str, folders: dict[str, Path], repeats: int) -> Samples:
    """Measure each contender once a round."""
    samples: Samples = {name: [] for name in folders}
    turns = [(name, folder) for _ in range(repeats) for name, folder in folders.items()]
    for name, folder in track(turns, f"{kind} ...", console=console, transient=True):
        sample = measure(kind, name, folder)
        if "error" in sample:
            console.print(f"{name}: {sample['error']}", style="red", highlight=False)
        else:
            samples[name].append(sample)
    return samples


def agreements(folders: dict[str, Path]) -> dict[str, float | None]:
    """How far each loaded model's logits for one input are from zoo's; None where it cannot load.

    These loads are not timed: they also bring the files and the libraries into the disk cache.
    """
    logits = {}
    for name, folder in track(folders.items(), "warming up ...", console=console, transient=True):
        sample = measure("logits", name, folder)
        logits[name] = sample.get("logits")
        if "error" in sample:
            console.print(f"{name}: {sample['error']}", style="red", highlight=False)
    ours = np.array(logits["zoo"])
    return {
        name: None
        if theirs is None
        else float(np.linalg.norm(theirs - ours) / np.linalg.norm(ours))
        for name, theirs in logits.items()
    }


def measure(kind: str, name: str, folder: Path) -> Sample:
    """Run `benchmarks.measure` in a fresh process; a failure is an `error` with its last line."""
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    environment = os.environ | quiet | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "benchmarks.measure", kind, name, str(folder)]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {TIMEOUT} s"}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]}
    return json.loads(done.stdout.splitlines()[-1]) or {}


# ---------------------------------------------------------------- printing


def print_load(
    model: str, size: float, samples: Samples, agreement: dict[str, float | None]
) -> None:
    table = Table(title=f"Loading {model}, a file of {size:.1f} MB")
    for title in ("", "seconds", "CPU seconds", "peak MB above imports", "logits off zoo's"):
        table.add_column(title, justify="right" if title else "left")
    for name, runs in samples.items():
        figures = [spread(runs, key, form) for key, form in _LOAD_FIGURES]
        table.add_row(name, *figures, f"{agreement[name]:.0e}" if agreement else "")
    console.print(table)
    peers = [name for name, runs in samples.items() if name != "zoo" and runs]
    if not peers or not samples["zoo"]:
        return
    for key, title in (("seconds", "time"), ("cpu_seconds", "CPU time")):
        peer = min(peers, key=lambda name: median(samples[name], key))
        ratio = paired_ratio(samples["zoo"], samples[peer], key)
        wanted = TIME_RATIOS.get(model) if key == "seconds" else None
        target = f" (target: at most {wanted:.2f})" if wanted else ""
        console.print(f"{title}: zoo / {peer}, the fastest peer = {ratio:.2f}{target}")
    bound = MEMORY_RATIO * size + MEMORY_MB
    peak = median(samples["zoo"], "peak_mb")
    formula = f"{MEMORY_RATIO} x file + {MEMORY_MB} MB"
    console.print(f"peak memory: zoo {peak:.0f} MB (target: at most {bound:.0f} MB = {formula})")


_LOAD_FIGURES = (("seconds", ".2f"), ("cpu_seconds", ".2f"), ("peak_mb", ".0f"))


def print_speed(heading: str, noun: str, samples: Samples) -> None:
    table = Table(title=heading)
    for title in ("", "batch", f"{noun} / s", "CPU ms for one", "zoo is faster by"):
        table.add_column(title, justify="right" if title else "left")
    batches = next((list(runs[0]) for runs in samples.values() if runs), [])
    for batch in batches:
        by_batch = {name: [run[batch] for run in runs] for name, runs in samples.items()}
        ours = next(iter(by_batch.values()))
        for name, runs in by_batch.items():
            speed = spread(runs, "per_second", ".1f")
            cpu = spread(runs, "cpu_ms", ".0f")
            ratio = paired_ratio(ours, runs, "per_second")
            table.add_row(name, batch, speed, cpu, f"{ratio:.2f}" if ours is not runs else "")
        table.add_section()
    console.print(table)


def median(runs: Iterable[Sample], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def spread(runs: Sequence[Sample], key: str, form: str) -> str:
    """The median, and from where to where the runs reach."""
    if not runs:
        return "-"
    values = [run[key] for run in runs]
    return f"{median(runs, key):{form}}  ({min(values):{form}} - {max(values):{form}})"


def paired_ratio(ours: Sequence[Sample], theirs: Sequence[Sample], key: str) -> float:
    """The median of the ratios round by round, which a machine's changing load hardly moves."""
    pairs = list(zip(ours, theirs, strict=False))
    return statistics.median(a[key] / b[key] for a, b in pairs) if pairs else float("nan")


# ---------------------------------------------------------------- where it ran


def machine() -> dict[str, str]:
    """What the figures depend on, but for the versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GB",
        "system": platform.platform(),
        "load average": f"{os.getloadavg()[0]:.1f}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions() -> dict[str, str]:
    installed = {d.metadata["Name"] for d in metadata.distributions()}
    found = {p: metadata.version(p) for p in PACKAGES if p in installed}
    return {"python": platform.python_version()} | found


if __name__ == "__main__":
    main()
