"""Text models beside transformers and keras-hub: encoders, embeddings, load, generation.

    python scripts/benchmarks/text.py [--only KIND ...] [--rounds N]

Kinds: `encoder` is BERT-base on batches of 128 tokens without padding, `embedding` all texts of a
set of mixed lengths to vectors with MiniLM's shape, text included, which transformers takes sorted
by length as sentence-transformers does; `load` is BERT-base from safetensors to the first output,
each in a process of its own; `generation` is GPT-2, greedy, from 16 tokens. Weights are random:
they are made by transformers. Contenders take turns in one process (but for loads), and the ratio
is the median of the rounds' ratios. TensorFlow runs with oneDNN, for zoo and keras-hub alike,
unless the environment says otherwise; where the shape is one, both stand there with XLA, too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
for folder in ("scripts", "tests/parity", "tests"):
    sys.path.insert(0, str(ROOT / folder))

from benchmarks.turns import Samples, in_turns, ratio, spread  # noqa: E402

KINDS = ("encoder", "embedding", "load", "generation")
LENGTH = 128
SECONDS = 2.0  # of one measurement at least
TEXTS, NEW_TOKENS = 256, 64
MINI = {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}
TARGETS = {"encoder": 1.0, "embedding": 1.05, "generation": 1.5}

Measure = Callable[[], float]
console = Console()


def per_second(call: Callable[[], object], count: int) -> Measure:
    """Measures how many of `count` things that a call does are done in a second."""

    def measure() -> float:
        calls, begun = 0, time.perf_counter()
        while (spent := time.perf_counter() - begun) < SECONDS or not calls:
            call()
            calls += 1
        return calls * count / spent

    return measure


def written(folder: Path, kind: str, **options: Any) -> Any:
    """A model of transformers with random weights, which is saved in the folder."""
    from reference import torch
    import transformers  # isort: skip  (it needs what `reference` defines)

    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**options)
    model = getattr(transformers, "GPT2LMHeadModel" if kind == "GPT2" else f"{kind}Model")(config)
    model.save_pretrained(folder)
    return model.eval()


# ---------------------------------------------------------------- an encoder


def encoder(folder: Path, batch: int, dtype: str) -> dict[str, Measure]:
    """BERT-base on `batch` texts of `LENGTH` tokens."""
    import keras_hub
    import tensorflow as tf
    from reference import torch

    import zoo
    from zoo.tasks.graphs import compiled

    reference = written(folder, "Bert").to(getattr(torch, dtype))
    model = zoo.load(folder, dtype=dtype)  # which its compiled pass does not keep alive
    theirs = keras_hub.models.Backbone.from_preset(str(folder), dtype=dtype)
    steps = {
        jit: tf.function(lambda x: theirs(x, training=False), jit_compile=jit)
        for jit in (False, True)
    }
    ids = np.random.default_rng(0).integers(5, 30000, (batch, LENGTH), dtype=np.int32)
    mask, types = np.ones_like(ids), np.zeros_like(ids)
    named = {"input_ids": tf.constant(ids), "attention_mask": tf.constant(mask)}
    padded = {"token_ids": ids, "padding_mask": mask, "segment_ids": types}
    tensors = {k: torch.tensor(np.asarray(v)) for k, v in named.items()}

    def in_torch() -> object:
        with torch.inference_mode():
            return reference(**tensors).last_hidden_state

    def in_zoo(jit: bool) -> object:
        model.jit_verbs = jit
        return np.asarray(compiled(model)(named)["last_hidden_state"])

    calls: dict[str, Callable[[], object]] = {
        "zoo": partial(in_zoo, False),
        "zoo, XLA": partial(in_zoo, True),
        "transformers": in_torch,
        "keras-hub": lambda: np.asarray(steps[False](padded)["sequence_output"]),
        "keras-hub, XLA": lambda: np.asarray(steps[True](padded)["sequence_output"]),
    }
    return {name: per_second(call, batch) for name, call in calls.items()}


# ---------------------------------------------------------------- embeddings


def embedding(folder: Path) -> dict[str, Measure]:
    """Texts of mixed lengths, from characters to vectors."""
    import transformers
    from reference import torch
    from synthetic_texts import MINILM
    from texts import documentation_strings

    import zoo

    texts = [text for _, text in documentation_strings() if len(text) > 20]
    rng = np.random.default_rng(0)
    chosen = [texts[k] for k in rng.choice(len(texts), TEXTS, replace=False)]
    tokenizer = transformers.AutoTokenizer.from_pretrained(MINILM)
    reference = transformers.AutoModel.from_pretrained(MINILM).eval()
    ours = zoo.load(MINILM)

    def in_torch() -> np.ndarray:
        order = np.argsort([-len(text) for text in chosen])
        rows = []
        with torch.inference_mode():
            for start in range(0, TEXTS, 32):
                batch = [chosen[k] for k in order[start : start + 32]]
                options = {"padding": True, "truncation": True, "max_length": 256}
                x = tokenizer(batch, return_tensors="pt", **options)
                tokens = reference(**x).last_hidden_state
                kept = x["attention_mask"][..., None].float()
                mean = (tokens * kept).sum(1) / kept.sum(1)
                rows.append(torch.nn.functional.normalize(mean, dim=1))
        return torch.cat(rows).numpy()[np.argsort(order)]

    difference = np.abs(ours.embed(chosen) - in_torch()).max()
    console.print(f"largest difference between the vectors: {difference:.1e}")
    return {
        "zoo": per_second(lambda: ours.embed(chosen), TEXTS),
        "transformers": per_second(in_torch, TEXTS),
    }


# ---------------------------------------------------------------- generation


def generation(folder: Path) -> dict[str, Measure]:
    """Greedy tokens of GPT-2."""
    from reference import torch

    import zoo
    from zoo.tasks.decoding import Decoder

    reference, ours = written(folder, "GPT2"), zoo.load(folder)
    ids = np.random.default_rng(0).integers(5, 50000, (1, 16))

    def in_zoo(jit: bool) -> list[int]:
        ours.jit_verbs = jit
        decoder, tokens = Decoder(ours, 1, 16 + NEW_TOKENS, most=1024), []
        logits = decoder.read(ids)
        for _ in range(NEW_TOKENS):
            tokens.append(int(logits[0].argmax()))
            logits = decoder.read(np.array([tokens[-1:]]))
        return tokens

    def in_torch() -> list[int]:
        options = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "eos_token_id": None}
        with torch.inference_mode():
            found = reference.generate(torch.tensor(ids), pad_token_id=0, **options)
        return found[0, 16:].tolist()

    same = in_zoo(False) == in_zoo(True) == in_torch()
    console.print(f"the same tokens: {same}")
    return {
        "zoo": per_second(partial(in_zoo, False), NEW_TOKENS),
        "zoo, XLA": per_second(partial(in_zoo, True), NEW_TOKENS),
        "transformers": per_second(in_torch, NEW_TOKENS),
    }


# ---------------------------------------------------------------- loads

LOADS = {
    "zoo": "import zoo, zoo.loading.assembling; load = lambda: zoo.load(folder)",
    "keras-hub": ("import keras_hub; load = lambda: keras_hub.models.Backbone.from_preset(folder)"),
    "transformers": (
        "from reference import torch; import transformers; "
        "load = lambda: transformers.AutoModel.from_pretrained(folder)"
    ),
}
_MEASURED = """
import json, sys, time, psutil, resource
folder = sys.argv[1]
{load}
before, begun = psutil.Process().memory_info().rss, time.perf_counter()
model = load()
seconds = time.perf_counter() - begun
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps([seconds, (peak - before) / 1e6]))
"""


def loads(folder: Path, rounds: int) -> None:
    """Seconds and memory of the load of BERT-base, each in a process of its own."""
    written(folder, "Bert")
    size = (folder / "model.safetensors").stat().st_size / 1e6
    memory: dict[str, list[float]] = {name: [] for name in LOADS}
    path = os.pathsep.join(map(str, (ROOT / "tests" / "parity", ROOT)))

    def measure(name: str) -> float:
        done = subprocess.run(
            [sys.executable, "-c", _MEASURED.replace("{load}", LOADS[name]), str(folder)],
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=True,
        )
        seconds, megabytes = json.loads(done.stdout.splitlines()[-1])
        memory[name].append(megabytes)
        return seconds

    samples = in_turns({name: partial(measure, name) for name in LOADS}, rounds)
    table = Table("contender", "seconds", "peak memory above the start, MB")
    for name in LOADS:
        table.add_row(name, spread(samples[name]), spread(memory[name][1:], ".0f"))
    console.print(table)
    share = ratio(samples["zoo"], samples["keras-hub"])
    console.print(f"time: zoo / keras-hub = {share:.2f} (target: at most 0.3)")
    console.print(f"memory: the file has {size:.0f} MB; target: at most {1.1 * size + 40:.0f} MB")


# ---------------------------------------------------------------- all


def show(title: str, kind: str, samples: Samples) -> None:
    console.print(f"\n[bold]{title}[/bold]")
    for name, figures in samples.items():
        console.print(f"  {name}: {spread(figures)} per second", highlight=False)
    ours = [name for name in samples if name.startswith("zoo")]
    for name, peer in product(ours, (name for name in samples if name not in ours)):
        share = ratio(samples[name], samples[peer])
        console.print(f"  {name} / {peer} = {share:.2f}", highlight=False)
    console.print(f"  target: at least {TARGETS[kind]} of the faster", highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=KINDS, nargs="+", default=KINDS)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zoo-bench-") as name:
        folder = Path(name)
        if "encoder" in options.only:
            for dtype in ("float32", "bfloat16"):
                for batch in (1, 16):
                    measures = encoder(folder / "bert", batch, dtype)
                    title = f"BERT-base, {batch} x {LENGTH} tokens, {dtype}: texts"
                    show(title, "encoder", in_turns(measures, options.rounds))
        if "embedding" in options.only:
            samples = in_turns(embedding(folder), options.rounds)
            show(f"MiniLM, {TEXTS} texts of mixed length: texts", "embedding", samples)
        if "load" in options.only:
            console.print("\n[bold]Load of BERT-base[/bold]")
            loads(folder / "load", options.rounds)
        if "generation" in options.only:
            samples = in_turns(generation(folder / "gpt2"), options.rounds)
            show("GPT-2, greedy: tokens", "generation", samples)


if __name__ == "__main__":
    main()
