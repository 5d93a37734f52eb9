"""What the heads of text models are for, and what classes can be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SINGLE_LABEL, MULTI_LABEL = "single_label_classification", "multi_label_classification"
REGRESSION = "regression"
PROBLEMS = (SINGLE_LABEL, MULTI_LABEL, REGRESSION)  # values of `problem_type`

# Fields of the config of a text model, by what the network is for.
TASKS: dict[str, dict[str, Any]] = {
    "feature-extraction": {"head": "base"},
    "text-classification": {"head": "sequence"},
    "next-sentence-prediction": {"head": "next_sentence"},
    "token-classification": {"head": "tokens"},
    "question-answering": {"head": "answer"},
    "fill-mask": {"head": "language", "causal": False},
    "text-generation": {"head": "language", "causal": True},
    "replaced-token-detection": {"head": "replaced"},
    "sentence-similarity": {"head": "sentence"},
}


def task_of(fields: Mapping[str, Any]) -> str:
    """The task that a text model of these fields is for."""
    fits = (all(fields.get(k, False) == v for k, v in own.items()) for own in TASKS.values())
    return next(name for name, fit in zip(TASKS, fits, strict=True) if fit)


def max_length(fields: Mapping[str, Any]) -> int:
    """Tokens of the longest text that a network of these fields takes."""
    spent = fields["padding_idx"] + 1 if fields.get("positions") == "after_padding" else 0
    return fields["max_positions"] - spent
