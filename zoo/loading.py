"""From a handle to a ready model: handle, card, verified files, config, model, weights."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from zoo import typed
from zoo.architectures.base import Adapt, Architecture, Feature, Graph
from zoo.configuring import Wishes, configure, given, recorded
from zoo.errors import ConfigError, OptionError
from zoo.layers.building import (
    build_uninitialized,
    dtype_scope,
    initialize,
    learned_weights,
    named_weights,
)
from zoo.layers.convolution import adapt_channels
from zoo.layers.initial import checksums
from zoo.model import LoadReport, Model, Record
from zoo.options import count, flag, plain
from zoo.pulling import fetch
from zoo.registry import registry
from zoo.registry.card import ModelCard
from zoo.registry.labels import as_labels
from zoo.weights.files import Checkpoint, open_checkpoint
from zoo.weights.folder import Files
from zoo.weights.handle import Source
from zoo.weights.mapping import Resolution, WeightMap

# How many variables a network can have beside a file: for each tensor, and of a head or dropout.
_SHARE, _BESIDE = 4, 256


class LicenseWarning(UserWarning):
    """The licence of a model restricts its use."""


def load(
    name: str | os.PathLike,
    *,
    pretrained: bool = True,
    weights: str | os.PathLike | None = None,
    task: str | None = None,
    num_classes: int | None = None,
    labels: Iterable[str] | Mapping[Any, Any] | None = None,
    in_channels: int | None = None,
    input_size: int | tuple[int, int] | None = None,
    features_only: bool = False,
    out_indices: int | Sequence[int] | None = None,
    drop_rate: float | None = None,
    drop_path_rate: float | None = None,
    dtype: str | None = None,
    revision: str | None = None,
    endpoint: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike | None = None,
    offline: bool | None = None,
    lockfile: str | os.PathLike | None = None,
    refresh: bool = False,
    **architecture_options: Any,
) -> Model:
    """Load a model by name: a Keras model with its weights, preprocessing and labels.

    Args:
        name: `architecture[.tag]`, `org/name[@revision]`, `hf://org/name[@revision]`, or a folder
            with `config.json` and safetensors: a path that starts with `./`, `../`, `/`, `~`.
        pretrained: False builds the architecture with fresh random weights.
        weights: a local safetensors file or `https://` address in place of the card's own.
        task: a task other than the card's, such as `image-feature-extraction`.
        num_classes: 0 for pooled features with no head; N for the checkpoint's head if it has N
            classes, else a fresh one, listed in `model.load_report`.
        labels: names of the classes, in the order of the logits; or a mapping, such as
            `{0: "cat", 1: "dog"}` or `{"cat": 0, "dog": 1}`. See `zoo.registry.labels.as_labels`.
        in_channels: channels of the input; the first convolution is adapted as timm does.
        input_size: edge, or height and width; preprocessing and the model's input follow.
        features_only: give a list of feature maps, described by `model.feature_info`.
        out_indices: which maps; all by default; negative counts from the last; a number is so many
            of the last ones.
        drop_rate, drop_path_rate: dropout before the head, stochastic depth.
        dtype: None follows the Keras dtype policy, `auto` the file, else a Keras policy's name.
        revision, endpoint, token, cache_dir, offline, lockfile, refresh: see `Source`.
        architecture_options: any other field of the family's config.

    Returns:
        A `zoo.Model`; it gives logits.

    Raises:
        UnknownNameError, HandleError, OptionError, ConfigError, WeightsError, NotFoundError,
        AccessError, DownloadError, OfflineError, IntegrityError, LockError, FileFormatError,
        DiskError: each a `zoo.errors.ZooError` that says what to do.
    """
    source = Source(
        revision=revision,
        endpoint=endpoint,
        token=token,
        cache_dir=cache_dir,
        offline=offline,
        lockfile=lockfile,
        refresh=refresh,
    )
    wishes = Wishes(
        task=task,
        num_classes=None if num_classes is None else count("num_classes", num_classes, 0),
        labels=None if labels is None else as_labels(labels),
        in_channels=None if in_channels is None else count("in_channels", in_channels),
        input_size=_pair(input_size),
        features_only=flag("features_only", features_only),
        out_indices=_indices(out_indices),
        config=architecture_options | given(drop_rate=drop_rate, drop_path_rate=drop_path_rate),
    )
    found = fetch(name, source, pretrained=flag("pretrained", pretrained), weights=weights)
    family = registry.import_family(found.card.family)
    _notice_license(found.card)
    paths = [*found.paths, *found.modules]
    return assemble(found.card, family, wishes, paths, found.files, dtype, found.modules)


LOAD_OPTIONS = tuple(inspect.signature(load).parameters)[:-1]


# ---------------------------------------------------------------- assembly


def assemble(
    card: ModelCard,
    family: Architecture,
    wishes: Wishes,
    paths: Sequence[Path],
    files: Files | None,
    dtype: str | None,
    prefixes: Mapping[Path, str] | None = None,
) -> Model:
    """Build the model of a card with a caller's wishes, and give it the weights of `paths`.

    No paths: fresh random weights. `prefixes` are those of `open_checkpoint`.
    """
    checkpoint = open_checkpoint(paths, prefixes) if paths else None
    card = card if paths else _without_weights(card)
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
    layout = family.layout_of(model.record.layout, checkpoint, known)
    resolution = family.layouts[layout].resolve(
        checkpoint,
        shapes,
        **leeway,
        hints=family.hints,
        aliases=checkpoint.aliases,
        origin=paths[0].name if len(paths) == 1 else f"{len(paths)} files",
    )
    initialize(model, resolution.values, checkpoint.release)
    marked = _marked(family.layouts[layout], checkpoint, resolution)
    record = _loaded(model.record, checkpoint, resolution, paths, files, marked)
    if family.tasks and record.task != card.task and family.own_layout is not None:
        # a network of another class than the file's; what the file had beside it is not its own
        layout = family.own_layout(card.architecture, config) or layout
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
    wishes = Wishes(labels=tuple(labels) if labels is not None and fresh else None, config=options)
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
    wishes: Wishes,
    policy: keras.DTypePolicy,
    checkpoint: Checkpoint | None = None,
) -> tuple[Model, Any]:
    """The model of a card with a caller's wishes, its weights without values, and its config."""
    config = stated = configure(card, family, wishes, others=LOAD_OPTIONS)
    if family.suited is not None and checkpoint is not None:
        config = family.suited(config, checkpoint)
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
    except OptionError:
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


def _model(record: Record, family: Architecture, config: Any, wishes: Wishes) -> Model:
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
    wishes: Wishes,
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


def _notice_license(card: ModelCard) -> None:
    """Say once that a licence restricts use."""
    restricted = re.search(r"\bnc\b|non-?commercial|research", (card.license or "").lower())
    if restricted and card.name not in _noticed:
        _noticed.add(card.name)
        message = f"{card.name!r} has the licence {card.license!r}, which restricts its use."
        warnings.warn(message, LicenseWarning, stacklevel=3)


_noticed: set[str] = set()


def _indices(indices: int | Sequence[int] | None) -> tuple[int, ...] | None:
    given = plain(indices)
    if given is None:
        return None
    if isinstance(given, tuple):
        return tuple(count("out_indices", index, -(2**31)) for index in given)
    if (number := count("out_indices", given, -(2**31))) < 1:
        raise OptionError(f"out_indices={number} of the last maps; at least 1 was expected.")
    return tuple(range(-number, 0))


def _pair(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    given = plain(size)
    if given is None:
        return None
    pair = given if isinstance(given, tuple) else (given, given)
    if len(pair) != 2:
        raise OptionError(f"input_size is an edge, or (height, width), in pixels; got {size!r}.")
    height, width = (count("input_size", edge) for edge in pair)
    return height, width
