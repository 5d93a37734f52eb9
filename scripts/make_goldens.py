"""Write tests/goldens/ from the reference libraries: outputs, and names and shapes.

The goldens let `make test` prove parity with no PyTorch installed. Weights are not stored: both
sides make them from the tensors' names (tests/synthetic.py). Run by `make goldens`.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "parity")]

import synthetic  # noqa: E402
from image_models import make_reference  # noqa: E402
from reference import outputs, timm, torch  # noqa: E402
from test_resnet import KINDS as RESNETS  # noqa: E402
from test_vit_timm import KINDS as VITS  # noqa: E402

from zoo.registry import registry  # noqa: E402

CLASSES = 10
SHALLOW = {"layers": (1, 1, 1, 1)}
# dynamic sizes take whole patches alone, which the images are not for every network
ONE_BLOCK = {"depth": 1, "img_size": synthetic.IMAGE_SIZE, "dynamic_img_size": False}
# fixed channel tables, or a builder that takes no other depth
FULL_DEPTH = {"ecaresnet50d_pruned", "resnetv2_50x1_bit"}


def output(name: str, **options) -> list[list[float]]:
    """Logits of the reference in float64 on the synthetic weights and images."""
    model = make_reference(name, num_classes=CLASSES, **options).double().eval()
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    model.load_state_dict({k: torch.tensor(v) for k, v in synthetic.state(shapes).items()})
    return outputs(model, synthetic.images()).tolist()


def manifest(name: str) -> dict[str, list[int]]:
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=1000)  # some of timm's default to none
    return {k: list(v.shape) for k, v in model.state_dict().items()}


def write_outputs(file: str, options: Mapping[str, dict[str, Any]]) -> None:
    """Outputs of the architectures that `options` names, with these options."""
    found = {}
    for name, given in options.items():
        found[name] = {"options": given, "logits": output(name, **given)}
        print(name, flush=True)
    reference = f"timm {timm.__version__}, torch {torch.__version__}"
    data = {"reference": reference, "classes": CLASSES, "outputs": found}
    (synthetic.GOLDENS / file).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    shallow = {name: {} if name in FULL_DEPTH else SHALLOW for name in RESNETS.values()}
    write_outputs("resnet.json", shallow)
    write_outputs("vit.json", dict.fromkeys(VITS.values(), ONE_BLOCK))
    names = [name for name in registry.list_architectures() if timm.is_model(name)]
    text = json.dumps({name: manifest(name) for name in names}, separators=(",", ":")).encode()
    (synthetic.GOLDENS / "manifests.json.gz").write_bytes(gzip.compress(text, mtime=0))


if __name__ == "__main__":
    main()
