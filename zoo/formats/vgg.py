"""How others write VGG: timm's names of weights, which the model has too."""

from __future__ import annotations

from zoo.formats.resnet import RECIPE
from zoo.registry.dialect import TIMM, Dialect, Formats
from zoo.weights.mapping import BATCHES_TRACKED, WeightMap, torch_rows

WEIGHTS = WeightMap(torch_rows(), constants=(BATCHES_TRACKED,))
FORMATS = Formats(dialects={"timm": Dialect(library=TIMM, weights=WEIGHTS)}, recipe=RECIPE)
