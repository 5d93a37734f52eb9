"""`zoo/registry/labels/`: the ImageNet label sets that timm can infer, and what names mean."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from reference import timm

from zoo.registry.labels import FOLDER

from .text import lines, render

_imagenet = timm.data.imagenet_info


def files() -> dict[Path, Any]:
    """The texts of the files, uncompressed, each by a function."""
    names = [f"{name}.txt.gz" for name in _imagenet._NUM_CLASSES_TO_SUBSET.values()]
    names += ["lemmas.tsv.gz", "index.json"]
    return {FOLDER / name: functools.partial(_text, name) for name in names}


def _text(file: str) -> str:
    return _texts()[file]


@functools.cache
def _texts() -> dict[str, str]:
    names = _imagenet._NUM_CLASSES_TO_SUBSET.values()
    subsets = {name: _imagenet.ImageNetInfo(name) for name in names}
    lemmas = {}
    for subset in subsets.values():
        lemmas.update(subset.label_descriptions(as_dict=True))
    sets = {f"{name}.txt.gz": lines(subset.label_names()) for name, subset in subsets.items()}
    sizes = {name: subset.num_classes() for name, subset in subsets.items()}
    meanings = lines(f"{synset}\t{lemmas[synset]}" for synset in sorted(lemmas))
    return sets | {"lemmas.tsv.gz": meanings, "index.json": render(sizes)}
