"""The `config.json` of a hub repo or folder: read as a card, and written from one.

For what timm has, the form is timm's (`timm/models/_hub.py`, `timm/models/_pretrained.py`; 1.0.31).
What builds the model stands at the top and under `model_args`; what its inputs go through and where
it comes from, under `pretrained_cfg`. In the older flat form all of it stands at the top. What no
other library publishes has a form of ours: the card itself, under `tfzoo`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args, get_type_hints

from zoo.errors import ConfigError, UnknownNameError, did_you_mean
from zoo.preprocessing.spec import ImageSpec, Spec
from zoo.preprocessing.text_spec import TextSpec
from zoo.registry import labels as label_sets
from zoo.registry import sentence_config, transformers_config
from zoo.registry.card import ModelCard, from_data, to_data
from zoo.registry.preprocessor_config import (
    image_spec_from_preprocessor,
    preprocessor_from_image_spec,
)
from zoo.registry.registry import architecture_card
from zoo.registry.tokenizer_config import text_spec, tokenizer_files
from zoo.registry.transformers_config import MODEL_TYPES
from zoo.registry.transformers_text import TEXT
from zoo.registry.transformers_text import task_of as task_of_text

CLASSIFICATION, FEATURES = "image-classification", "image-feature-extraction"
OURS = "tfzoo"  # the key of our own form, for what no other library publishes

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


def card_from_config(
    config: Mapping[str, Any],
    *,
    origin: str,
    preprocessor: Mapping[str, Any] | None = None,
    file: Callable[[str], str | None] = lambda name: None,
) -> ModelCard:
    """The card that a repo's or folder's own config describes; `weights` is left None.

    Args:
        config: content of `config.json`.
        origin: handle of the repo or folder: the card's name, and named in errors.
        preprocessor: content of `preprocessor_config.json`, where there is one; timm's layout
            carries the same under `pretrained_cfg`.
        file: gives the content of a text file beside it, None where there is none: a text model
            has its tokenizer there, and what makes one vector of a text.

    Raises:
        ConfigError: the config names no architecture, one that zoo does not have, or a field has a
            value that cannot be.
    """
    if not isinstance(config, Mapping):
        found = type(config).__name__
        raise ConfigError(f"{_where(origin)} should hold an object; it holds a {found}.")
    if OURS in config:
        return _from_zoo(config[OURS], origin)
    if "architecture" in config:
        return _from_timm(config, origin)
    if config.get("model_type") in TEXT:
        return _from_text(config, origin, file)
    if "model_type" in config:
        return _from_transformers(config, origin, preprocessor)
    raise ConfigError(
        f"{_where(origin)} does not say which model it is: expected 'architecture' (timm) or "
        f"'model_type' (transformers), found {', '.join(map(str, config)) or 'nothing'}."
    )


def config_from_card(
    card: ModelCard, *, layout: str = "timm", fields: Mapping[str, Any] | None = None, **facts: Any
) -> dict[str, Any]:
    """A `config.json` that `card_from_config` reads back as this card.

    Args:
        card: the model's card, with the config as built.
        layout: the layout of the weights beside it: `timm` takes timm's form, which has room for
            the `facts` of `timm_config`, those of transformers' types its own, and every other one
            ours.
        fields: all fields of the family's config, for transformers' form.

    Raises:
        ConfigError: preprocessing or options that the form cannot say.
    """
    if layout == "timm":
        return timm_config(card, **facts)
    if (model_type := transformers_type(layout)) is not None:
        labels = label_sets.labels(card.labels) if isinstance(card.labels, str) else card.labels
        config = transformers_config.write(model_type, fields or card.config, labels)
        if isinstance(card.preprocessing, TextSpec) and card.preprocessing.stop_ids:
            first, *others = card.preprocessing.stop_ids
            config["eos_token_id"] = [first, *others] if others else first
        return config
    plain = replace(card, weights=None, num_params=None, published={})
    return {"architecture": card.architecture, OURS: to_data(plain)}


def preprocessor_from_card(card: ModelCard, *, layout: str) -> dict[str, Any] | None:
    """The `preprocessor_config.json` beside `config_from_card`; None where the form has none."""
    model_type = transformers_type(layout)
    if model_type is None or not isinstance(card.preprocessing, ImageSpec):
        return None
    return preprocessor_from_image_spec(card.preprocessing, model_type=model_type)


def text_files(spec: TextSpec, fields: Mapping[str, Any]) -> dict[str, str]:
    """The files beside `config_from_card` of a text model, by name: tokenizer, one vector."""
    texts = tokenizer_files(spec)
    if fields["head"] != "sentence":
        return texts
    data = sentence_config.write(
        fields,
        width=fields["hidden_size"],
        max_length=spec.max_length,
        prompts=spec.prompts,
        default_prompt=spec.default_prompt,
    )
    return texts | {name: json.dumps(value, indent=2) + "\n" for name, value in data.items()}


def transformers_type(layout: str) -> str | None:
    """The model type of transformers that a layout belongs to: `vit.bare` to `vit`."""
    model_type = layout.partition(".")[0]
    return model_type if model_type in MODEL_TYPES else None


def license_section(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a `config.json` that has the field `license`, in any of its forms."""
    return config.get(OURS) or config.get("pretrained_cfg") or config


def timm_config(
    card: ModelCard,
    *,
    label_names: Sequence[str] | None = None,
    num_features: int | None = None,
    first_conv: str | None = None,
    classifier: str | Sequence[str] | None = None,
) -> dict[str, Any]:
    """A `config.json` that timm reads back as this card.

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


def image_spec(pretrained_cfg: Mapping[str, Any], *, origin: str) -> ImageSpec:
    """The preprocessing that timm's `pretrained_cfg` describes; a missing or null field is timm's
    default.

    Raises:
        ConfigError: a size, interpolation or crop mode that is none.
    """
    cfg = {key: value for key, value in pretrained_cfg.items() if value is not None}
    channels, *size = _size(cfg, "input_size", origin) or (_DEFAULT_CHANNELS, 224, 224)
    _, *test_size = _size(cfg, "test_input_size", origin) or (None,)
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
            values[name] = _one_of(get_args(get_type_hints(ImageSpec)[name]), cfg, name, origin)
    for name in ("mean", "std"):
        values[name] = _per_channel(cfg.get(name, getattr(ImageSpec(), name)), channels)
    return ImageSpec(**values)


def _from_timm(config: Mapping[str, Any], origin: str) -> ModelCard:
    try:
        bare = architecture_card(str(config["architecture"]))
    except UnknownNameError as error:
        raise ConfigError(f"{error} It was found in {_where(origin)}.") from None
    cfg, arguments = _sections(config, origin)
    num_classes = arguments.pop("num_classes", cfg.get("num_classes", _DEFAULT_CLASSES))
    if not isinstance(num_classes, int) or num_classes < 0:
        raise ConfigError(f"{_where(origin)}: num_classes is {num_classes!r}, not a count.")
    spec = image_spec(cfg, origin=origin)
    universal = {
        "num_classes": (num_classes, _DEFAULT_CLASSES),
        "in_chans": (spec.channels, _DEFAULT_CHANNELS),
    }
    changed = arguments | {k: v for k, (v, default) in universal.items() if v != default}
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
        labels=_labels(cfg, num_classes, origin),
        license=cfg.get("license"),
        num_params=bare.num_params if {**bare.config, **changed} == bare.config else None,
        paper_ids=(paper_ids,) if isinstance(paper_ids, str) else tuple(paper_ids),
        origin_url=cfg.get("origin_url"),
        description=cfg.get("description"),
    )


def task_of(architecture: str, num_classes: int) -> str:
    """The task of a network of timm.

    What CLIP towers have for classes, where no label set is of that size, is the projection into
    the space that images share with texts.
    """
    projects = "clip" in architecture and label_sets.infer(num_classes) is None
    return FEATURES if projects or not num_classes else CLASSIFICATION


def _from_zoo(data: Any, origin: str) -> ModelCard:
    """Our own form: the card itself."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{_where(origin)}: {OURS!r} should hold an object; it holds {data!r}.")
    try:
        card = from_data(ModelCard, {**data, "name": origin})
        bare = architecture_card(card.architecture)
    except (ConfigError, UnknownNameError) as error:
        raise ConfigError(f"{_where(origin)}: {error}") from error
    return replace(card, config={**bare.config, **card.config})


def _from_transformers(
    config: Mapping[str, Any], origin: str, preprocessor: Mapping[str, Any] | None
) -> ModelCard:
    """transformers' form: its model types are architectures of the same names."""
    found = transformers_config.read(config, where=_where(origin))
    spec = None
    if preprocessor is not None:
        model_type = str(config["model_type"])
        spec = image_spec_from_preprocessor(preprocessor, origin=origin, model_type=model_type)
    num_classes = found.fields["num_classes"]
    return replace(
        architecture_card(found.model_type),
        name=origin,
        config=to_data(found.fields),
        preprocessing=spec,
        task=CLASSIFICATION if num_classes and not found.projects else FEATURES,
        labels=found.labels,
        license=config.get("license"),
        num_params=None,
    )


def _from_text(
    config: Mapping[str, Any], origin: str, file: Callable[[str], str | None]
) -> ModelCard:
    """A text model in transformers' form, perhaps with sentence-transformers' files beside it."""
    found = transformers_config.read(config, where=_where(origin))
    fields, sentences = found.fields, None
    if fields["head"] == "base":
        sentences = sentence_config.read(file, origin=origin.rstrip("/"))
    spec = text_spec(
        file, model_type=found.model_type, fields=fields, config=config, origin=origin.rstrip("/")
    )
    if sentences is not None:
        fields = fields | sentences.fields
        spec = replace(
            spec,
            max_length=min(n for n in (sentences.max_length, spec.max_length) if n),
            prompts=sentences.prompts,
            default_prompt=sentences.default_prompt,
        )
    return replace(
        architecture_card(found.model_type),
        name=origin,
        config=to_data(fields),
        preprocessing=spec,
        task=task_of_text(fields),
        labels=found.labels,
        license=config.get("license"),
        num_params=None,
    )


def _sections(config: Mapping[str, Any], origin: str) -> tuple[dict[str, Any], dict[str, Any]]:
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
        _warn(f"{_where(origin)}: ignored {name!r}, which is unknown in a pretrained_cfg.")
    cfg = {key: value for key, value in cfg.items() if value is not None}
    if cfg.get("label_offset"):
        raise ConfigError(
            f"{_where(origin)} has label_offset {cfg['label_offset']!r}: classes of the checkpoint "
            "that are dropped at load, which zoo does not do. Save the model without them."
        )
    channels = arguments.pop("in_chans", None)
    if channels is not None:
        for name in ("input_size", "test_input_size"):
            if name in cfg or name == "input_size":
                cfg[name] = (channels, *cfg.get(name, (channels, 224, 224))[1:])
    return cfg, arguments


def _labels(cfg: Mapping[str, Any], num_classes: int, origin: str) -> str | tuple[str, ...] | None:
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
            f"{_where(origin)} names {len(names)} labels for {num_classes} classes; the model is "
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


def _size(cfg: Mapping[str, Any], name: str, origin: str) -> tuple[int, ...] | None:
    size = cfg.get(name)
    if size is None:
        return None
    if not (isinstance(size, Sequence) and len(size) == 3 and all(_positive(n) for n in size)):
        raise ConfigError(
            f"{_where(origin)}: {name} is {size!r}; expected [channels, height, width]."
        )
    return tuple(size)


def _positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _one_of(allowed: Sequence[str], cfg: Mapping[str, Any], name: str, origin: str) -> str:
    if cfg[name] not in allowed:
        raise ConfigError(
            f"{_where(origin)}: {name} is {cfg[name]!r}; expected one of {', '.join(allowed)}."
            f"{did_you_mean(str(cfg[name]), allowed)}"
        )
    return cfg[name]


def _per_channel(value: Any, channels: int) -> tuple[float, ...]:
    """One number per channel; where the count differs, their average for all, as timm does."""
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    return values if len(values) == channels else (sum(values) / len(values),) * channels


def _where(origin: str) -> str:
    return f"{origin.rstrip('/')}/config.json"


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=2)
