"""What the heads of text models share: a language model's last map, tied to the table of tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from zoo.weights.mapping import WeightMap

TOKENS = "embeddings.word_embeddings.embeddings"  # the table's weight

_Config = TypeVar("_Config", bound=Any)


def untied(
    config: _Config, tensors: Mapping[str, np.ndarray], layouts: Iterable[WeightMap]
) -> _Config:
    """The config of a language model whose file may have other values for its last map than for the
    table: the map is then its own, whatever the config says, since transformers 5 ties equal ones
    alone (`PreTrainedModel.tie_weights`; 5.23.0)."""
    if config.head != "language" or not config.tied:
        return config
    own = any(layout.disagrees(tensors, TOKENS) for layout in layouts)
    return dataclasses.replace(config, tied=False) if own else config
