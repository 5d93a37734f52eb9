"""timm's form of a `config.json`: read as a card, and written from one.

What builds the model stands at the top and under `model_args`; what its inputs go through and where
it comes from, under `pretrained_cfg`. In the older flat form all of it stands at the top
(`timm/models/_hub.py`, `timm/models/_pretrained.py`; 1.0.31).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args, get_type_hints

from zoo.errors import ConfigError, UnknownNameError, did_you_mean
from zoo.preprocessing.spec import ImageSpec, Spec
from zoo.registry import labels as label_sets
from zoo.registry.card import ModelCard
from zoo.registry.registry import architecture_card

CLASSIFICATION, FEATURES = "image-classification", "image-feature-extraction"

# Of every image model in timm and here; a card's config leaves them out.
_DEFAULT_CLASSES, _DEFAULT_CHANNELS = 1000, 3

# Fields of the config that act in training alone, which timm leaves out of a saved config too.
_TRAINING = {"drop_rate", "drop_path_rate"}

# What `pretrained_cfg` may hold: read below, or of no effect on the model and its inputs.
_READ = {
    *("input_size", "test_input_size", "fixed_input_size", "crop_pct", "test_crop_pct"),
    *("crop_mode", "interpolation", "mean", "std", "num_classes", "label_offset", "label_names"),
    *("label_descriptions", "license", "paper_ids", "origin_url", "description"),
}
_WITHOUT_EFFECT = {
    *("url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source", "architecture", "tag"),
    *("custom_load", "min_input_size", "pool_size", "test_pool_size", "first_conv", "classifier"),
    *("paper_name", "notes"),
}
_TOP_LEVEL = {"architecture", "num_features", "global_pool", "model_args"}


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
    cfg, arguments = _sections(config, where)
    num_classes = arguments.pop("num_classes", cfg.get("num_classes", _DEFAULT_CLASSES))
    if not isinstance(num_classes, int) or num_classes < 0:
        raise ConfigError(f"{where}: num_classes is {num_classes!r}, not a count.")
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
    cfg = {key: value for key, value in pretrained_cfg.items() if value is not None}
    channels, *size = _size(cfg, "input_size", where) or (_DEFAULT_CHANNELS, 224, 224)
    _, *test_size = _size(cfg, "test_input_size", where) or (None,)
    values: dict[str, Any] = {
        "input_size": tuple(size),
        "test_input_size": tuple(test_size) or None,
        "channels": channels,
    }
    for name in ("crop_pct", "test_crop_pct", "fixed_input_size"):
        if name in cfg:
            values[name] = cfg[name]
    for name in ("interpolation", "crop_mode"):
        if name in cfg:
            values[name] = _one_of(get_args(get_type_hints(ImageSpec)[name]), cfg, name, where)
    for name in ("mean", "std"):
        values[name] = _per_channel(cfg.get(name, getattr(ImageSpec(), name)), channels)
    return ImageSpec(**values)


def task_of(architecture: str, num_classes: int) -> str:
    """The task of a network of timm.

    What CLIP towers have for classes, where no label set is of that size, is the projection into
    the space that images share with texts.
    """
    projects = "clip" in architecture and label_sets.infer(num_classes) is None
    return FEATURES if projects or not num_classes else CLASSIFICATION


def _sections(config: Mapping[str, Any], where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """`pretrained_cfg` and the arguments that build the model, from either form of the config."""
    if isinstance(config.get("pretrained_cfg"), Mapping):
        over = ("num_classes", "label_names", "label_descriptions")
        cfg = {**config["pretrained_cfg"], **{k: config[k] for k in over if k in config}}
        arguments = dict(config.get("model_args") or {})
    else:
        cfg = {k: v for k, v in config.items() if k not in _TOP_LEVEL}
        cfg.setdefault("label_names", cfg.pop("labels", None))
        arguments = {}
    for name in cfg.keys() - _READ - _WITHOUT_EFFECT:
        _warn(f"{where}: ignored {name!r}, which is unknown in a pretrained_cfg.")
    cfg = {key: value for key, value in cfg.items() if value is not None}
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
    return cfg, arguments


def _labels(cfg: Mapping[str, Any], num_classes: int, where: str) -> str | tuple[str, ...] | None:
    """A label set's name, the labels, or None; timm, too, takes the set from the class count."""
    known = label_sets.infer(num_classes)
    names = cfg.get("label_names")
    if not names:
        return known
    if isinstance(names, Mapping):  # class index -> name, with gaps allowed
        by_index = {int(index): name for index, name in names.items()}
        count = max(num_classes, *(index + 1 for index in by_index))
        names = [by_index.get(index, str(index)) for index in range(count)]
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


def _size(cfg: Mapping[str, Any], name: str, where: str) -> tuple[int, ...] | None:
    size = cfg.get(name)
    if size is None:
        return None
    if not (isinstance(size, Sequence) and len(size) == 3 and all(_positive(n) for n in size)):
        raise ConfigError(f"{where}: {name} is {size!r}; expected [channels, height, width].")
    return tuple(size)


def _positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _one_of(allowed: Sequence[str], cfg: Mapping[str, Any], name: str, where: str) -> str:
    if cfg[name] not in allowed:
        raise ConfigError(
            f"{where}: {name} is {cfg[name]!r}; expected one of {', '.join(allowed)}."
            f"{did_you_mean(str(cfg[name]), allowed)}"
        )
    return cfg[name]


def _per_channel(value: Any, channels: int) -> tuple[float, ...]:
    """One number per channel; where the count differs, their average for all, as timm does."""
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    return values if len(values) == channels else (sum(values) / len(values),) * channels


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=2)
