"""Compare every architecture name with its reference, and write docs/parity.md.

Each name is built by both libraries with the same random weights and shaken statistics, and run on
odd, rectangular images (even ones where the reference takes no others). Results are kept in
.parity/results.json as they come, so that a run that was stopped goes on where it was; where there
are none, those of the table are taken. Run by `make parity-all`; `--only 'resnet50*'` limits it,
`--again` starts anew.
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import gc
import json
import sys
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tqdm import tqdm

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "parity")]

from image_models import (  # noqa: E402
    exact_error,
    figures,
    make_pair,
    passes,
    resized,
    size_for,
)
from kinds import FAMILIES  # noqa: E402
from reference import timm, torch  # noqa: E402

from zoo.registry import registry  # noqa: E402

RESULTS = ROOT / ".parity" / "results.json"
TABLE = ROOT / "docs" / "parity.md"
COLUMNS = 9  # of the table
LARGE = 300e6  # parameters; above it, with the options of `sweep` in tests/kinds.toml


def compare(name: str, params: int) -> dict[str, Any]:
    family = FAMILIES[registry.architecture_card(name).family]
    reduced = family.options("sweep", name) if params > LARGE else {}
    pair = make_pair(name, **reduced)
    size = size_for(pair)
    result = {
        "params": params,
        "size": list(size),
        "reduced": ", ".join(map(str, reduced.values())),
        **figures(pair),
    }
    if pair.family.resize is not None:
        patch = pair.config.patch_size
        other = ((size[0] // patch // 2 + 1) * patch, (size[1] // patch // 3 + 1) * patch)
        result |= {"other size": list(other), "other": exact_error(resized(pair, other))}
    del pair
    keras.backend.clear_session()
    gc.collect()
    return result


def earlier() -> dict[str, dict[str, Any]]:
    """What was found before: results of this machine, or the rows of the table."""
    if RESULTS.exists():
        return json.loads(RESULTS.read_text(encoding="utf-8"))
    rows = (line.strip("| \n").split(" | ") for line in TABLE.read_text("utf-8").splitlines())
    return {row[0]: from_row(row) for row in rows if len(row) == COLUMNS and row[1].endswith(" M")}


def from_row(row: list[str]) -> dict[str, Any]:
    """The inverse of a row of the table, to its digits."""
    _, params, size, *figures, other, depth = row
    keys = ("float64", "maps", "float32", "reference float32")
    found = {
        "params": float(params.removesuffix(" M")) * 1e6,
        "size": [int(edge) for edge in size.split("x")],
        "reduced": "" if depth == "full" else depth.removeprefix("reduced to "),
        **dict(zip(keys, map(float, figures), strict=True)),
    }
    if other.strip():
        error, _, edges = other.strip(" )").partition(" (")
        found |= {"other": float(error), "other size": [int(edge) for edge in edges.split("x")]}
    return found


def table(results: dict[str, dict[str, Any]], total: int) -> str:
    failed = [name for name, row in results.items() if not passes(row)]
    lines = [
        "# Parity with timm",
        "",
        "Written by `make parity-all`; do not edit. Relative errors (norm of the difference over "
        "norm of the reference) on random weights with shaken statistics. *float64* is the output "
        "and *maps* the worst of the feature maps, both in float64, bound 1e-9. *float32* is zoo "
        "in float32 against the reference in float64, bound the larger of 1e-5 and twice "
        "*timm float32*, the reference's own float32 error. *other size* is the output in float64 "
        "where both resample the positions of a Vision Transformer to the size given, bound 1e-9.",
        "",
        f"{datetime.date.today().isoformat()}: timm {timm.__version__}, torch {torch.__version__}, "
        f"TensorFlow {tf.__version__}, Keras {keras.__version__}, on a CPU. "
        f"{len(results)} of {total} names compared, {len(results) - len(failed)} within the bounds"
        + (f"; outside: {', '.join(failed)}." if failed else "."),
        "",
        "| architecture | parameters | image | float64 | maps | float32 | timm float32 "
        "| other size | depth |",
        "|---|---:|---|---:|---:|---:|---:|---|---|",
    ]
    for name, row in sorted(results.items()):
        size = "x".join(map(str, row["size"]))
        figures = " | ".join(
            f"{row[k]:.1e}" for k in ("float64", "maps", "float32", "reference float32")
        )
        other = "x".join(map(str, row.get("other size", ())))
        other = f"{row['other']:.1e} ({other})" if other else ""
        depth = f"reduced to {row['reduced']}" if row["reduced"] else "full"
        lines.append(
            f"| {name} | {row['params'] / 1e6:.1f} M | {size} | {figures} | {other} | {depth} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="*", help="glob of architecture names")
    parser.add_argument("--again", action="store_true", help="forget earlier results")
    arguments = parser.parse_args()
    results = {} if arguments.again else earlier()
    cards = [registry.architecture_card(n) for n in registry.list_architectures()]
    params = {c.name: c.num_params or 0 for c in cards if timm.is_model(c.name)}
    todo = [n for n in params if fnmatch.fnmatchcase(n, arguments.only) and n not in results]
    todo.sort(key=params.__getitem__)
    RESULTS.parent.mkdir(exist_ok=True)
    try:
        for name in (progress := tqdm(todo, unit="architecture")):
            progress.set_description(name)
            results[name] = compare(name, params[name])
            RESULTS.write_text(json.dumps(results, indent=1), encoding="utf-8")
            if not passes(results[name]):
                tqdm.write(f"outside the bounds: {name} {results[name]}")
    finally:  # what was found stands there, also when it is broken off
        TABLE.write_text(table(results, len(params)), encoding="utf-8")
    sys.exit(not all(map(passes, results.values())))


if __name__ == "__main__":
    main()
