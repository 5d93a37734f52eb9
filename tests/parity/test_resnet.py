"""ResNet and ResNetV2 against timm, live: options that no kind has; see also `test_kinds`."""

import pytest
from image_models import exact_error, make_pair

SHORT = {"layers": (1, 2, 1, 1)}


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", ["resnet18", "resnet50d", "resnetv2_50", "resnetv2_18d"])
def test_dilated_networks_equal(name, output_stride):
    layers = (1, 1, 2, 2)  # a block after the one that would halve takes the next dilation
    assert exact_error(make_pair(name, output_stride=output_stride, layers=layers)) < 1e-9


@pytest.mark.parametrize("pool", ["max", "avgmax", "catavgmax"])
def test_other_pools_equal(pool):
    assert exact_error(make_pair("resnet18", global_pool=pool, **SHORT)) < 1e-9
