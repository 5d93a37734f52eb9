"""From the card and the files of a model to the model: config, network, weights."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from zoo.architectures.base import Adapt, Feature, Graph
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
from zoo.loading.configuring import Plan, plan
from zoo.loading.options import LoadOptions
from zoo.loading.pulling import Fetched
from zoo.model import Model
from zoo.record import LoadReport, Record
from zoo.registry.card import ModelCard
from zoo.weights.files import Checkpoint, open_checkpoint
from zoo.weights.mapping import Resolution, WeightMap

# How many variables a network can have beside a file: for each tensor, and of a head or dropout.
_SHARE, _BESIDE = 4, 256


def assemble(found: Fetched, options: LoadOptions, dtype: str | None) -> Model:
    """Build the model of a card as a caller wants it, and give it the weights of its files.

    No files: fresh random weights.
    """
    paths = [*found.paths, *found.modules]
    checkpoint = open_checkpoint(paths, found.modules) if paths else None
    card = found.card if paths else _without_weights(found.card)
    made = plan(card, options, checkpoint)
    model, features = _uninitialized(made, _policy(dtype, checkpoint), checkpoint)
    if checkpoint is None:
        initialize(model, {})
        report = LoadReport(fresh=tuple(learned_weights(model)), idle=card.idle)
        of_file: dict[str, Any] = {"layout": _own_layout(made), "report": report}
    else:
        of_file = _fill(model, made, checkpoint, found)
    card, task, embedding = made.card, made.task, made.family.embedding
    _attach(model, Record(card=card, task=task, embedding=embedding, features=features, **of_file))
    return model


def _own_layout(made: Plan) -> str:
    return made.family.formats.own_layout(made.card.architecture, vars(made.config))


def _fill(model: Model, made: Plan, checkpoint: Checkpoint, found: Fetched) -> dict[str, Any]:
    """Give a model the weights of its files: what its record says of them."""
    formats, paths = made.family.formats, [*found.paths, *found.modules]
    shapes = {name: tuple(weight.shape) for name, weight in named_weights(model).items()}
    tolerated = _tolerated(made, shapes)
    known = [name for name in shapes if name not in tolerated["fresh"]]
    stated = (made.card.weights and made.card.weights.layout) or _own_layout(made)
    layout = formats.layout_of(stated, checkpoint, known)
    resolution = formats.table(layout).resolve(
        checkpoint,
        shapes,
        **tolerated,
        hints=made.family.hints,
        aliases=checkpoint.aliases,
        origin=paths[0].name if len(paths) == 1 else f"{len(paths)} files",
    )
    initialize(model, resolution.values, checkpoint.release)
    marked = _marked(formats.table(layout), checkpoint, resolution)
    report = _report(made, checkpoint, resolution, found, marked)
    if made.family.tasks and made.task != made.stated.task:
        # a network of another class than the file's; what the file had beside it is not its own
        return {"layout": _own_layout(made), "report": report, "file_dtype": report.dtype}
    dtypes = {name: str(checkpoint.dtype(name)) for name in checkpoint}
    return {
        "layout": layout,
        "report": report,
        "file_dtype": report.dtype,
        "other_dtypes": {
            k: d for k, d in dtypes.items() if d != report.dtype and k not in resolution.constants
        },
        "constants": {k: np.array(v) for k, v in resolution.constants.items()},
        "tensor_names": resolution.names,
    }


def _attach(model: Model, record: Record) -> None:
    """Give a model its record, with the values that its untrained weights have now."""
    initial = checksums(model, record.report.fresh)
    model.attach(dataclasses.replace(record, initial=initial))


def _without_weights(card: ModelCard) -> ModelCard:
    """The card without what it says of its weights alone, for random ones."""
    return dataclasses.replace(
        card,
        name=card.architecture,
        weights=None,
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
    record = model.record
    fresh = labels is not None and tuple(labels) != model.labels
    own = LoadOptions(
        labels=tuple(labels) if labels is not None and fresh else None, config=options
    )
    made = plan(record.card, own)
    twin, _ = _uninitialized(made, model.dtype_policy if dtype is None else _policy(dtype, None))
    heads = tuple(f"{head}." for head in made.family.heads) if fresh else ()
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
    _attach(twin, dataclasses.replace(record, card=made.card, task=made.task, report=report))
    return twin


def _uninitialized(
    made: Plan, policy: keras.DTypePolicy, checkpoint: Checkpoint | None = None
) -> tuple[Model, tuple[Feature, ...] | None]:
    """The model, its weights without values, and the maps that it gives."""
    most = {} if checkpoint is None else {"most": _SHARE * len(checkpoint) + _BESIDE}
    try:
        with dtype_scope(policy):
            return build_uninitialized(lambda: _model(made), **most)
    except ZooError:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        # what a layer says of sizes that cannot be is said of the config
        raise ConfigError(
            f"{made.card.name}: no network can be built of its config: {error}"
        ) from error


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


def _model(made: Plan) -> tuple[Model, tuple[Feature, ...] | None]:
    """The network as a model; its outputs are the head's, or the chosen maps, which are named."""
    options = made.options
    graph = made.family.build(made.config, options.input_size or (None, None))
    outputs, features = graph.outputs, None
    if options.features_only:
        chosen = _chosen(graph, options.out_indices)
        outputs = [tensor for _, tensor in chosen]
        features = tuple(feature for feature, _ in chosen)
    name = re.sub(r"[^\w.-]+", "_", made.card.name).strip("_")
    return Model(graph.inputs, outputs, name=name), features


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


def _tolerated(made: Plan, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Where the checkpoint may differ from the model because the caller wants it so."""
    family, options = made.family, made.options
    new_head = any(w is not None for w in (options.num_classes, options.labels, options.task))
    starts = tuple(f"{part}." for part in (*family.heads, *(family.head_parts * new_head)))
    heads = [name for name in shapes if name.startswith(starts)]
    spare = ["*"] if options.features_only else []
    if not heads:
        spare.extend(f"{head}.*" for head in family.heads)
    adapt: dict[str, Adapt] = {}
    if family.first_conv is not None:
        adapt[f"{family.first_conv(made.config)}.kernel"] = adapt_channels
    resized = options.input_size is not None or set(family.sizes) & set(options.config)
    if family.resize is not None and resized:
        stated = family.read_config(made.stated.config, origin=made.stated.name)
        adapt |= family.resize(made.config, stated)
    return {"fresh": heads if new_head else (), "spare": spare, "adapt": adapt}


def _report(
    made: Plan,
    checkpoint: Checkpoint,
    resolution: Resolution,
    found: Fetched,
    marked: tuple[str, ...],
) -> LoadReport:
    files, paths = found.files, [*found.paths, *found.modules]
    names = resolution.names.items()
    notes = (f"the tensor of {s} is in the file as {' and '.join(held)}" for s, held in names)
    return LoadReport(
        source=files.origin if files is not None else str(paths[0]),
        commit=files.commit if files is not None else None,
        pull_request=files.pull_request if files is not None else None,
        files=tuple(path.name for path in paths),
        loaded=len(resolution.values),
        fresh=(*resolution.fresh, *marked),
        marked=marked,
        ignored=resolution.ignored,
        adapted=resolution.adapted,
        notes=(*made.notes, *notes),
        dtype=_main_dtype(checkpoint),
        idle=made.card.idle,
    )
