"""Preprocessing: a spec for each kind of input, and what turns inputs into batches by it."""

from __future__ import annotations

import importlib
from typing import Any

from zoo.preprocessing.spec import AudioSpec, ImageSpec, SequenceSpec, Spec
from zoo.preprocessing.text_spec import TextSpec

_HOMES: dict[type[Spec], str] = {
    ImageSpec: "image.ImagePreprocessor",
    AudioSpec: "audio.AudioPreprocessor",
    SequenceSpec: "sequence.SequencePreprocessor",
    TextSpec: "text.TextPreprocessor",
}
SPECS: dict[str, type[Spec]] = {spec.kind: spec for spec in _HOMES}


def preprocessor(spec: Spec) -> Any:
    """What turns inputs into batches as `spec` says."""
    module, name = _HOMES[type(spec)].split(".")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)(spec)
