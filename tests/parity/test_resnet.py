"""ResNet and ResNetV2 against timm, live: one architecture of every kind of block, stem and norm.

A kind needs no depth and no width: of its stages one has two blocks, the first and what follows it,
and the others one. `make parity-all` runs the same comparison over every name, whole; see
docs/parity.md.
"""

import pytest
from image_models import exact_error, figures, gradient_error, make_pair

from zoo.registry import registry

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
SHORT = {"layers": (1, 2, 1, 1)}
NARROW = {"resnet": SHORT | {"channels": (32, 64, 64, 96)},
          "resnetv2": SHORT | {"channels": (128, 128, 256, 256)}}  # fmt: skip
# as they are; timm makes what it pruned at no other depth, and ECA's kernels follow the width
WHOLE = {"resnet18", "test_resnet", "ecaresnet26t", "ecaresnet50d_pruned", "resnetv2_50"}


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS)
def pair(request):
    family = registry.architecture_card(request.param).family
    groups = {"cardinality": 4} if "32x4d" in request.param else {}
    return make_pair(request.param, **({} if request.param in WHOLE else NARROW[family] | groups))


def test_outputs_and_feature_maps_equal(pair):
    errors = figures(pair)
    assert max(errors["float64"], errors["maps"]) < 1e-9, errors
    assert errors["float32"] <= max(1e-5, 2 * errors["reference float32"]), errors


def test_gradients_equal_in_float64(pair):
    assert gradient_error(pair) < 1e-8


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", ["resnet18", "resnet50d", "resnetv2_50", "resnetv2_18d"])
def test_dilated_networks_equal(name, output_stride):
    layers = (1, 1, 2, 2)  # a block after the one that would halve takes the next dilation
    assert exact_error(make_pair(name, output_stride=output_stride, layers=layers)) < 1e-9


@pytest.mark.parametrize("pool", ["max", "avgmax", "catavgmax"])
def test_other_pools_equal(pool):
    assert exact_error(make_pair("resnet18", global_pool=pool, **SHORT)) < 1e-9
