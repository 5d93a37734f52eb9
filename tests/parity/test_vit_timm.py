"""Vision Transformers against timm, live: one architecture of every kind of block and head.

`make parity-all` runs the same comparison over every name; see docs/parity.md.
"""

import numpy as np
import pytest
from image_models import (
    exact_error,
    figures,
    gradient_error,
    images,
    make_pair,
    resized,
    run_reference,
)
from reference import outputs, relative_error, timm, torch

import zoo

KINDS = {
    "dynamic size": "test_vit",
    "registers, mean": "test_vit2",
    "registers, attention pooling": "test_vit3",
    "RMS norm": "test_vit4",
    "plain": "vit_tiny_patch16_224",
    "distilled": "deit_tiny_distilled_patch16_224",
    "layer scale, no slots": "deit3_small_patch16_224",
    "CLIP": "vit_xsmall_patch16_clip_224",
    "CLIP, QuickGELU": "vit_base_patch16_clip_quickgelu_224",
    "DINOv2": "vit_small_patch14_dinov2",
    "DINOv2 with registers": "vit_small_patch14_reg4_dinov2",
    "packed SwiGLU": "vit_giant_patch14_reg4_dinov2",
    "SigLIP": "vit_base_patch16_siglip_224",
    "SigLIP, tanh GELU": "vit_base_patch32_siglip_256",
    "SigLIP, mean": "vit_base_patch32_siglip_gap_256",
    "mean": "vit_base_patch16_gap_224",
    "mean, fc_norm": "eva_large_patch14_196",
    "no qkv bias": "vit_medium_patch16_gap_240",
    "registers with slots": "vit_so150m_patch16_reg4_gap_256",
    "SwiGLU, AIMv2": "aimv2_large_patch14_224",
    "norms inside, BEiT-3": "beit3_base_patch16_224",
    "differential attention": "vit_dwee_patch16_reg1_gap_256",
    "differential, parallel": "vit_dpwee_patch16_reg1_gap_256",
    "parallel": "vit_pwee_patch16_reg1_gap_256",
    "parallel, q and k normed": "vit_base_patch16_xp_224",
    "side by side": "vit_small_patch16_18x2_224",
    "norm after": "vit_base_patch16_rpn_224",
    "no final norm": "vit_intern300m_patch14_448",
    "bilinear positions": "flexivit_small",
    "bilinear positions, no antialias": "vit_large_patch16_radio_v3",
    "bilinear positions, corners": "vit_base_patch16_radio_v3",
}
SMALL = {"depth": 2, "num_classes": 7}
NARROW = SMALL | {"embed_dim": 96, "num_heads": 4}


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS)
def pair(request):
    config = make_config(request.param)
    size = (3 * config.patch_size, 3 * config.patch_size)  # timm resamples square grids
    return make_pair(request.param, img_size=size, **NARROW)


def make_config(name):
    family = zoo.registry.registry.import_family("vit")
    data = zoo.registry.registry.architecture_config(name)[1]
    return family.read_config(data, origin=name)


def test_outputs_and_feature_maps_equal(pair):
    errors = figures(pair)
    assert max(errors["float64"], errors["maps"]) < 1e-9, errors
    assert errors["float32"] <= max(1e-5, 2 * errors["reference float32"]), errors


def test_another_image_size_equals(pair):
    patch = pair.config.patch_size
    assert exact_error(resized(pair, (5 * patch, 2 * patch))) < 1e-9


def test_gradients_equal_in_float64(pair):
    assert gradient_error(pair) < 1e-8


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
