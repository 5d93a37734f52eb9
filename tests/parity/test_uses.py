"""What the references make of one class, of several at once, of odd sizes and of marked files."""

import keras
import numpy as np
import pytest
import torch
from PIL import Image
from reference import timm
from synthetic_texts import WORDS

import zoo
from zoo.errors import InputError

transformers = pytest.importorskip("transformers")

SINGLE, MULTI = "single_label_classification", "multi_label_classification"
NUMBER = "regression"
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.5,
}
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8))


ONE, THREE = ["hot dog"], ["cat", "dog", "owl"]
# transformers itself refuses one label of one alone
CASES = [
    (ONE, None),
    (ONE, MULTI),
    *((THREE, problem) for problem in (None, SINGLE, MULTI, NUMBER)),
]


@pytest.mark.parametrize(
    ("kind", "labels", "problem"),
    [*(("vit", *case) for case in CASES), ("siglip", ONE, None), ("siglip", THREE, MULTI)],
)
def test_scores_of_images_are_those_of_the_pipeline(tmp_path, kind, problem, labels):
    torch.manual_seed(0)
    about = {"id2label": dict(enumerate(labels)), "problem_type": problem}
    if kind == "vit":
        config = transformers.ViTConfig(**SMALL, image_size=32, patch_size=16, **about)
        model = transformers.ViTForImageClassification(config)
        processor = transformers.ViTImageProcessorPil(size={"height": 32, "width": 32})
    else:
        vision = SMALL | {"image_size": 32, "patch_size": 16}
        config = transformers.SiglipConfig(vision_config=vision, text_config=SMALL, **about)
        model = transformers.SiglipForImageClassification(config)
        processor = transformers.SiglipImageProcessorPil(size={"height": 32, "width": 32})
    with torch.no_grad():  # far from even
        model.classifier.weight.normal_(0, 0.3)
    for part in (model.eval(), processor):
        part.save_pretrained(tmp_path)
    pipeline = transformers.pipeline(
        "image-classification", model=model, image_processor=processor, device="cpu"
    )
    theirs = {p["label"]: p["score"] for p in pipeline(PICTURE, top_k=3)}
    ours = zoo.load(tmp_path)
    check(ours, PICTURE, theirs)
    again = zoo.load(zoo.save(ours, tmp_path / "again"))
    check(again, PICTURE, theirs)


@pytest.mark.parametrize(("labels", "problem"), CASES)
def test_scores_of_texts_are_those_of_the_pipeline(tmp_path, labels, problem):
    torch.manual_seed(0)
    about = {"id2label": dict(enumerate(labels)), "problem_type": problem}
    config = transformers.BertConfig(**SMALL, vocab_size=40, max_position_embeddings=32, **about)
    model = transformers.BertForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    pipeline = transformers.pipeline(
        "text-classification", model=model, tokenizer=tokenizer, device="cpu"
    )
    theirs = {p["label"]: p["score"] for p in pipeline("the cat sat on the mat", top_k=3)}
    check(zoo.load(tmp_path), "the cat sat on the mat", theirs)


def check(model, given, theirs):
    ours = {p.label: p.score for p in model.classify(given)[0]}
    assert ours.keys() == theirs.keys()
    for label, score in theirs.items():
        assert ours[label] == pytest.approx(score, rel=2e-4, abs=1e-5)


@pytest.mark.parametrize("size", [(175, 160), (160, 165), (48, 32)])
def test_sizes_that_timm_refuses(size):
    reference = timm.create_model("test_vit", num_classes=2).eval()
    model = zoo.load("test_vit", pretrained=False, num_classes=2)
    x = np.zeros((1, *size, 3), np.float32)
    try:
        reference(torch.tensor(x.transpose(0, 3, 1, 2)))
    except AssertionError:
        with pytest.raises(InputError, match="not whole patches"):
            model(x)
    else:
        assert model(x).shape == (1, 2)


def test_sizes_that_timms_networks_for_one_size_cut(tmp_path):
    options = {"num_classes": 2, "depth": 1}
    reference = timm.create_model("vit_tiny_patch16_224", img_size=(40, 52), **options).eval()
    timm.models.save_for_hf(
        reference, tmp_path, safe_serialization=True, model_args={"img_size": (40, 52), "depth": 1}
    )
    model = zoo.load(tmp_path)
    x = np.random.default_rng(0).normal(size=(2, 40, 52, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = reference(torch.tensor(x.transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(model(x), theirs, rtol=1e-4, atol=1e-5)


def test_timm_loads_a_file_with_marks(tmp_path):
    keras.utils.set_random_seed(0)
    model = zoo.load("test_resnet", pretrained=False, num_classes=3)
    folder = zoo.save(model, tmp_path / "m")
    assert zoo.load(folder).load_report.fresh
    reference = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    x = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = reference(torch.tensor(x.transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(model(x), theirs, rtol=1e-3, atol=1e-5)


def test_transformers_loads_a_file_with_marks(tmp_path):
    small = {"embed_dim": 24, "num_heads": 2, "depth": 1, "img_size": (32, 32), "patch_size": 16}
    model = zoo.load("vit", pretrained=False, num_classes=3, mlp_ratio=2.0, **small)
    folder = zoo.save(model, tmp_path / "m")
    assert zoo.load(folder).load_report.fresh
    reference = transformers.ViTForImageClassification.from_pretrained(folder).eval()
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = reference(torch.tensor(x.transpose(0, 3, 1, 2))).logits.numpy()
    np.testing.assert_allclose(model(x), theirs, rtol=1e-3, atol=1e-5)
