"""Tasks of image models: classification, and features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo.tasks.classification import Classification, Features


def as_sequence(inputs: Any) -> Sequence | np.ndarray:
    """One image or many, as a sequence: a 4-D array is a batch already."""
    if isinstance(inputs, np.ndarray) and inputs.ndim == 4:
        return inputs
    if isinstance(inputs, (list, tuple)):
        return inputs
    return [inputs]


class ImageClassification(Classification):
    """Images to classes."""

    name = "image-classification"
    headless = "image-feature-extraction"
    example = 'model.classify("picture.jpg")'

    def items(self, inputs: Any) -> Sequence | np.ndarray:
        return as_sequence(inputs)


class ImageFeatures(Features):
    """Images to features."""

    name = "image-feature-extraction"
    headless = "image-feature-extraction"
    example = 'model.embed("picture.jpg")'

    def items(self, inputs: Any) -> Sequence | np.ndarray:
        return as_sequence(inputs)
