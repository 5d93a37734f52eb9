"""A model to a folder: safetensors, config and README, in the layout that it came in."""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np

from zoo.errors import DiskError, OptionError
from zoo.layers.building import named_weights
from zoo.model import Model
from zoo.registry import registry
from zoo.registry.repo_config import config_from_card
from zoo.weights.files import save_checkpoint


def save(model: Model, folder: str | os.PathLike) -> Path:
    """Write `model.safetensors`, `config.json` and `README.md` into `folder`.

    Tensor names, shapes and dtypes are those of the reference library that the checkpoint came
    from, so that it loads what is written. The files appear together or not at all; other files
    of the folder stay.

    Returns:
        The folder.

    Raises:
        OptionError: a model that zoo did not load, or one without its whole network.
        DiskError: the folder cannot be written.
    """
    if not isinstance(model, Model) or model.card is None:
        raise OptionError(
            f"zoo.save takes a model from zoo.load; got {type(model).__name__} with no card. "
            "Save other Keras models with model.save(...)."
        )
    if model.feature_info is not None:
        raise OptionError(
            f"{model.name!r} was loaded with features_only: it has no head and perhaps not all "
            "stages, so no library could load it. Load it without features_only to save it."
        )
    folder = Path(folder).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".saving-") as staging:
            names = _write(model, Path(staging))
            for name in names:
                (Path(staging) / name).replace(folder / name)
    except OSError as error:
        raise DiskError(
            f"{folder} could not be written ({error.strerror or error}); nothing was changed in "
            "it. Check its permissions and the free space."
        ) from error
    return folder


def _write(model: Model, folder: Path) -> list[str]:
    save_checkpoint(folder / "model.safetensors", tensors(model), {"format": "pt"})
    width = int(model.embedding_tensor.shape[-1])
    head = registry.import_family(model.record.card.family).head
    config = config_from_card(model.record.card, num_features=width, classifier=head)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(readme(model), encoding="utf-8")
    return ["model.safetensors", "config.json", "README.md"]


def tensors(model: Model) -> dict[str, np.ndarray]:
    """The model's weights as the tensors of its layout, in the dtypes of the file it came from."""
    record = model.record
    family = registry.import_family(record.card.family)
    weights = {k: np.asarray(v) for k, v in named_weights(model).items()}
    table = family.layouts[record.layout]
    written = {}
    for name, array in table.export(weights).items():
        dtype = record.other_dtypes.get(name, record.file_dtype)
        kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        written[name] = np.asarray(array, dtype=kind, order="C")
    return written | table.constants_for(weights, record.constants)


def readme(model: Model) -> str:
    """A short model card: what it is, where it comes from, how to load it."""
    record, card = model.record, model.record.card
    facts = {
        "Architecture": card.architecture,
        "Task": record.task,
        "Licence": card.license or "not stated",
        "Parameters": f"{sum(math.prod(w.shape) for w in model.trainable_weights):,}",
        "Started from": record.report.source or "random initialisation",
        "Commit": record.report.commit,
    }
    header = {"library_name": "timm", "license": card.license, "tags": ["tfzoo"]}
    front = "\n".join(
        f"{k}:\n" + "\n".join(f"- {t}" for t in v) if isinstance(v, list) else f"{k}: {v}"
        for k, v in header.items()
        if v is not None
    )
    rows = "\n".join(f"- {k}: {v}" for k, v in facts.items() if v is not None)
    usage = 'import zoo\n\nmodel = zoo.load("./this_folder")\nmodel.classify("picture.jpg")'
    return f"---\n{front}\n---\n# {card.name}\n\n{rows}\n\n```python\n{usage}\n```\n"
