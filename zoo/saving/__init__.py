"""A model to a folder: safetensors, config and README, in the layout that it came in."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from zoo.architectures.base import Architecture
from zoo.errors import ConfigError, OptionError
from zoo.layers.building import named_weights
from zoo.loading.pulling import MODULE
from zoo.model import Model
from zoo.preprocessing.text_spec import TextSpec
from zoo.registry import registry
from zoo.registry.dialect import Dialect
from zoo.registry.repo_config import (
    card_from_config,
    config_from_card,
    preprocessor_from_card,
    text_files,
)
from zoo.registry.sentence_config import folders_of
from zoo.saving.files import INDEX, install, staging_in, write_weights
from zoo.saving.readme import readme
from zoo.weights.files import MAX_SHARD_SIZE, save_checkpoint


def save(
    model: Model, folder: str | os.PathLike, *, max_shard_size: int | str = MAX_SHARD_SIZE
) -> Path:
    """Write `model.safetensors`, `config.json` and `README.md` into `folder`.

    Tensor names, shapes and dtypes are those of the reference library that the checkpoint came
    from, so that it loads what is written. The files appear together or not at all; other files
    of the folder stay, except for weights that lay there, which would be mistaken for the model's.

    Args:
        model: from `zoo.load`.
        folder: made if it is not there.
        max_shard_size: bytes, or a text such as `5GB`: larger weights are cut into several files
            with an index, as transformers reads them; timm reads one file alone.

    Returns:
        The folder.

    Raises:
        OptionError: a model that zoo did not load, or one without its whole network.
        DiskError: the folder cannot be written.
    """
    folder = Path(folder).expanduser()
    check_whole(model)
    with staging_in(folder) as staging:
        names = write(model, staging, f"./{folder.resolve().name}", max_shard_size)
        install(staging, folder, names)
    return folder


def check_whole(model: Model) -> None:
    """Raise `OptionError` for what no library could load."""
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


def write(model: Model, folder: Path, address: str, max_shard_size: int | str) -> list[str]:
    """Write the files of a model into an empty folder. Returns their names.

    Args:
        address: what the README tells `zoo.load` to take.
    """
    texts = texts_of(model)
    whole, modules = _apart(tensors(model))
    untrained = untrained_tensors(model)
    names = write_weights(whole, folder, max_shard_size, untrained=untrained)
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
        names.append(name)
    folders = folders_of(model.record.card.config.get("modules") or ())
    for number, module in modules.items():
        prefix = f"{MODULE}.{number}."
        names.append(f"{folders[number]}/model.safetensors")
        marked = {name.removeprefix(prefix) for name in untrained if name.startswith(prefix)}
        save_checkpoint(folder / names[-1], module, {"format": "pt"}, marked)
    (folder / "README.md").write_text(
        readme(model, address, whole=INDEX not in names), encoding="utf-8"
    )
    return [*names, "README.md"]


def _apart(tensors: Mapping[str, np.ndarray]) -> tuple[dict, dict[int, dict]]:
    """The tensors of the main file, and those of modules with a file of their own, by number."""
    whole = {k: v for k, v in tensors.items() if not k.startswith(f"{MODULE}.")}
    modules: dict[int, dict[str, np.ndarray]] = {}
    for name in sorted(tensors.keys() - whole.keys()):
        _, number, rest = name.split(".", 2)
        modules.setdefault(int(number), {})[rest] = tensors[name]
    return whole, modules


def texts_of(model: Model) -> dict[str, str]:
    """The files of a model that are no weights, by name, in the form of its layout.

    Raises:
        ConfigError: the form cannot say what the model is.
    """
    card, layout = model.record.card, model.record.layout
    family = registry.import_family(card.family)
    dialect = family.formats.of_layout(layout)
    texts = {}
    if isinstance(card.preprocessing, TextSpec) and dialect.tokenizer is not None:
        fields = vars(family.read_config(card.config, origin=card.name))
        texts = text_files(card.preprocessing, fields)
    config = _config_of(model, family, dialect, texts.get)
    data = {
        "config.json": config,
        "preprocessor_config.json": preprocessor_from_card(card, layout=layout),
    }
    return texts | {
        name: json.dumps(value, indent=2) + "\n"
        for name, value in data.items()
        if value is not None
    }


def _config_of(
    model: Model, family: Architecture, dialect: Dialect, file: Callable[[str], str | None]
) -> dict[str, Any]:
    card, layout = model.record.card, model.record.layout
    if dialect.config_form == "timm":
        layers = {layer.name for layer in model.layers}
        heads = [head for head in family.heads if head in layers]
        width = int(model.embedding_tensor.shape[-1])
        classifier = heads[0] if len(heads) == 1 else heads
        return config_from_card(card, layout=layout, num_features=width, classifier=classifier)
    if dialect.config_form == "zoo":
        return config_from_card(card, layout=layout)
    config = family.read_config(card.config, origin=card.name)
    fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    written = config_from_card(card, layout=layout, fields=fields)
    card = card_from_config(written, origin=layout, file=file)
    _check_says(family.read_config(card.config, origin=layout), dialect, config, layout)
    return written


def _check_says(back: Any, dialect: Dialect, config: Any, layout: str) -> None:
    """Raise `ConfigError` where a config is not read back as what the network is."""
    told = {one.name for one in dialect.told}
    lost = [
        f.name
        for f in dataclasses.fields(config)
        if getattr(back, f.name) != getattr(config, f.name)
        and not f.name.endswith("_rate")  # those act in training alone
        and f.name not in told
    ]
    if lost:
        raise ConfigError(
            f"transformers' {layout} has no form for {', '.join(lost)} as this model has it; what "
            "it loads would compute something else. Save the model with model.save(...) instead."
        )


def tensors(model: Model) -> dict[str, np.ndarray]:
    """The model's weights as the tensors of its layout, in the dtypes of the file it came from."""
    record = model.record
    family = registry.import_family(record.card.family)
    weights = {k: np.asarray(v) for k, v in named_weights(model).items()}
    table = family.formats.table(record.layout)
    written = {}
    for name, array in table.export(weights, record.tensor_names).items():
        dtype = record.other_dtypes.get(name, record.file_dtype)
        kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        written[name] = np.asarray(array, dtype=kind, order="C")
    return written | table.constants_for(weights, record.constants)


def untrained_tensors(model: Model) -> set[str]:
    """The names of the tensors that were never trained, in the model's layout."""
    fresh, record = set(model.fresh), model.record
    if not fresh:
        return set()
    table = registry.import_family(record.card.family).formats.table(record.layout)
    matches = [m for m in table.matches(named_weights(model)) if fresh & set(m.models)]
    return {name for m in matches for name in (*m.sources, *m.aliases, *m.written)}
