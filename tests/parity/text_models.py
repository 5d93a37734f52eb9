"""Text models of transformers, small, with shaken weights, and run in float64."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from reference import Widened, torch

transformers = pytest.importorskip("transformers")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

VOCABULARY = 60
PLAIN = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 40,
}
DISTILLED = {
    "vocab_size": VOCABULARY,
    "dim": 24,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 40,
    "max_position_embeddings": 40,
}
GPT2 = {
    "vocab_size": VOCABULARY,
    "n_embd": 24,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 40,
    "bos_token_id": 2,
    "eos_token_id": 2,
}
THREE = {"id2label": {0: "O", 1: "B-PER", 2: "I-PER"}}


@dataclasses.dataclass(frozen=True)
class Kind:
    """A model type: what its classes' names begin with, and its options."""

    prefix: str
    options: dict
    padding: int = 0

    def make(self, head: str, **more):
        """The reference `<prefix><head>` with shaken weights."""
        torch.manual_seed(0)
        config = getattr(transformers, f"{self.prefix}Config")(**self.options | more)
        config._attn_implementation = "eager"
        reference = getattr(transformers, f"{self.prefix}{head}")(config).eval()
        with torch.no_grad():
            for parameter in reference.parameters():
                parameter.add_(torch.randn_like(parameter) * (0.3 if parameter.ndim == 1 else 0.1))
        return reference


KINDS = {
    "bert": Kind("Bert", PLAIN),
    "roberta": Kind("Roberta", PLAIN, padding=1),
    "xlm-roberta": Kind("XLMRoberta", PLAIN, padding=1),
    "camembert": Kind("Camembert", PLAIN, padding=1),
    "distilbert": Kind("DistilBert", DISTILLED),
    "mpnet": Kind("MPNet", PLAIN, padding=1),
    "electra": Kind("Electra", PLAIN | {"embedding_size": 12}),
    "gpt2": Kind("GPT2", GPT2),
}


def batch(kind: str, *, types: int = 2, left: bool = False) -> dict[str, np.ndarray]:
    """Three texts of 9 tokens, the second of which is padded; `types`: parts of a text."""
    rng = np.random.default_rng(0)
    ids = rng.integers(3, VOCABULARY, (3, 9))
    mask = np.ones((3, 9), int)
    padded = slice(0, 4) if left else slice(5, 9)
    mask[1, padded], ids[1, padded] = 0, KINDS[kind].padding
    arrays = {"input_ids": ids, "attention_mask": mask}
    if types > 1 and kind in ("bert", "roberta", "electra", "gpt2"):
        arrays["token_type_ids"] = (np.arange(9) > 4).astype(int) + np.zeros((3, 1), int)
    return arrays


def run(reference, arrays) -> dict[str, np.ndarray]:
    """What a reference gives in float64, by name."""
    tensors = {name: torch.tensor(array) for name, array in arrays.items()}
    with torch.no_grad(), Widened():
        result = reference.double()(**tensors)
    kept = {k: v for k, v in result.items() if torch.is_tensor(v)}
    return {name: value.numpy() for name, value in kept.items()}
