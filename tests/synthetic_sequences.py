"""Sequence networks with weights and inputs that anyone can make again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import synthetic

STEPS = 37  # more than a block of the compiled loop
LENGTHS = (STEPS, 1, 20)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network: an architecture with options, for our config and for the reference alike."""

    architecture: str
    options: Mapping[str, Any]

    @property
    def padding(self) -> float | None:
        name = "padding_value" if "features" in self.options else "padding_idx"
        return self.options.get(name)

    @property
    def lengths(self) -> tuple[int, ...]:
        return (STEPS,) * len(LENGTHS) if self.padding is None else LENGTHS

    def inputs(self) -> np.ndarray:
        """Three sequences, padded to their lengths where the network knows padding."""
        rng = np.random.default_rng(11)
        if "features" in self.options:
            x = rng.normal(1, 2, size=(3, STEPS, self.options["features"]))
        else:
            x = rng.integers(1, self.options["vocab_size"], size=(3, STEPS))
        for row, length in zip(x, self.lengths, strict=True):
            row[length:] = 0 if self.padding is None else self.padding
        return x


def tensors(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights by name; a decoder of the embedding's shape is tied to it."""
    state = synthetic.state(shapes)
    tied = shapes.get("decoder.weight") == shapes.get("encoder.weight", ())
    return state | ({"decoder.weight": state["encoder.weight"]} if tied else {})


CASES = {
    "language model": Case(
        architecture="awd_lstm",
        options={"vocab_size": 11, "emb_sz": 5, "n_hid": 7, "n_layers": 3},
    ),
    "classifier": Case(
        architecture="lstm_classifier",
        options={
            "features": 3,
            "hidden_size": 6,
            "num_layers": 2,
            "bidirectional": True,
            "num_classes": 4,
            "padding_value": 0.0,
        },
    ),
    "GRU, max": Case(
        architecture="lstm_classifier",
        options={"features": 3, "hidden_size": 6, "cell": "gru", "pool": "max"},
    ),
    "projected tagger": Case(
        architecture="lstm_tagger",
        options={
            "head": "tagger",
            "vocab_size": 9,
            "embedding_dim": 4,
            "padding_idx": 0,
            "hidden_size": 6,
            "proj_size": 3,
            "bidirectional": True,
            "num_classes": 3,
        },
    ),
    "forecaster": Case(
        architecture="lstm_forecaster",
        options={
            "head": "forecaster",
            "features": 2,
            "hidden_size": 6,
            "horizon": 4,
            "padding_value": 0.0,
        },
    ),
}
