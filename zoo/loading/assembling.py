"""From the card and the files of a model to the model: config, network, weights."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from zoo import typed
from zoo.architectures.base import Adapt, Architecture, Feature, Graph
from zoo.errors import ConfigError, OptionError, ZooError
from zoo.layers.building import (
    build_uninitialized,
    dtype_scope,
    initialize,
    learned_weights,
    named_weights,
)
from zoo.layers.convolution import adapt_channels
from zoo.layers.initial import checksums
from zoo.loading.configuring import configure, recorded
from zoo.loading.options import LoadOptions
from zoo.loading.pulling import Fetched
from zoo.model import Model
from zoo.record import LoadReport, Record
from zoo.registry import registry
from zoo.registry.card import ModelCard
from zoo.weights.files import Checkpoint, open_checkpoint
from zoo.weights.folder import Files
from zoo.weights.mapping import Resolution, WeightMap

# How many variables a network can have beside a file: for each tensor, and of a head or dropout.
_SHARE, _BESIDE = 4, 256


def assemble(found: Fetched, wishes: LoadOptions, dtype: str | None) -> Model:
    """Build the model of a card with a caller's wishes, and give it the weights of its files.

    No files: fresh random weights.
    """
    family, files = registry.import_family(found.card.family), found.files
    paths = [*found.paths, *found.modules]
    checkpoint = open_checkpoint(paths, found.modules) if paths else None
    card = found.card if paths else _without_weights(found.card)
    model, config = _uninitialized(card, family, wishes, _policy(dtype, checkpoint), checkpoint)
    if checkpoint is None:
        initialize(model, {})
        bare = dataclasses.replace(model.record.card, weights=None)
        report = LoadReport(fresh=tuple(learned_weights(model)), idle=card.idle)
        _attach(model, dataclasses.replace(model.record, card=bare, report=report))
        return model
    shapes = {name: tuple(weight.shape) for name, weight in named_weights(model).items()}
    leeway = _leeway(card, family, config, wishes, shapes)
    known = [name for name in shapes if name not in leeway["fresh"]]
    layout = family.formats.layout_of(model.record.layout, checkpoint, known)
    table = family.formats.table(layout)
    resolution = table.resolve(
        checkpoint,
        shapes,
        **leeway,
        hints=family.hints,
        aliases=checkpoint.aliases,
        origin=paths[0].name if len(paths) == 1 else f"{len(paths)} files",
    )
    initialize(model, resolution.values, checkpoint.release)
    marked = _marked(table, checkpoint, resolution)
    record = _loaded(model.record, checkpoint, resolution, paths, files, marked)
    if family.tasks and record.task != card.task:
        # a network of another class than the file's; what the file had beside it is not its own
        layout = family.formats.own_layout(card.architecture, vars(config))
        record = dataclasses.replace(record, other_dtypes={}, constants=None, tensor_names={})
    _attach(model, dataclasses.replace(record, layout=layout))
    return model


def _attach(model: Model, record: Record) -> None:
    """Give a model its record, with the values that its untrained weights have now."""
    initial = checksums(model, record.report.fresh)
    model.attach(dataclasses.replace(record, initial=initial))


def _without_weights(card: ModelCard) -> ModelCard:
    """The card without what it says of its weights alone, for random ones."""
    return dataclasses.replace(
        card,
        name=card.architecture,
        license=None,
        published={},
        paper_ids=(),
        origin_url=None,
        description=None,
    )


def _marked(table: WeightMap, checkpoint: Checkpoint, resolution: Resolution) -> tuple[str, ...]:
    """The weights that the files say were never trained."""
    if not checkpoint.untrained:
        return ()
    matches = [
        m
        for m in table.matches(resolution.values)
        if checkpoint.untrained & {*m.sources, *m.aliases}
    ]
    return tuple(name for match in matches for name in match.models)


def rebuild(
    model: Model, *, labels: Sequence[str] | None = None, dtype: str | None = None, **options: Any
) -> Model:
    """The same network once more, with copies of the weights; the model stays as it is.

    Args:
        model: from `load`, with its whole network.
        labels: names of the classes. Where they are not the model's own, the head is fresh.
        dtype: a Keras policy's name; None keeps the model's.
        options: fields of the family's config, such as `drop_path_rate`.

    Raises:
        OptionError: as `load`.
    """
    card, record = model.record.card, model.record
    family = registry.import_family(card.family)
    fresh = labels is not None and tuple(labels) != model.labels
    wishes = LoadOptions(
        labels=tuple(labels) if labels is not None and fresh else None, config=options
    )
    policy = model.dtype_policy if dtype is None else _policy(dtype, None)
    twin, _ = _uninitialized(card, family, wishes, policy)
    heads = tuple(f"{head}." for head in family.heads) if fresh else ()
    shapes = {name: weight.shape for name, weight in named_weights(twin).items()}
    kept = {
        name: np.asarray(weight)
        for name, weight in named_weights(model).items()
        if name in shapes and not name.startswith(heads)
    }
    initialize(twin, kept)
    still = set(model.fresh) & set(kept)
    report = dataclasses.replace(
        record.report, fresh=tuple(sorted(set(shapes) - set(kept) | still))
    )
    _attach(
        twin,
        dataclasses.replace(record, card=twin.record.card, task=twin.record.task, report=report),
    )
    return twin


def _uninitialized(
    card: ModelCard,
    family: Architecture,
    wishes: LoadOptions,
    policy: keras.DTypePolicy,
    checkpoint: Checkpoint | None = None,
) -> tuple[Model, Any]:
    """The model of a card with a caller's wishes, its weights without values, and its config."""
    config = stated = configure(card, family, wishes)
    if checkpoint is not None:
        _, dialect = family.formats.of(card.architecture)
        told = dialect.told_by(checkpoint, vars(config))
        config = dataclasses.replace(config, **told)
    changed = {k: v for k, v in vars(config).items() if v != getattr(stated, k)}
    notes = tuple(f"{k}={v!r}, as the file's tensors have it" for k, v in changed.items())
    if checkpoint is not None and (layers := typed.depth(config)) > len(checkpoint):
        raise ConfigError(
            f"{card.name}: its config asks for {layers} layers; the file has {len(checkpoint)} "
            "tensors, and each layer needs one at least."
        )
    record = recorded(card, family, config, wishes)
    record = dataclasses.replace(record, report=LoadReport(notes=notes))
    most = {} if checkpoint is None else {"most": _SHARE * len(checkpoint) + _BESIDE}
    try:
        with dtype_scope(policy):
            model = build_uninitialized(lambda: _model(record, family, config, wishes), **most)
    except ZooError:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        # what a layer says of sizes that cannot be is said of the config
        raise ConfigError(f"{card.name}: no network can be built of its config: {error}") from error
    return model, config


def _policy(dtype: str | None, checkpoint: Checkpoint | None) -> keras.DTypePolicy:
    if dtype is None:
        return keras.config.dtype_policy()
    if dtype == "auto":
        return keras.DTypePolicy(_main_dtype(checkpoint) if checkpoint else "float32")
    try:
        return keras.DTypePolicy(dtype)
    except (ValueError, TypeError) as error:
        raise OptionError(
            f"dtype={dtype!r} is no Keras dtype policy. Use 'auto', 'float32', 'bfloat16', "
            "'mixed_bfloat16', 'float16', 'mixed_float16' or 'float64'."
        ) from error


def _main_dtype(checkpoint: Checkpoint) -> str:
    """The float dtype that most of a file's tensors have."""
    counts = Counter(str(checkpoint.dtype(name)) for name in checkpoint)
    floats = [(n, d) for d, n in counts.items() if "float" in d]
    return max(floats)[1] if floats else "float32"


def _model(record: Record, family: Architecture, config: Any, wishes: LoadOptions) -> Model:
    """The network as a model with its record; outputs are the head's, or the chosen maps."""
    graph = family.build(config, wishes.input_size or (None, None))
    outputs = graph.outputs
    if wishes.features_only:
        chosen = _chosen(graph, wishes.out_indices)
        outputs = [tensor for _, tensor in chosen]
        record = dataclasses.replace(record, features=tuple(feature for feature, _ in chosen))
    name = re.sub(r"[^\w.-]+", "_", record.card.name).strip("_")
    model = Model(graph.inputs, outputs, name=name)
    model.attach(record)
    return model


def _chosen(graph: Graph, indices: Sequence[int] | None) -> list[tuple[Feature, Any]]:
    count = len(graph.features)
    if not count:
        raise OptionError("features_only was asked for, but this network gives no feature maps.")
    for index in indices or ():
        if not -count <= index < count:
            raise OptionError(
                f"out_indices has {index}; this network has {count} maps: 0 to {count - 1}."
            )
    chosen = [graph.features[i] for i in (range(count) if indices is None else indices)]
    return [(feature, graph.as_map(feature.name, tensor)) for feature, tensor in chosen]


def _leeway(
    card: ModelCard,
    family: Architecture,
    config: Any,
    wishes: LoadOptions,
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, Any]:
    """Where the checkpoint may differ from the model because the caller wished so."""
    new_head = any(w is not None for w in (wishes.num_classes, wishes.labels, wishes.task))
    starts = tuple(f"{part}." for part in (*family.heads, *(family.head_parts * new_head)))
    heads = [name for name in shapes if name.startswith(starts)]
    spare = ["*"] if wishes.features_only else []
    if not heads:
        spare.extend(f"{head}.*" for head in family.heads)
    adapt: dict[str, Adapt] = {}
    if family.first_conv is not None:
        adapt[f"{family.first_conv(config)}.kernel"] = adapt_channels
    resized = wishes.input_size is not None or set(family.sizes) & set(wishes.config)
    if family.resize is not None and resized:
        adapt |= family.resize(config, family.read_config(card.config, origin=card.name))
    return {
        "fresh": heads if new_head else (),
        "spare": spare,
        "adapt": adapt,
    }


def _loaded(
    record: Record,
    checkpoint: Checkpoint,
    resolution: Resolution,
    paths: Sequence[Path],
    files: Files | None,
    marked: tuple[str, ...],
) -> Record:
    """The record with what a save needs from the file, and with the report."""
    dtype = _main_dtype(checkpoint)
    names = resolution.names.items()
    notes = (f"the tensor of {s} is in the file as {' and '.join(held)}" for s, held in names)
    report = LoadReport(
        source=files.origin if files is not None else str(paths[0]),
        commit=files.commit if files is not None else None,
        pull_request=files.pull_request if files is not None else None,
        files=tuple(path.name for path in paths),
        loaded=len(resolution.values),
        fresh=(*resolution.fresh, *marked),
        marked=marked,
        ignored=resolution.ignored,
        adapted=resolution.adapted,
        notes=(*record.report.notes, *notes),
        dtype=dtype,
        idle=record.card.idle,
    )
    held = [name for name in checkpoint if name not in resolution.constants]
    dtypes = {name: str(checkpoint.dtype(name)) for name in held}
    return dataclasses.replace(
        record,
        file_dtype=dtype,
        other_dtypes={k: d for k, d in dtypes.items() if d != dtype},
        constants={k: np.array(v) for k, v in resolution.constants.items()},
        tensor_names=resolution.names,
        report=report,
    )
