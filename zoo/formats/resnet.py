"""How others write ResNets: timm's names of weights, which the model has too."""

from __future__ import annotations

from zoo.registry.dialect import TIMM, Dialect, Formats, Recipe
from zoo.weights.mapping import BATCHES_TRACKED, WeightMap, torch_rows

RECIPE = Recipe(
    learning_rate=2e-3,
    layer_decay=0.75,
    label_smoothing=0.1,
    warmup=0.25,
    source="Howard and Gugger, fastai, arXiv:2002.04688: fine_tune, 1e-3 at batch 64 with a "
    "hundredth of it for the stem (0.75 from block to block of a ResNet-50), weight decay 0.01, a "
    "quarter of the steps to warm up; label smoothing of Wightman et al., arXiv:2110.00476",
)
FORMATS = Formats(
    dialects={
        "timm": Dialect(library=TIMM, weights=WeightMap(torch_rows(), constants=(BATCHES_TRACKED,)))
    },
    nested=("block_args",),
    idle=("zero_init_last", "drop_block_rate"),
    recipe=RECIPE,
)
