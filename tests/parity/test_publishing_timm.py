"""timm loads what `zoo.publish` put on a hub, told of the hub by HF_ENDPOINT alone."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hub_fixtures import MEMBER
from image_models import shake
from reference import assert_same_bits, outputs, relative_error, timm, torch

import zoo
from zoo.publishing import publish

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")

LOAD = """
import sys
import numpy as np
from reference import outputs, timm, torch
model = timm.create_model(f"hf-hub:{sys.argv[1]}", pretrained=True).eval()
torch.save(model.state_dict(), sys.argv[4])
np.save(sys.argv[3], outputs(model, np.load(sys.argv[2])))
config = timm.data.resolve_data_config({}, model=model)
print(model.num_classes, config["input_size"], list(model.pretrained_cfg["label_names"]))
"""


def in_timm(hub, repo, x, folder):
    """timm's outputs for `x` in float64, what it says of the model, and the weights that it has; in
    a process of its own."""
    np.save(folder / "x.npy", np.asarray(x))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, repo, *(folder / n for n in ("x.npy", "y.npy", "state.pt"))],
        env=kept
        | {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(folder / "hf"),
            "PYTHONPATH": str(Path(__file__).parent),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return np.load(folder / "y.npy"), done.stdout.strip(), torch.load(folder / "state.pt")


@pytest.mark.parametrize("name", ["resnet18", "resnetv2_50x1_bit"])
def test_timm_loads_what_zoo_published(hub, tmp_path, name):
    torch.manual_seed(0)
    reference = timm.create_model(name, num_classes=3).eval()
    shake(reference)
    timm.models.save_for_hf(reference, tmp_path / "timm", safe_serialization=True)
    model = zoo.load(tmp_path / "timm", labels=["cat", "dog", "owl"])
    publish(model, "acme/net", endpoint=hub.url, token=MEMBER, license="mit")
    hub.requests.clear()
    x = np.random.default_rng(0).normal(size=(2, 96, 128, 3)).astype(np.float32)
    theirs, said, state = in_timm(hub, "acme/net", x, tmp_path)
    size = model.card.preprocessing.input_size
    assert said == f"3 {[3, *size]} ['cat', 'dog', 'owl']"
    assert_same_bits(state, reference.state_dict())
    assert relative_error(model(x), theirs) < 1e-4
    assert relative_error(theirs, outputs(reference, x)) < 1e-12
    assert any(request.path.endswith("/model.safetensors") for request in hub.requests)
