"""Transfer learning on sequences, with an LSTM.

    python scripts/transfer_learning_sequence.py     # a minute on two cores, no network

The rows of a scanned digit are a sequence of eight steps. An LSTM that knows the ten digits learns
whether the number is even from 15 sequences of each kind, stage by stage from the head down, and is
measured on 400 others, beside the same network that starts from nothing.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from sklearn.datasets import load_digits

import zoo

EXAMPLES, TEST = 15, 400


def main() -> None:
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    kinds = np.where(digits.target % 2, "odd", "even")
    chosen = [order[kinds[order] == kind][:EXAMPLES] for kind in ("even", "odd")]
    rows = np.concatenate(chosen)
    others = np.setdiff1d(order, rows)[:TEST]
    ink = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    train, test = ((list(ink[part]), kinds[part].tolist()) for part in (rows, others))
    for pretrained in (False, True):
        result = zoo.finetune(
            zoo.load("lstm_mini.digits", pretrained=pretrained),
            train,
            test,
            strategy="gradual" if pretrained else "full",
            layer_decay=0.5 if pretrained else 1.0,
            epochs=40,
            learning_rate=4e-3,
            batch_size=10,
        )
        start = "the model of digits" if pretrained else "nothing"
        print(f"\nstarting from {start}:\n{result.metrics}\n")


if __name__ == "__main__":
    main()
