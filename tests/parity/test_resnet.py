"""ResNet and ResNetV2 against timm, live: options that no kind has; see also `test_kinds`."""

import pytest
from image_models import figures, make_pair


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
