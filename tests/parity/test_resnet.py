"""ResNet and ResNetV2 against timm, live: one architecture of every kind of block, stem and norm.

`make parity-all` runs the same comparison over every name; see docs/parity.md.
"""

import pytest
from image_models import figures, gradient_error, make_pair

KINDS = {
    "basic": "resnet18",
    "bottleneck": "resnet26",
    "mixed blocks": "test_resnet",
    "deep stem, average shortcut": "resnet26d",
    "tiered stem": "resnet14t",
    "grouped": "resnext50_32x4d",
    "group norm": "resnet50_gn",
    "squeeze-excite": "seresnet50",
    "3x3 shortcut, reduced first": "senet154",
    "ECA": "ecaresnet26t",
    "pruned": "ecaresnet50d_pruned",
    "blur pool": "resnetblur18",
    "average anti-aliasing": "resnetaa34d",
    "convolution for the stem pool": "resnetrs50",
    "selective kernel, basic": "skresnet18",
    "selective kernel, bottleneck": "skresnet50",
    "selective kernel, grouped": "skresnext50_32x4d",
    "split attention": "resnest14d",
    "split attention, grouped": "resnest50d_4s2x40d",
    "split attention, radix 1": "resnest50d_1s4x24d",
    "v2, basic": "resnetv2_18",
    "v2, basic, average shortcut": "resnetv2_18d",
    "v2, bottleneck": "resnetv2_50",
    "v2, tiered stem": "resnetv2_50t",
    "v2, group norm": "resnetv2_50d_gn",
    "v2, EvoNorm": "resnetv2_50d_evos",
    "v2, filter response norm": "resnetv2_50d_frn",
    "v2, BiT": "resnetv2_50x1_bit",
}
# the same blocks at a depth that keeps the comparison short
REDUCED = {"senet154": {"layers": (1, 1, 1, 1)}}


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS)
def pair(request):
    return make_pair(request.param, **REDUCED.get(request.param, {}))


def test_outputs_and_feature_maps_equal(pair):
    errors = figures(pair)
    assert max(errors["float64"], errors["maps"]) < 1e-9, errors
    assert errors["float32"] <= max(1e-5, 2 * errors["reference float32"]), errors


def test_gradients_equal_in_float64(pair):
    assert gradient_error(pair) < 1e-8


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", ["resnet18", "resnet50d", "resnetv2_50", "resnetv2_18d"])
def test_dilated_networks_equal(name, output_stride):
    assert figures(make_pair(name, output_stride=output_stride))["float64"] < 1e-9


@pytest.mark.parametrize("pool", ["max", "avgmax", "catavgmax"])
def test_other_pools_equal(pool):
    assert figures(make_pair("resnet18", global_pool=pool))["float64"] < 1e-9


def test_post_activation_v2_equal():
    """No timm name uses it; its hybrid transformers do."""
    assert figures(make_pair("resnetv2_50", preact=False))["float64"] < 1e-9
