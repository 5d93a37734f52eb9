"""Folders go both ways: timm's into zoo, and zoo's back into timm, bit for bit."""

import numpy as np
import pytest
from image_models import shake
from reference import assert_same_bits, relative_error, timm, torch
from safetensors.numpy import load_file

import zoo

NAMES = [
    *("resnet18", "resnet26d", "resnext50_32x4d", "seresnet50", "resnetv2_50x1_bit"),
    *("test_vit3", "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"),
]


def save_reference(name: str, folder, **options):
    torch.manual_seed(0)
    reference = timm.create_model(name, **options).eval()
    shake(reference)
    for module in reference.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.num_batches_tracked.fill_(4711)
    timm.models.save_for_hf(reference, folder, safe_serialization=True)
    return reference


def logits(reference, x):
    with torch.no_grad():
        return reference(torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)).numpy()


@pytest.fixture(scope="module", params=NAMES)
def folders(request, tmp_path_factory):
    """timm's folder, what zoo made of it, the reference and the model."""
    theirs = tmp_path_factory.mktemp("timm")
    ours = tmp_path_factory.mktemp("zoo")
    reference = save_reference(request.param, theirs)
    model = zoo.load(theirs)
    zoo.save(model, ours)
    return theirs, ours, reference, model


def test_saved_tensors_are_the_same_bit_for_bit(folders):
    theirs, ours, _, _ = folders
    before = load_file(theirs / "model.safetensors")
    after = load_file(ours / "model.safetensors")
    assert set(before) == set(after)
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype
        assert after[name].shape == tensor.shape
        assert after[name].tobytes() == tensor.tobytes(), name


def test_timm_loads_what_zoo_saved(folders):
    _, ours, reference, model = folders
    loaded = timm.create_model(f"local-dir:{ours}", pretrained=True).eval()
    size = model.input_shape[1:3] if model.input_shape[1] else (96, 128)
    x = np.random.default_rng(0).normal(size=(1, *size, 3)).astype(np.float32)
    assert_same_bits(loaded.state_dict(), reference.state_dict())
    assert relative_error(model(x), logits(reference, x)) < 1e-4


def test_preprocessing_is_the_references(folders):
    _, ours, _, model = folders
    cfg = timm.create_model(f"local-dir:{ours}", pretrained=False).pretrained_cfg
    transform = timm.data.create_transform(**timm.data.resolve_data_config(cfg))
    image = np.random.default_rng(1).integers(0, 256, (300, 400, 3), np.uint8)
    from PIL import Image

    theirs = transform(Image.fromarray(image)).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(model.preprocess(image)[0], theirs, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_other_input_channels_as_timm_adapts_them(channels, tmp_path):
    save_reference("resnet18", tmp_path)
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, in_chans=channels).eval()
    ours = zoo.load(tmp_path, in_channels=channels)
    assert ours.load_report.adapted == ("conv1.weight",)
    x = np.random.default_rng(0).normal(size=(1, 64, 64, channels)).astype(np.float32)
    assert relative_error(ours(x), logits(theirs, x)) < 1e-5


def test_a_head_with_other_classes_goes_back_to_timm(tmp_path):
    save_reference("resnet18", tmp_path / "timm")
    model = zoo.load(tmp_path / "timm", num_classes=3, labels=["cat", "dog", "hen"])
    zoo.save(model, tmp_path / "zoo")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'zoo'}", pretrained=True).eval()
    assert theirs.num_classes == 3
    assert list(theirs.pretrained_cfg["label_names"]) == ["cat", "dog", "hen"]
    x = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype(np.float32)
    assert relative_error(model(x), logits(theirs, x)) < 1e-5
    assert zoo.load(tmp_path / "zoo").labels == ("cat", "dog", "hen")
