"""Tasks of image models: classification, and features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo.tasks.classification import Classification, Features
from zoo.tasks.explaining import Explaining


def as_sequence(inputs: Any) -> Sequence | np.ndarray:
    """One image or many, as a sequence: a 4-D array is a batch already."""
    if isinstance(inputs, np.ndarray) and inputs.ndim == 4:
        return inputs
    if isinstance(inputs, (list, tuple)):
        return inputs
    return [inputs]


class _Images(Explaining):
    """Takes one image or many."""

    def items(self, inputs: Any) -> Sequence | np.ndarray:
        return as_sequence(inputs)


class ImageClassification(_Images, Classification):
    """Images to classes."""

    name = "image-classification"
    verbs = (*Classification.verbs, *Explaining.verbs)
    headless = "image-feature-extraction"
    example = 'model.classify("picture.jpg")'


class ImageFeatures(_Images, Features):
    """Images to features."""

    name = "image-feature-extraction"
    verbs = (*Features.verbs, *Explaining.verbs)
    headless = "image-feature-extraction"
    headed = "image-classification"
    example = 'model.embed("picture.jpg")'
