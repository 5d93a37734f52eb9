"""Files of models with faults in them: whatever is in a file, a load ends well or in a `ZooError`.

    python tests/fuzzing.py [--cases 20000 | --seconds 600] [--seed 0] [--loads 20] [--only FOLDER]

A case takes a folder of one of the forms that zoo reads, puts one to three faults into its files,
and reads it: the card and the headers always, the whole model in one case of `--loads`. A case is
told by its number and the seed, so that each can be had again (`--first N --cases 1`).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LIMIT = 60  # seconds for a case; most take milliseconds

NUMBERS: list[Any] = [
    *(0, 1, -1, 2, 3, 7, 8.0, 0.5, -0.5, 1e-320, 1e308, 10**6, 10**9, 2**31 - 1, 2**31, 2**62),
    *(2**63, 2**64, 10**30, 10**400, -(2**63), True, False, float("nan"), float("inf")),
]
TEXTS: list[Any] = [
    *("", "0", "x", "1e400", "..", "../..", "/etc/passwd", "a/b", "\0", "\n", "\ud800", "ä", "名"),
    *("x" * 5000, "float32", "gelu", "bert", "null", "[UNK]", "model.safetensors", "2_Dense"),
]
CONTAINERS: list[Any] = [[], {}, [[]], [None], {"": None}, [1, 2, 3], {"a": {"b": []}}, ["x"] * 99]
VALUES = [None, *NUMBERS, *TEXTS, *CONTAINERS]
RAW = [
    *(b"", b"null", b"7", b"[]", b"{}", b'""', b"\xff\xfe", b"\xef\xbb\xbf{}", b"{", b"NaN", b"\0"),
    *(b"[" * 100_000, b'{"a":' * 100_000, b"1" * 10_000, b"1e400", b'{"a":1,"a":2}', b"\x80"),
    *(b"[" * 500 + b"]" * 500, b'"\\ud800"', b"\n", b"#version: 0.2\n", b" " * 1000),
]

# ---------------------------------------------------------------- folders of every form


def folders(root: Path) -> dict[str, Path]:
    """A small folder of each form that zoo reads, with random weights."""
    import keras
    import synthetic_texts

    import zoo

    keras.utils.set_random_seed(0)
    small = {"img_size": 32, "patch_size": 16, "embed_dim": 16, "depth": 2, "num_heads": 2}
    made = {
        "timm_resnet": lambda to: zoo.save(zoo.load("test_resnet", pretrained=False), to),
        "timm_vit": lambda to: zoo.save(zoo.load("test_vit", pretrained=False), to),
        "vit": lambda to: zoo.save(zoo.load("vit", pretrained=False, num_classes=3, **small), to),
        "clip": lambda to: _whole(_tower("clip_vision_model", small, to), "clip", "CLIPModel"),
        "siglip": lambda to: _tower("siglip_vision_model", small, to),
        "bert": lambda to: synthetic_texts.bert(to, labels=["good", "bad"]),
        "gpt2": synthetic_texts.gpt2,
        "sentence": _sentence,
        "sharded": lambda to: _sharded(synthetic_texts.bert(to)),
        "lstm": lambda to: shutil.copytree(_bundled("lstm_mini.digits"), to, dirs_exist_ok=True),
        "words": lambda to: shutil.copytree(_bundled("lstm_lm_mini.pydoc"), to, dirs_exist_ok=True),
        "silero": lambda to: zoo.save(zoo.load("silero_vad", pretrained=False), to),
    }
    for name, make in made.items():
        (root / name).mkdir()
        make(root / name)
    return {name: root / name for name in made}


def _bundled(name: str) -> Path:
    import zoo

    return Path(zoo.__file__).parent / "bundled" / name


def _tower(architecture: str, options: dict[str, Any], folder: Path) -> Path:
    import zoo

    zoo.save(zoo.load(architecture, pretrained=False, **options), folder)
    return folder


def _whole(folder: Path, model_type: str, name: str) -> None:
    """A vision tower as the half of a whole checkpoint that has nothing else."""
    vision = json.loads((folder / "config.json").read_text())
    whole = {"model_type": model_type, "architectures": [name], "vision_config": vision}
    (folder / "config.json").write_text(json.dumps(whole | {"text_config": {}}))


def _sentence(folder: Path) -> None:
    """A BERT with the files of sentence-transformers, a dense layer among them."""
    import numpy as np
    import synthetic_texts

    from zoo.weights.files import save_checkpoint

    synthetic_texts.bert(folder)
    kinds = ["Transformer", "Pooling", "Dense", "Normalize"]
    modules = [
        {
            "idx": k,
            "name": str(k),
            "path": f"{k}_{kind}" if k else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for k, kind in enumerate(kinds)
    ]
    dense = {"in_features": 24, "out_features": 8, "bias": False}
    files = {
        "modules.json": modules,
        "1_Pooling/config.json": {"word_embedding_dimension": 24, "pooling_mode_mean_tokens": True},
        "2_Dense/config.json": dense | {"activation_function": "torch.nn.modules.activation.Tanh"},
        "sentence_bert_config.json": {"max_seq_length": 16, "do_lower_case": True},
        "config_sentence_transformers.json": {"prompts": {"query": "q: "}},
    }
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(data))
    kernel = np.ones((8, 24), np.float32)
    save_checkpoint(folder / "2_Dense/model.safetensors", {"linear.weight": kernel})


def _sharded(folder: Path) -> None:
    from zoo.weights.files import open_checkpoint, save_checkpoint

    single = folder / "model.safetensors"
    tensors = {k: v.copy() for k, v in open_checkpoint(single).items()}
    names, table = sorted(tensors), {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"model-{number:05d}-of-00002.safetensors"
        save_checkpoint(folder / shard, {name: tensors[name] for name in part})
        table |= dict.fromkeys(part, shard)
    single.unlink()
    index = {"metadata": {}, "weight_map": table}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


# ---------------------------------------------------------------- faults


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container and key inside of a JSON value."""
    stack = [value]
    while stack:
        item = stack.pop()
        keys = item.keys() if isinstance(item, dict) else range(len(item))
        for key in list(keys)[:200]:  # of a vocabulary the first will do
            yield item, key
            if isinstance(item[key], dict | list):
                stack.append(item[key])


def mutate_json(data: Any, rng: random.Random) -> Any:
    """One fault in a JSON value, at any place of it."""
    known = list(places(data)) if isinstance(data, dict | list) else []
    if not known or rng.random() < 0.02:
        return rng.choice(VALUES)
    item, key = rng.choice(known)
    kind = rng.randrange(10)
    if kind < 5:
        item[key] = rng.choice(VALUES)
    elif kind == 5:
        del item[key]
    elif kind == 6:  # the value of another place
        other, there = rng.choice(known)
        item[key] = other[there] if not isinstance(other[there], dict | list) else None
    elif kind == 7:
        item[key] = [item[key]] if rng.random() < 0.5 else {"a": item[key]}
    elif kind == 8 and isinstance(item, dict):
        item[rng.choice([str(rng.choice(TEXTS)), str(key) + "s", "head_dim"])] = rng.choice(VALUES)
    elif isinstance(item[key], int | float) and not isinstance(item[key], bool):
        item[key] = rng.choice([item[key] * 2, item[key] + 1, item[key] // 3, -item[key], 10**9])
    else:
        item[key] = str(item[key])
    return data


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """One fault in a text or in any other bytes."""
    kind = rng.randrange(5)
    if kind == 0 or not content:
        return rng.choice(RAW)
    at = rng.randrange(min(len(content), 4000))
    if kind == 1:
        return content[:at]
    if kind == 2:
        return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
    if kind == 3:
        return content[:at] + rng.choice(RAW)[:50] + content[at:]
    return content[:at] + content[at + rng.randrange(1, 40) :]


def mutate(name: str, content: bytes, rng: random.Random) -> bytes:
    """One fault in the content of a file, by what it is."""
    structured = rng.random() < 0.8
    if structured and name.endswith(".json"):
        try:
            data = mutate_json(json.loads(content), rng)
        except (ValueError, RecursionError):
            return mutate_bytes(content, rng)
        return json.dumps(data).encode()
    if structured and name.endswith(".safetensors"):
        length = int.from_bytes(content[:8], "little")
        try:
            header = json.dumps(mutate_json(json.loads(content[8 : 8 + length]), rng)).encode()
        except (ValueError, RecursionError):
            return mutate_bytes(content, rng)
        return len(header).to_bytes(8, "little") + header + content[8 + length :]
    return mutate_bytes(content, rng)


def replace(path: Path, rng: random.Random) -> None:
    """Something else in place of a file."""
    path.unlink()
    kind = rng.randrange(5)
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        path.symlink_to(path.parent)
    elif kind == 2:
        path.symlink_to(path)
    elif kind == 3:
        os.mkfifo(path)


def put_faults(folder: Path, rng: random.Random) -> None:
    """One to three faults in the files of a folder, in `config.json` more often than elsewhere."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".md")
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        config = folder / "config.json"
        path = config if rng.random() < 0.4 else rng.choice(files)
        if not path.is_file():
            continue
        if rng.random() < 0.03:
            replace(path, rng)
        else:
            content = mutate(path.name, path.read_bytes(), rng)
            path.unlink()  # it may be a link to the sound one
            path.write_bytes(content)


# ---------------------------------------------------------------- cases


class TooLong(BaseException):
    """A case that takes longer than `LIMIT`."""


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TooLong(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def read(folder: Path) -> None:
    """Read the card and the headers of a folder, and what its texts go through."""
    from zoo.loading.pulling import find, module_files, weight_files
    from zoo.preprocessing import preprocessor
    from zoo.preprocessing.text_spec import TextSpec
    from zoo.weights.files import open_checkpoint
    from zoo.weights.handle import Source, parse_handle

    found = find(parse_handle(folder, lambda name: False), Source())
    card = found.card
    open_checkpoint([*weight_files(found, Source()), *module_files(found)])
    if isinstance(card.preprocessing, TextSpec):
        preprocessor(card.preprocessing)("the cat sat")


def load(folder: Path) -> None:
    import keras

    import zoo

    zoo.load(folder)
    keras.backend.clear_session()


def run_case(folder: Path, work: Callable[[Path], None], limit: int = LIMIT) -> str | None:
    """What is wrong with reading a folder: an error that is no `ZooError`, or too much time."""
    from zoo.errors import ZooError

    try:
        with time_limit(limit), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            work(folder)
    except ZooError as error:
        text = str(error)
        return None if text else f"{type(error).__name__} without a word"
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f for f in frames if "/zoo/" in f.filename]
        where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
        return f"{where} {type(error).__name__}: {str(error)[:150]}"
    return None


def cases(
    sound: dict[str, Path], seed: int, first: int, loads: int
) -> Iterator[tuple[int, str, Path, Callable[[Path], None]]]:
    """Folders with faults, one after the other in the same place."""
    names = sorted(sound)
    number = first
    with tempfile.TemporaryDirectory() as scratch:
        while True:
            rng = random.Random(f"{seed} {number}")
            name = rng.choice(names)
            folder = Path(scratch) / name
            shutil.copytree(sound[name], folder, copy_function=os.link)
            put_faults(folder, rng)
            yield number, name, folder, load if loads and number % loads == 0 else read
            shutil.rmtree(folder)
            number += 1


def main() -> int:
    parser = argparse.ArgumentParser(description="Read folders with faults in them.")
    parser.add_argument("--cases", type=int, default=10**9)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--loads", type=int, default=20)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    start, slowest = time.monotonic(), (0.0, -1)
    wrong: Counter[str] = Counter()
    shown: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as root:
        sound = folders(Path(root))
        sound = {n: p for n, p in sound.items() if options.only in n}
        done = loaded = 0
        for number, name, folder, work in cases(sound, options.seed, options.first, options.loads):
            began = time.monotonic()
            fault = run_case(folder, work)
            slowest = max(slowest, (time.monotonic() - began, number))
            done, loaded = done + 1, loaded + (work is load)
            if fault is not None:
                key = fault.partition(": ")[0]
                wrong[key] += 1
                if shown.setdefault(key, number) == number:
                    print(f"case {number} ({name}, {work.__name__}): {fault}", flush=True)
            if done >= options.cases or time.monotonic() - start > options.seconds:
                break
    print(f"{done} cases, {loaded} of them whole loads, in {time.monotonic() - start:.0f} s")
    print(f"the slowest took {slowest[0]:.1f} s (case {slowest[1]})")
    for key, count in wrong.most_common():
        print(f"{count:6} {key}   e.g. case {shown[key]}")
    return bool(wrong)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main())
