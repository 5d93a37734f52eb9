"""timm and transformers load what `zoo.publish` put on a hub, told of it by HF_ENDPOINT alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hub_fixtures import MEMBER
from image_models import shake
from reference import Widened, assert_same_bits, outputs, relative_error, timm, torch
from sklearn.datasets import load_digits
from synthetic_texts import bert
from test_finetuning_text import RECIPE, TRAIN

import zoo
from zoo.publishing import publish

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")

TIMM = """
import json, sys
import numpy as np
from reference import outputs, timm, torch
repo, images, results, state = sys.argv[1:]
model = timm.create_model(f"hf-hub:{repo}", pretrained=True).eval()
torch.save(model.state_dict(), state)
np.save(results, outputs(model, np.load(images)))
config = timm.data.resolve_data_config({}, model=model)
labels = list(model.pretrained_cfg["label_names"])
print(json.dumps([model.num_classes, config["input_size"], labels]))
"""
TRANSFORMERS = """
import json, sys
import numpy as np
from reference import Widened, torch
from transformers import AutoImageProcessor, AutoModelForImageClassification
repo, images, results, state = sys.argv[1:]
model = AutoModelForImageClassification.from_pretrained(repo, attn_implementation="eager").eval()
torch.save(model.state_dict(), state)
x = torch.tensor(np.load(images)).double().permute(0, 3, 1, 2)
with torch.no_grad(), Widened():
    np.save(results, model.double()(x).logits.numpy())
processor = AutoImageProcessor.from_pretrained(repo, backend="pil")
size = [3, processor.size["height"], processor.size["width"]]
print(json.dumps([model.num_labels, size, list(model.config.id2label.values())]))
"""
TEXTS = """
import json, sys
import numpy as np
from reference import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
repo, texts, results, state = sys.argv[1:]
model = AutoModelForSequenceClassification.from_pretrained(repo).eval()
torch.save(model.state_dict(), state)
tokenizer = AutoTokenizer.from_pretrained(repo)
x = tokenizer(np.load(texts).tolist(), padding=True, truncation=True, return_tensors="pt")
with torch.no_grad():
    np.save(results, model(**x).logits.numpy())
print(json.dumps([model.num_labels, list(model.config.id2label.values())]))
"""


def in_reference(script, hub, repo, x, folder):
    """The outputs of a library for `x` in float64, what it says of the model, and the weights that
    it has; in a process of its own."""
    np.save(folder / "x.npy", np.asarray(x))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    done = subprocess.run(
        [sys.executable, "-c", script, repo, *(folder / n for n in ("x.npy", "y.npy", "state.pt"))],
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
    said = json.loads(done.stdout.strip().splitlines()[-1])
    return np.load(folder / "y.npy"), said, torch.load(folder / "state.pt")


def images(height, width):
    return np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", (96, 128)),
        ("resnetv2_50x1_bit", (96, 128)),
        ("test_vit2", (160, 160)),
        ("deit_tiny_distilled_patch16_224", (224, 224)),
    ],
)
def test_timm_loads_what_zoo_published(hub, tmp_path, name, size):
    torch.manual_seed(0)
    reference = timm.create_model(name, num_classes=3).eval()
    shake(reference)
    timm.models.save_for_hf(reference, tmp_path / "timm", safe_serialization=True)
    model = zoo.load(tmp_path / "timm", labels=["cat", "dog", "owl"])
    publish(model, "acme/net", endpoint=hub.url, token=MEMBER, license="mit")
    hub.requests.clear()
    x = images(*size)
    theirs, said, state = in_reference(TIMM, hub, "acme/net", x, tmp_path)
    assert said == [3, [3, *model.card.preprocessing.input_size], ["cat", "dog", "owl"]]
    assert_same_bits(state, reference.state_dict())
    assert relative_error(model(x), theirs) < 1e-4
    assert relative_error(theirs, outputs(reference, x)) < 1e-12
    assert any(request.path.endswith("/model.safetensors") for request in hub.requests)


def test_transformers_loads_what_zoo_published(hub, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        id2label={0: "cat", 1: "dog", 2: "owl"},
        attn_implementation="eager",
    )
    reference = transformers.ViTForImageClassification(config).eval()
    processor = transformers.ViTImageProcessorPil(size={"height": 224, "width": 224})
    for part in (reference, processor):
        part.save_pretrained(tmp_path / "transformers")
    model = zoo.load(tmp_path / "transformers")
    publish(model, "acme/vit", endpoint=hub.url, token=MEMBER, license="mit")
    hub.requests.clear()
    x = images(224, 224)
    theirs, said, state = in_reference(TRANSFORMERS, hub, "acme/vit", x, tmp_path)
    assert said == [3, [3, 224, 224], ["cat", "dog", "owl"]]
    assert_same_bits(state, reference.state_dict())
    assert relative_error(model(x), theirs) < 1e-4
    with torch.no_grad(), Widened():
        pixels = torch.tensor(x).double().permute(0, 3, 1, 2)
        exact = reference.double()(pixels).logits.numpy()
    assert relative_error(theirs, exact) < 1e-12
    assert any(request.path.endswith("/model.safetensors") for request in hub.requests)


@pytest.mark.parametrize(
    ("name", "size", "rate"), [("test_resnet", 64, 5e-3), ("test_vit", 32, 2e-3)]
)
def test_timm_predicts_as_a_fine_tuned_model_that_was_published(hub, tmp_path, name, size, rate):
    digits = load_digits()
    rows = np.concatenate([np.flatnonzero(digits.target == k)[:20] for k in (0, 1, 7)])
    pictures = [np.uint8(image * 255 / 16) for image in digits.images[rows]]
    names = np.array(["none", "one", "", "", "", "", "", "seven"])[digits.target[rows]].tolist()
    result = zoo.finetune(
        zoo.load(name, pretrained=False, input_size=size),
        (pictures, names),
        epochs=12,
        batch_size=8,
        learning_rate=rate,
        layer_decay=1.0,
        augment="none",
        output=tmp_path / "run",
    )
    assert result.metrics.accuracy > 0.5
    publish(tmp_path / "run", "acme/tuned", endpoint=hub.url, token=MEMBER, license="mit")
    x = result.model.preprocess(pictures)
    theirs, said, _ = in_reference(TIMM, hub, "acme/tuned", x, tmp_path)
    ours = np.asarray(result.model(x))
    assert relative_error(ours, theirs) < 1e-4
    assert (ours.argmax(-1) == theirs.argmax(-1)).all()
    assert said == [3, [3, *result.model.card.preprocessing.input_size], ["none", "one", "seven"]]


def test_transformers_predicts_as_a_fine_tuned_text_model_that_was_published(hub, tmp_path):
    texts, labels = TRAIN
    model = zoo.load(bert(tmp_path / "base"))
    result = zoo.finetune(model, TRAIN, TRAIN, output=tmp_path / "run", **RECIPE)
    assert result.metrics.accuracy == 1
    publish(tmp_path / "run", "acme/texts", endpoint=hub.url, token=MEMBER, license="apache-2.0")
    theirs, said, _ = in_reference(TEXTS, hub, "acme/texts", np.array(texts), tmp_path)
    ours = np.asarray(result.model(result.model.preprocess(texts)))
    assert relative_error(ours, theirs) < 1e-4
    assert [("cat", "dog")[k] for k in theirs.argmax(-1)] == labels
    assert said == [2, ["cat", "dog"]]
