"""Write tests/goldens/ from the reference libraries: outputs, and names and shapes.

The goldens let `make test` prove parity with no PyTorch installed. Weights are not stored: both
sides make them from the tensors' names (tests/synthetic.py). Run by `make goldens`.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "parity")]

import synthetic  # noqa: E402
from reference import Widened, timm, torch  # noqa: E402
from test_resnet import KINDS  # noqa: E402

from zoo.registry import registry  # noqa: E402

CLASSES = 10
SHALLOW = {"layers": (1, 1, 1, 1)}
# fixed channel tables, or a builder that takes no other depth
FULL_DEPTH = {"ecaresnet50d_pruned", "resnetv2_50x1_bit"}


def output(name: str, **options) -> list[list[float]]:
    """Logits of the reference in float64 on the synthetic weights and images."""
    model = timm.create_model(name, num_classes=CLASSES, **options).double().eval()
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    model.load_state_dict({k: torch.tensor(v) for k, v in synthetic.state(shapes).items()})
    with torch.no_grad(), Widened():
        y = model(torch.tensor(synthetic.images()).permute(0, 3, 1, 2))
    return y.tolist()


def manifest(name: str) -> dict[str, list[int]]:
    with torch.device("meta"):
        model = timm.create_model(name)
    return {k: list(v.shape) for k, v in model.state_dict().items()}


def main() -> None:
    outputs = {}
    for name in KINDS.values():
        options = {} if name in FULL_DEPTH else SHALLOW
        outputs[name] = {"options": options, "logits": output(name, **options)}
        print(name, flush=True)
    header = {
        "reference": f"timm {timm.__version__}, torch {torch.__version__}",
        "classes": CLASSES,
    }
    path = synthetic.GOLDENS / "resnet.json"
    path.write_text(json.dumps(header | {"outputs": outputs}, indent=1) + "\n", encoding="utf-8")
    manifests = {name: manifest(name) for name in registry.list_architectures()}
    text = json.dumps(manifests, separators=(",", ":")).encode()
    (synthetic.GOLDENS / "manifests.json.gz").write_bytes(gzip.compress(text, mtime=0))


if __name__ == "__main__":
    main()
