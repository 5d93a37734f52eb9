"""What the dialects of text models share."""

from __future__ import annotations

from typing import Any

from zoo.registry.dialect import ModelClass
from zoo.weights.mapping import KERNEL, Row, Rows, linear_rows, norm_rows

TOKENS = "embeddings.word_embeddings.embeddings"  # the weight of the table

# What sentence-transformers keeps in files of their own, under this name when they are read.
SENTENCE = "sentence_module"
SENTENCE_ROWS: Rows = (
    *linear_rows(f"{SENTENCE}.*.linear", f"{SENTENCE}.*.linear"),
    Row(f"{SENTENCE}.*.residual.kernel", f"{SENTENCE}.*.residual.weight", KERNEL),
    *norm_rows(f"{SENTENCE}.*.norm", f"{SENTENCE}.*.norm"),
)

BASE = ModelClass(fields={"head": "base"}, classes=0)
SEQUENCE = ModelClass(fields={"head": "sequence"})
TAGS = ModelClass(fields={"head": "tokens"})
QUESTION = ModelClass(fields={"head": "answer"}, classes=0)
LANGUAGE = ModelClass(fields={"head": "language"}, classes=0)
CAUSAL = ModelClass(
    fields={"head": "language", "causal": True},
    classes=0,
    needs={"is_decoder": (True, "its tokens would see those after them")},
)


def classes(prefix: str, **named: ModelClass) -> dict[str, ModelClass]:
    """The classes that most types have, after the type's name in them, and others by their ends."""
    usual: dict[str, Any] = {
        "Model": BASE,
        "ForSequenceClassification": SEQUENCE,
        "ForTokenClassification": TAGS,
        "ForQuestionAnswering": QUESTION,
    }
    return {f"{prefix}{end}": one for end, one in (usual | named).items()}


# Keys of the class for multiple choice, which zoo does not have.
SUMMARY = dict.fromkeys(
    ("summary_type", "summary_use_proj", "summary_activation", "summary_first_dropout")
    + ("summary_last_dropout", "summary_proj_to_labels"),
    "of classes for multiple choice",
)
