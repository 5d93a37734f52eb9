"""How others write pre-activation ResNets: timm's names of weights, which the model has too."""

from __future__ import annotations

from zoo.formats.resnet import RECIPE
from zoo.registry.dialect import TIMM, Dialect, Formats
from zoo.weights.mapping import BATCHES_TRACKED, Row, WeightMap, torch_rows

WEIGHTS = WeightMap(
    (*torch_rows(pointwise=("head.fc",)), Row("*.v", "*.v"), Row("*.tau", "*.tau")),
    constants=(BATCHES_TRACKED,),
)
FORMATS = Formats(
    dialects={"timm": Dialect(library=TIMM, weights=WEIGHTS)},
    idle=("zero_init_last",),
    recipe=RECIPE,
)
