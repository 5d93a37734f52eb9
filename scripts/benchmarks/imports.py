"""What `zoo/_keras_hook.py` adds to imports: fresh processes with it and without it, in turns.

    python scripts/benchmarks/imports.py [--processes N]

The times are of the process's own work on the CPU, apart from how busy the machine is. Importing
Keras takes seconds and varies by more than the hook could cost, so the last column has what the
hook's own work takes, measured inside of the process. The target is below 5 ms in each row.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

TARGET = 5.0  # ms
WITHOUT = """
import sys, types
hook = sys.modules["zoo._keras_hook"] = types.ModuleType("zoo._keras_hook")
hook.install = lambda: None
"""
WITHIN = """
import time, zoo._keras_hook as hook
work, own = hook._imported, []
def timed():
    start = time.process_time(); work(); own.append(time.process_time() - start)
hook._imported = timed
"""
ORDERS = {
    "import zoo": ("", "import zoo"),
    "import zoo, after keras": ("import keras", "import zoo"),
    "import keras, after zoo": (f"import zoo{WITHIN}", "import keras"),
}


def cpu_times(before: str, timed: str, *, hook: bool) -> tuple[float, float]:
    """Milliseconds of CPU time that a fresh process takes to run `timed`, and the hook in it."""
    before = before if hook else f"{WITHOUT}\n{before.removesuffix(WITHIN)}"
    code = (
        f"own = []\n{before}\nimport time; start = time.process_time(); {timed}\n"
        "print(1e3 * (time.process_time() - start), 1e3 * sum(own))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    total, own = map(float, done.stdout.split()[-2:])
    return total, own


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--processes", type=int, default=20, help="fresh ones of each kind")
    options = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    print(f"medians of {options.processes} in ms: with the hook, without, difference, own work")
    for order, (before, timed) in ORDERS.items():
        times: dict[bool, list[float]] = {True: [], False: []}
        inside: list[float] = []
        for turn in range(2 * options.processes):
            hook = turn % 2 == 0
            total, own = cpu_times(before, timed, hook=hook)
            times[hook].append(total)
            inside += [own] * hook
        with_it, without = (statistics.median(times[hook]) for hook in (True, False))
        middle = statistics.median(inside)
        row = [f"{ms:.2f}" for ms in (with_it, without, with_it - without)]
        print(f"{order:25}", *row, f"{middle:.2f}" if middle else "", flush=True)
    print(f"target: a difference below {TARGET:g}")


if __name__ == "__main__":
    main()
