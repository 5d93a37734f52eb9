"""timm's form of a `config.json`: read as a card, and written from one.

What builds the model stands at the top and under `model_args`; what its inputs go through and where
it comes from, under `pretrained_cfg`. In the older flat form all of it stands at the top
(`timm/models/_hub.py`, `timm/models/_pretrained.py`; 1.0.31).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict

from zoo import typed
from zoo.errors import ConfigError, UnknownNameError
from zoo.preprocessing.spec import CropMode, ImageSpec, Interpolation, Spec
from zoo.registry import labels as label_sets
from zoo.registry.card import ModelCard
from zoo.registry.registry import architecture_card
from zoo.typed import Channels, Count, Size

CLASSIFICATION, FEATURES = "image-classification", "image-feature-extraction"

# Of every image model in timm and here; a card's config leaves them out.
_DEFAULT_CLASSES, _DEFAULT_CHANNELS = 1000, 3

# Fields of the config that act in training alone, which timm leaves out of a saved config too.
_TRAINING = {"drop_rate", "drop_path_rate"}

_MOST_CLASSES = 1 << 20  # that labels by index are filled up to


class PretrainedCfg(TypedDict, total=False):
    """What is read of a `pretrained_cfg`; null stands for timm's default."""

    input_size: tuple[Channels, Size, Size] | None
    test_input_size: tuple[Channels, Size, Size] | None
    fixed_input_size: bool | None
    crop_pct: float | None
    test_crop_pct: float | None
    crop_mode: CropMode | None
    interpolation: Interpolation | None
    mean: float | tuple[float, ...] | None
    std: float | tuple[float, ...] | None
    num_classes: Count | None
    label_offset: Any
    label_names: tuple[str, ...] | Mapping[str, str] | None
    label_descriptions: Mapping[str, str] | None
    license: str | None
    paper_ids: str | tuple[str, ...] | None
    origin_url: str | None
    description: str | None


_READ = PretrainedCfg.__annotations__


class _Arguments(TypedDict, total=False):
    """The `model_args` that are of every network."""

    num_classes: Count
    in_chans: Channels | None


# What else timm writes there, of no effect on the model and its inputs.
_WITHOUT_EFFECT = {
    *("url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source", "architecture", "tag"),
    *("custom_load", "min_input_size", "pool_size", "test_pool_size", "first_conv", "classifier"),
    *("paper_name", "notes"),
}
_TOP_LEVEL = {"architecture", "num_features", "global_pool", "model_args", "pretrained_cfg"}
_BESIDE = ("num_classes", "label_names", "label_descriptions")  # which win over `pretrained_cfg`


def read(config: Mapping[str, Any], *, origin: str, where: str) -> ModelCard:
    """The card that a config describes; `weights` is left None.

    Args:
        config: content of `config.json`.
        origin: the card's name.
        where: what errors call the file.

    Raises:
        ConfigError: an architecture that zoo does not have, or a value that cannot be.
    """
    try:
        bare = architecture_card(str(config["architecture"]))
    except UnknownNameError as error:
        raise ConfigError(f"{error} It was found in {where}.") from None
    cfg, arguments, idle = _sections(config, where)
    num_classes = arguments.pop("num_classes", cfg.get("num_classes", _DEFAULT_CLASSES))
    spec = image_spec(cfg, where=where)
    universal = {
        "num_classes": (num_classes, _DEFAULT_CLASSES),
        "in_chans": (spec.channels, _DEFAULT_CHANNELS),
    }
    changed = arguments | {k: v for k, (v, default) in universal.items() if v != default}
    if config.get("problem_type") is not None:
        changed["problem_type"] = config["problem_type"]
    sized = "img_size" in bare.config and "img_size" not in arguments
    if sized and spec.fixed_input_size:  # timm builds for the input
        changed["img_size"] = list(spec.input_size)
    paper_ids = cfg.get("paper_ids", ())
    return replace(
        bare,
        name=origin,
        config={**bare.config, **changed},
        preprocessing=spec,
        task=task_of(bare.architecture, num_classes),
        labels=_labels(cfg, num_classes, where),
        license=cfg.get("license"),
        num_params=bare.num_params if {**bare.config, **changed} == bare.config else None,
        paper_ids=(paper_ids,) if isinstance(paper_ids, str) else tuple(paper_ids),
        origin_url=cfg.get("origin_url"),
        description=cfg.get("description"),
        idle=idle,
    )


def write(
    card: ModelCard,
    *,
    label_names: Sequence[str] | None = None,
    num_features: int | None = None,
    first_conv: str | None = None,
    classifier: str | Sequence[str] | None = None,
) -> dict[str, Any]:
    """A config that timm reads back as this card.

    Args:
        card: the model's card, with the config as built.
        label_names: names of the classes; None takes the card's own.
        num_features: channels of the features before the head (information for readers).
        first_conv, classifier: path of the first convolution and of the head in the file, by which
            timm adapts the checkpoint to other channels or classes.

    Raises:
        ConfigError: preprocessing that the layout cannot say.
    """
    num_classes = card.config.get("num_classes", _DEFAULT_CLASSES)
    base = {"num_classes": num_classes, **architecture_card(card.architecture).config}
    built = {k: v for k, v in card.config.items() if k not in _TRAINING and base.get(k) != v}
    spec = card.preprocessing
    if isinstance(spec, ImageSpec) and "img_size" in card.config:
        built["img_size"] = card.config["img_size"]
        if spec.fixed_input_size and built["img_size"] == list(spec.input_size):
            del built["img_size"]  # timm takes it from the input
    config: dict[str, Any] = {"architecture": card.architecture, "num_classes": num_classes}
    if problem := built.pop("problem_type", None):  # of which timm knows nothing, nor minds it
        config["problem_type"] = problem
    if num_features is not None:
        config["num_features"] = num_features
    names = label_names if label_names is not None else _explicit_labels(card, num_classes)
    if names is not None:
        config["label_names"] = list(names)
    if built:
        config["model_args"] = built
    prefix = f"{card.architecture}."
    source = {
        "tag": card.name.removeprefix(prefix) if card.name.startswith(prefix) else None,
        "custom_load": False,
        **_to_pretrained_cfg(card.preprocessing),
        "num_classes": num_classes,
        "first_conv": first_conv,
        "classifier": classifier or None,
        "license": card.license,
        "description": card.description,
        "origin_url": card.origin_url,
        "paper_ids": list(card.paper_ids) or None,
    }
    return config | {"pretrained_cfg": {k: v for k, v in source.items() if v is not None}}


def image_spec(pretrained_cfg: Mapping[str, Any], *, where: str) -> ImageSpec:
    """The preprocessing that timm's `pretrained_cfg` describes; a missing or null field is timm's
    default.

    Args:
        where: what errors call the file.

    Raises:
        ConfigError: a size, interpolation or crop mode that is none.
    """
    typed.check(PretrainedCfg, pretrained_cfg, where=where)
    cfg = {key: value for key, value in pretrained_cfg.items() if value is not None}
    channels, *size = cfg.get("input_size", (_DEFAULT_CHANNELS, 224, 224))
    _, *test_size = cfg.get("test_input_size", (None,))
    values: dict[str, Any] = {
        "input_size": tuple(size),
        "test_input_size": tuple(test_size) or None,
        "channels": channels,
    }
    same = ("crop_pct", "test_crop_pct", "fixed_input_size", "interpolation", "crop_mode")
    values |= {name: cfg[name] for name in same if name in cfg}
    try:
        for name in ("mean", "std"):
            values[name] = _per_channel(cfg.get(name, getattr(ImageSpec(), name)), channels)
        return ImageSpec(**values)
    except (ConfigError, ArithmeticError) as error:
        raise ConfigError(f"{where}: {error}") from error


def task_of(architecture: str, num_classes: int) -> str:
    """The task of a network of timm.

    What CLIP towers have for classes, where no label set is of that size, is the projection into
    the space that images share with texts.
    """
    projects = "clip" in architecture and label_sets.infer(num_classes) is None
    return FEATURES if projects or not num_classes else CLASSIFICATION


def _sections(
    config: Mapping[str, Any], where: str
) -> tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]:
    """`pretrained_cfg`, `model_args` and the idle keys, from timm's form or its older flat one."""
    cfg, arguments = config.get("pretrained_cfg"), config.get("model_args") or {}
    for name, part in (("pretrained_cfg", cfg), ("model_args", arguments)):
        if part is not None and not isinstance(part, Mapping):
            raise ConfigError(f"{where}: {name} is {part!r:.100}; an object was expected.")
    beside = {key: value for key, value in config.items() if key not in _TOP_LEVEL}
    idle = []
    if cfg is None:
        cfg = beside
        cfg.setdefault("label_names", cfg.pop("labels", None))
        arguments = {}
    else:
        idle = [key for key in beside if key not in _BESIDE]
        cfg = {**cfg, **{key: beside[key] for key in _BESIDE if key in beside}}
    idle += [key for key in cfg if key not in _WITHOUT_EFFECT and key not in _READ]
    typed.check(PretrainedCfg, cfg, where=where)
    cfg = {key: value for key, value in cfg.items() if value is not None}
    arguments = _stated(arguments, where)
    if cfg.get("label_offset"):
        raise ConfigError(
            f"{where} has label_offset {cfg['label_offset']!r}: classes of the checkpoint "
            "that are dropped at load, which zoo does not do. Save the model without them."
        )
    channels = arguments.pop("in_chans", None)
    if channels is not None:
        for name in ("input_size", "test_input_size"):
            if name in cfg or name == "input_size":
                cfg[name] = (channels, *cfg.get(name, (channels, 224, 224))[1:])
    return cfg, arguments, tuple(sorted(idle))


def _stated(arguments: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`model_args`, of which all but these go to the family's config as they are."""
    typed.check(_Arguments, arguments, where=where)
    return dict(arguments)


def _labels(cfg: Mapping[str, Any], num_classes: int, where: str) -> str | tuple[str, ...] | None:
    """A label set's name, the labels, or None; timm, too, takes the set from the class count."""
    known = label_sets.infer(num_classes)
    names = cfg.get("label_names")
    if not names:
        return known
    if isinstance(names, Mapping):
        names = _by_index(names, num_classes, where)
    if len(names) != num_classes:
        _warn(
            f"{where} names {len(names)} labels for {num_classes} classes; the model is "
            "without labels. Give them as `labels=`."
        )
        return None
    if known and tuple(names) == label_sets.synsets(known):
        return known
    descriptions = cfg.get("label_descriptions") or {}
    return tuple(descriptions.get(name, name) for name in names)


def _by_index(names: Mapping[str, str], num_classes: int, where: str) -> list[str]:
    """Names by the index of their class, with gaps allowed."""
    if not all(index.isascii() and index.isdecimal() and len(index) < 8 for index in names):
        raise ConfigError(
            f"{where}: label_names is an object whose keys are no indices of classes."
        )
    by_index = {int(index): name for index, name in names.items()}
    count = max(num_classes, max(by_index) + 1)
    if count > _MOST_CLASSES:
        raise ConfigError(f"{where} names some of {count} classes, more than {_MOST_CLASSES}.")
    return [by_index.get(index, str(index)) for index in range(count)]


def _explicit_labels(card: ModelCard, num_classes: int) -> Sequence[str] | None:
    """The labels that a reader could not infer from the number of classes."""
    if isinstance(card.labels, str):
        inferred = label_sets.infer(num_classes) == card.labels
        return None if inferred else label_sets.labels(card.labels)
    return card.labels


def _to_pretrained_cfg(spec: Spec | None) -> dict[str, Any]:
    if spec is None:
        return {}
    if not isinstance(spec, ImageSpec):
        raise ConfigError(f"timm's config.json is for images; the input here is {spec.summary}.")
    usual = ImageSpec()
    for name in ("channel_order", "crop_rounding", "resize", "alpha"):
        if (value := getattr(spec, name)) != getattr(usual, name):
            raise ConfigError(f"timm's config.json has no {name}, which is {value!r} here.")
    test_size = spec.test_input_size
    return {
        "input_size": [spec.channels, *spec.input_size],
        "test_input_size": [spec.channels, *test_size] if test_size else None,
        "fixed_input_size": spec.fixed_input_size,
        "interpolation": spec.interpolation,
        "crop_pct": spec.crop_pct,
        "test_crop_pct": spec.test_crop_pct,
        "crop_mode": spec.crop_mode,
        "mean": list(spec.mean),
        "std": list(spec.std),
    }


def _per_channel(value: Any, channels: int) -> tuple[float, ...]:
    """One number per channel; where the count differs, their average for all, as timm does."""
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    return values if len(values) == channels else (sum(values) / len(values),) * channels


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=2)
