"""Vision Transformers against timm, live: options that no kind has; see also `test_kinds`."""

import numpy as np
import pytest
from image_models import exact_error, images, make_pair, run_reference
from reference import outputs, relative_error, timm, torch

import zoo

SMALL = {"depth": 2, "num_classes": 7}


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_the_native_size_equals(name):
    assert exact_error(make_pair(name)) < 1e-9


@pytest.mark.parametrize("name", ["test_vit", "vit_tiny_patch16_224"])
def test_a_size_known_at_run_time_alone(name):
    """As timm's dynamic_img_size: positions are resampled at every call."""
    pair = make_pair(name, dynamic_img_size=True, img_size=(64, 64), **SMALL)
    x = images((96, 48))
    expected = run_reference(pair, x)[-1]
    assert relative_error(pair.ours("float64")(x)[-1], expected) < 1e-9


def test_sizes_that_are_no_whole_patches():
    options = {"dynamic_img_size": True, "dynamic_img_pad": True, "img_size": (64, 64)}
    pair = make_pair("vit_tiny_patch16_224", **options, **SMALL)
    x = images((75, 50))
    assert relative_error(pair.ours("float64")(x)[-1], outputs(pair.reference, x)) < 1e-9


@pytest.mark.parametrize("pool", ["avg", "max", "avgmax"])
def test_other_pools_equal(pool):
    pair = make_pair("vit_tiny_patch16_224", global_pool=pool, img_size=(48, 32), **SMALL)
    assert exact_error(pair) < 1e-9


@pytest.mark.parametrize("patch", [8, 12, 20])
def test_other_patches_as_timm_resamples_them(patch, tmp_path):
    torch.manual_seed(0)
    reference = timm.create_model("flexivit_small", depth=1, num_classes=3)
    timm.models.save_for_hf(
        reference, tmp_path, safe_serialization=True, model_args={"depth": 1, "num_classes": 3}
    )
    options = {"patch_size": patch, "img_size": 120}
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, **options)
    ours = zoo.load(tmp_path, patch_size=patch, input_size=120)
    kernel, table = (ours.get_layer(n).weights for n in ("patch_embed", "embeddings"))
    expected = theirs.patch_embed.proj.weight.detach().permute(2, 3, 1, 0).numpy()
    assert np.abs(kernel[0] - expected).max() < 1e-5 * np.abs(expected).max()
    assert "patch_embed.proj.weight" in ours.load_report.adapted
    expected = theirs.pos_embed.detach().numpy()
    found = next(w for w in table if w.name == "pos_embed")
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
