"""Text models of transformers, small, with shaken weights, and run in float64."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pytest
from kinds import FAMILIES
from reference import Widened, torch

transformers = pytest.importorskip("transformers")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

VOCABULARY = 60
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 40,
}
THREE = {"id2label": {0: "O", 1: "B-PER", 2: "I-PER"}}


@dataclasses.dataclass(frozen=True)
class Kind:
    """A model type, and what its config says beyond `SIZES`."""

    model_type: str
    options: Mapping[str, Any]

    @property
    def config(self) -> type:
        return transformers.CONFIG_MAPPING[self.model_type]

    @property
    def prefix(self) -> str:
        """What the names of the type's classes begin with."""
        return self.config.__name__.removesuffix("Config")

    @property
    def language(self) -> str:
        """The head of its language model."""
        heads = ("ForMaskedLM", "LMHeadModel")
        return next(head for head in heads if hasattr(transformers, self.prefix + head))

    @property
    def padding(self) -> int:
        return self.config().pad_token_id or 0

    @property
    def takes_types(self) -> bool:
        """Whether its networks take the parts of a text."""
        network = getattr(transformers, f"{self.prefix}Model")
        return "token_type_ids" in inspect.signature(network.forward).parameters

    def make(self, head: str, **more: Any) -> torch.nn.Module:
        """The reference `<prefix><head>` with shaken weights."""
        torch.manual_seed(0)
        aliases, given = self.config.attribute_map, {**self.options, **more}
        known = {*keys_of(self.model_type), *aliases} - {k for k in aliases if aliases[k] in given}
        sizes = {key: size for key, size in SIZES.items() if key in known}
        config = self.config(**sizes | given)
        config._attn_implementation = "eager"
        reference = getattr(transformers, self.prefix + head)(config).eval()
        with torch.no_grad():
            for parameter in reference.parameters():
                parameter.add_(torch.randn_like(parameter) * (0.3 if parameter.ndim == 1 else 0.1))
        return reference


def keys_of(model_type: str) -> Collection[str]:
    return inspect.signature(transformers.CONFIG_MAPPING[model_type]).parameters


KINDS = {
    model_type: Kind(model_type, options)
    for family in FAMILIES.values()
    for model_type, options in family.transformers.items()
    if "vocab_size" in keys_of(model_type)
}


def batch(kind: str, *, types: int = 2, left: bool = False) -> dict[str, np.ndarray]:
    """Three texts of 9 tokens, the second of which is padded; `types`: parts of a text."""
    rng = np.random.default_rng(0)
    ids = rng.integers(3, VOCABULARY, (3, 9))
    mask = np.ones((3, 9), int)
    padded = slice(0, 4) if left else slice(5, 9)
    mask[1, padded], ids[1, padded] = 0, KINDS[kind].padding
    arrays = {"input_ids": ids, "attention_mask": mask}
    if types > 1 and KINDS[kind].takes_types:
        arrays["token_type_ids"] = (np.arange(9) > 4).astype(int) + np.zeros((3, 1), int)
    return arrays


def run(reference, arrays) -> dict[str, np.ndarray]:
    """What a reference gives in float64, by name."""
    tensors = {name: torch.tensor(array) for name, array in arrays.items()}
    with torch.no_grad(), Widened():
        result = reference.double()(**tensors)
    kept = {k: v for k, v in result.items() if torch.is_tensor(v)}
    return {name: value.numpy() for name, value in kept.items()}
