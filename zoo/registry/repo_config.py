"""The `config.json` of a hub repo or folder: read as a card, and written from one.

For what timm has, the form is timm's (`timm_config`), and for its model types transformers'
(`transformers_config`). What no other library publishes has a form of ours: the card itself, under
`tfzoo`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from zoo import typed
from zoo.errors import ConfigError, UnknownNameError
from zoo.parsing import parse_json
from zoo.preprocessing.spec import ImageSpec, Spec
from zoo.preprocessing.text_spec import TextSpec
from zoo.registry import labels as label_sets
from zoo.registry import sentence_config, timm_config, transformers_config
from zoo.registry.card import ModelCard, from_data, to_data
from zoo.registry.dialects import dialect_of
from zoo.registry.heads import max_length
from zoo.registry.heads import task_of as task_of_text
from zoo.registry.preprocessor_config import (
    image_spec_from_preprocessor,
    preprocessor_from_image_spec,
)
from zoo.registry.registry import architecture_card
from zoo.registry.timm_config import CLASSIFICATION, FEATURES
from zoo.registry.tokenizer_config import text_spec, tokenizer_files

OURS = "tfzoo"  # the key of our own form, for what no other library publishes


Read = Callable[[str], str | None]  # the content of a file, None where there is none


@dataclass(frozen=True, kw_only=True)
class Described:
    """What the files of a repo or folder say that it is.

    Attributes:
        card: with `weights` left None.
        folders: of the modules of sentence-transformers that come after the pooling.
    """

    card: ModelCard
    folders: tuple[str, ...] = ()


def describe(config: Any, *, origin: str, file: Read = lambda name: None) -> Described:
    """What a repo's or folder's own config describes.

    Args:
        config: content of `config.json`.
        origin: handle of the repo or folder: the card's name, and named in errors.
        file: gives the content of a text file beside it, None where there is none: transformers has
            the preprocessing of images there, the tokenizer, and what makes one vector of a text.

    Raises:
        ConfigError: the config names no architecture, one that zoo does not have, or a field has a
            value that cannot be.
    """
    if not isinstance(config, Mapping):
        found = type(config).__name__
        raise ConfigError(f"{_where(origin)} should hold an object; it holds a {found}.")
    described = _read(config, origin, file)
    typed.check(ModelCard, vars(described.card), where=_where(origin))
    return described


def card_from_config(config: Any, *, origin: str, file: Read = lambda name: None) -> ModelCard:
    """The card alone of `describe`."""
    return describe(config, origin=origin, file=file).card


def _read(config: Mapping[str, Any], origin: str, file: Read) -> Described:
    """The card, by the form that the config has."""
    if OURS in config:
        return Described(card=_from_zoo(config[OURS], origin))
    if "architecture" in config:
        return Described(card=timm_config.read(config, origin=origin, where=_where(origin)))
    if isinstance(config.get("model_type"), str):
        found = transformers_config.read(config, where=_where(origin))
        of_type = _from_images if found.dialect.tokenizer is None else _from_text
        return of_type(config, found, origin, file)
    raise ConfigError(
        f"{_where(origin)} does not say which model it is: expected 'architecture' (timm) or "
        f"'model_type' (transformers), found {', '.join(map(str, config))[:500] or 'nothing'}."
    )


def config_from_card(
    card: ModelCard, *, layout: str = "timm", fields: Mapping[str, Any] | None = None, **facts: Any
) -> dict[str, Any]:
    """A `config.json` that `card_from_config` reads back as this card.

    Args:
        card: the model's card, with the config as built.
        layout: the layout of the weights beside it, whose library's form it has: timm's has room
            for the `facts` of `timm_config.write`.
        fields: all fields of the family's config, for transformers' form.

    Raises:
        ConfigError: preprocessing or options that the form cannot say.
    """
    form = dialect_of(card.family, layout).config_form
    if form == "timm":
        return timm_config.write(card, **facts)
    if form == "transformers":
        labels = label_sets.labels(card.labels) if isinstance(card.labels, str) else card.labels
        model_type = layout.partition(".")[0]
        config = transformers_config.write(model_type, fields or card.config, labels)
        if isinstance(card.preprocessing, TextSpec) and card.preprocessing.stop_ids:
            first, *others = card.preprocessing.stop_ids
            config["eos_token_id"] = [first, *others] if others else first
        return config
    plain = replace(card, weights=None, num_params=None, published={}, idle=())
    return {"architecture": card.architecture, OURS: to_data(plain)}


def preprocessor_from_card(card: ModelCard, *, layout: str) -> dict[str, Any] | None:
    """The `preprocessor_config.json` beside `config_from_card`; None where the form has none."""
    processor = dialect_of(card.family, layout).processor
    if processor is None or not isinstance(card.preprocessing, ImageSpec):
        return None
    return preprocessor_from_image_spec(card.preprocessing, processor=processor)


def text_files(spec: TextSpec, fields: Mapping[str, Any]) -> dict[str, str]:
    """The files beside `config_from_card` of a text model, by name: tokenizer, one vector."""
    texts = tokenizer_files(spec)
    if fields["head"] != "sentence":
        return texts
    data = sentence_config.write(
        fields,
        width=fields["hidden_size"],
        max_length=spec.max_length,
        lower_case=spec.lower_case,
        prompts=spec.prompts,
        default_prompt=spec.default_prompt,
        similarity=spec.similarity,
    )
    return texts | {name: json.dumps(value, indent=2) + "\n" for name, value in data.items()}


def license_section(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a `config.json` that has the field `license`, in any of its forms."""
    return config.get(OURS) or config.get("pretrained_cfg") or config


def _from_zoo(data: Any, origin: str) -> ModelCard:
    """Our own form: the card itself."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{_where(origin)}: {OURS!r} should hold an object; it holds {data!r}.")
    try:
        card = from_data(ModelCard, {**data, "name": origin}, check=True)
        bare = architecture_card(card.architecture)
    except (ConfigError, UnknownNameError) as error:
        raise ConfigError(f"{_where(origin)}: {error}") from error
    if card.family != bare.family:
        raise ConfigError(
            f"{_where(origin)}: {card.architecture!r} is of the family {bare.family!r}; the file "
            f"says {card.family!r:.100}."
        )
    return replace(card, config={**bare.config, **card.config}, weights=None)


def _from_images(
    config: Mapping[str, Any],
    found: transformers_config.Found,
    origin: str,
    file: Read,
) -> Described:
    """A model of images in transformers' form: its model types are architectures of their names."""
    spec, preprocessor = None, _preprocessor(file, origin.rstrip("/"))
    if preprocessor is not None:
        processor = str(found.dialect.processor)
        spec = image_spec_from_preprocessor(preprocessor, origin=origin, processor=processor)
    classifies = found.fields["num_classes"] and not found.projects
    task = CLASSIFICATION if classifies else FEATURES
    return Described(card=_card(config, found, origin, found.fields, spec, task))


def _card(
    config: Mapping[str, Any],
    found: transformers_config.Found,
    origin: str,
    fields: Mapping[str, Any],
    spec: Spec | None,
    task: str,
) -> ModelCard:
    return replace(
        architecture_card(found.model_type),
        name=origin,
        config=to_data(fields),
        preprocessing=spec,
        task=task,
        labels=found.labels,
        license=config.get("license"),
        num_params=None,
        idle=found.idle,
    )


def _preprocessor(file: Read, origin: str) -> Any:
    """What an image processor's own file says; None where there is none."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        text = file(name)
        if text is not None:
            data = parse_json(text, where=f"{origin}/{name}")
            halves = isinstance(data, Mapping) and data.get("image_processor")
            return halves or data  # as processors of two halves save it
    return None


def _from_text(
    config: Mapping[str, Any],
    found: transformers_config.Found,
    origin: str,
    file: Read,
) -> Described:
    """A text model in transformers' form, perhaps with sentence-transformers' files beside it."""
    sentences = None
    if (head := found.fields["head"]) in ("base", "language", "replaced"):
        strict = head == "base"
        sentences = sentence_config.read(file, origin=origin.rstrip("/"), strict=strict)
    if sentences is not None:  # which are made of the network without its head
        found = transformers_config.read({**config, "architectures": None}, where=_where(origin))
    fields = found.fields
    spec = text_spec(
        file, dialect=found.dialect, fields=fields, config=config, origin=origin.rstrip("/")
    )
    if sentences is not None:
        length = sentences.max_length and min(sentences.max_length, max_length(fields))
        spec = replace(
            spec,
            max_length=length or spec.max_length,
            lower_case=sentences.lower_case,
            prompts=sentences.prompts,
            default_prompt=sentences.default_prompt,
            include_prompt=sentences.fields["include_prompt"],
            similarity=sentences.similarity,
        )
        fields = fields | sentences.fields
    typed.check(TextSpec, vars(spec), where=origin)
    card = _card(config, found, origin, fields, spec, task_of_text(fields))
    return Described(card=card, folders=sentences.folders if sentences else ())


def _where(origin: str) -> str:
    return f"{origin.rstrip('/')}/config.json"
