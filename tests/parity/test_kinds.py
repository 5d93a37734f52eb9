"""Every kind of network against timm, live: one architecture of each block, stem, norm and head.

`tests/kinds.toml` lists them. `make parity-all` runs the same comparison over every name; see
docs/parity.md.
"""

import pytest
from image_models import (
    config_of,
    exact_error,
    figures,
    gradient_error,
    make_pair,
    passes,
    resized,
)
from kinds import FAMILIES

KINDS = {
    f"{family.name}: {kind}": (family, name)
    for family in FAMILIES.values()
    for kind, name in family.kinds.items()
}


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS)
def pair(request):
    family, name = request.param
    patch = getattr(config_of(name)[1], "patch_size", None)
    size = {"img_size": (3 * patch, 3 * patch)} if patch else {}  # timm resamples square grids
    return make_pair(name, **size | family.options("parity", name))


def test_outputs_and_feature_maps_equal(pair):
    errors = figures(pair)
    assert passes(errors), errors
    if pair.family.resize is not None:  # as both fit the weights to another image size
        patch = pair.config.patch_size
        assert exact_error(resized(pair, (5 * patch, 2 * patch))) < 1e-9


def test_gradients_equal_in_float64(pair):
    assert gradient_error(pair) < 1e-8
