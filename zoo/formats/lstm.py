"""How others write networks over `torch.nn.LSTM`: its names of weights."""

from __future__ import annotations

from zoo.registry.dialect import Dialect, Formats, Recipe
from zoo.weights.mapping import RECURRENT_ROWS, Row, WeightMap, torch_rows

WEIGHTS = WeightMap(
    (Row("encoder.embeddings", "encoder.weight"), *RECURRENT_ROWS, *torch_rows()),
)
FORMATS = Formats(
    dialects={"torch": Dialect(library="torch 2.13.0", weights=WEIGHTS)},
    recipe=Recipe(
        learning_rate=8e-3,
        layer_decay=0.385,
        schedule="linear",
        source="Howard and Ruder, ULMFiT, arXiv:1801.06146: 4e-3 at batch 64, discriminative by "
        "1 / 2.6, slanted triangular with a tenth of the steps to warm up",
    ),
)
