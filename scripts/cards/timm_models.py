"""The cards of timm's models: `zoo/registry/cards/<module>.json`, and the names that zoo lacks.

A file has the architectures of a timm module (what each of its entry points hands to its model
class), their parameter counts, pretrained tags and deprecated names.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from kinds import FAMILIES
from reference import call_of, timm, torch

from zoo.registry.card import WeightsFile, to_data
from zoo.registry.registry import ABSENT, CARDS
from zoo.registry.timm_config import FEATURES, image_spec, task_of

from . import published
from .arguments import Encoder
from .text import render

SOURCE = {"library": "timm", "version": timm.__version__}


def files(results: Path | None = None) -> dict[Path, Any]:
    """The texts of the files, each by a function.

    Args:
        results: a checkout of timm's repository, for the published accuracies; without it those in
            the files stay.
    """
    modules = {module: family.name for family in FAMILIES.values() for module in family.timm}
    made = {
        CARDS / f"{module}.json": functools.partial(module_text, module, family, results)
        for module, family in modules.items()
    }
    return made | {ABSENT: functools.partial(absent_text, [*modules])}


def absent_text(modules: list[str]) -> str:
    """timm's architectures of which there are no cards."""
    names = set(timm.list_models()) - set(timm.list_models(module=modules))
    return render({"source": SOURCE, "architectures": sorted(names)})


def module_text(module: str, family: str, results: Path | None = None) -> str:
    """The cards of the module `timm.models.<module>`, whose networks a family of zoo builds."""
    path = CARDS / f"{module}.json"
    quoted = published.read(results) if results else published.keep(path)
    encoder, architectures, cards = encoder_of(family), {}, {}
    for name in timm.list_models(module=module):
        architectures[name], own = architecture(encoder, name, module)
        for card in own:
            figures = quoted.figures.get(card, {})
            cards[card] = card_entry(encoder, timm.get_pretrained_cfg(card), figures)
    deprecated = timm.models._registry.get_deprecated_models(module).items()
    known = {*cards, *architectures}
    content = {
        "family": family,
        "module": f"zoo.architectures.{family}",
        "formats": f"zoo.formats.{family}",
        "source": SOURCE | {"module": f"timm.models.{module}"},
        "published_source": dict(quoted.sources),
        "architectures": architectures,
        "cards": cards,
        # timm has lost a few
        "deprecated": {old: new if new in known else None for old, new in deprecated},
    }
    return render(content)


def encoder_of(family: str) -> Encoder:
    """The encoder of a family, which need not be written yet."""
    try:
        module = importlib.import_module(f"zoo.architectures.{family}")
    except ModuleNotFoundError:
        return Encoder(family, None)
    return Encoder(family, module.FAMILY.config, module.FAMILY.formats.idle)


def architecture(encoder: Encoder, name: str, module: str) -> tuple[dict[str, Any], list[str]]:
    """The entry of an architecture, and the names of its pretrained cards."""
    call, default = call_of(name), timm.get_pretrained_cfg(name)
    config = encoder.changed(call)
    if size := image_size(encoder, default):  # stated always: a network is built for it
        config["img_size"] = size
    if call.factory.get("pruned"):
        config["widths"] = pruned_widths(name)
    entry = {"config": config, "num_params": count_parameters(name, 1000)}
    pretrained = timm.list_models(f"{name}.*", module=module, pretrained=True)
    about = {"default": default.tag} if pretrained else {"preprocessing": preprocessing(default)}
    return entry | about, pretrained


def image_size(encoder: Encoder, cfg: Any) -> list[int] | None:
    """Height and width that timm builds a network of one size for; None where it has any size."""
    call = call_of(cfg.architecture)
    if "img_size" not in encoder.standard(call.model):
        return None
    size = call.arguments.get("img_size", cfg.input_size[1:])
    return [size, size] if isinstance(size, int) else list(size)


def build_on_meta(name: str, **arguments: Any) -> Any:
    """timm's model without memory for its weights.

    Weights that nobody draws are drawn slowly: it would take most of the time.
    """
    drawn = mock.patch("timm.layers.weight_init._trunc_normal_", lambda tensor, *_: tensor)
    with torch.device("meta"), drawn:
        return timm.create_model(name, **arguments)


def pruned_widths(name: str) -> dict[str, int]:
    """Output channels of the convolutions of a pruned model that are not the full model's.

    Raises:
        ValueError: something else differs, which widths alone would not tell.
    """
    full = dict(build_on_meta(name.removesuffix("_pruned")).named_modules())
    pruned = dict(build_on_meta(name).named_modules())
    widths = {
        path: module.out_channels
        for path, module in pruned.items()
        if isinstance(module, torch.nn.Conv2d) and module.out_channels != full[path].out_channels
    }
    for path, module in pruned.items():
        if structure(module) != structure(full[path]):
            raise ValueError(f"{name}: {path} differs by more than its width")
    return widths


CHANNELS = {"in_channels", "out_channels", "num_features", "in_features", "head_hidden_size"}


def structure(module: Any) -> list[Any]:
    """What defines a layer, its channels (and whether it is in training) apart."""
    simple = int | float | str | bool | tuple | None
    apart = CHANNELS | {"training"}
    held = {k: v for k, v in vars(module).items() if k not in apart and isinstance(v, simple)}
    linear = isinstance(module, torch.nn.Linear)  # timm subclasses it
    return [torch.nn.Linear if linear else type(module), held, list(dict(module.named_children()))]


def count_parameters(name: str, num_classes: int, **arguments: Any) -> int:
    """Learned numbers of timm's model with this many classes."""
    rest, per_class = parameters_of(name, tuple(arguments.items()))
    return rest + num_classes * per_class


@functools.cache
def parameters_of(name: str, arguments: tuple[tuple[str, Any], ...]) -> tuple[int, int]:
    """Learned numbers of timm's model that has no head, and those of the head per class."""
    model = build_on_meta(name, num_classes=1000, **dict(arguments))
    heads = model.get_classifier()
    heads = heads if isinstance(heads, tuple) else (heads,)
    of_heads = sum(parameter.numel() for head in heads for parameter in head.parameters())
    per_class, remainder = divmod(of_heads, model.num_classes)
    if remainder:
        raise ValueError(f"{name}: the head has {of_heads} numbers for {model.num_classes} classes")
    return sum(parameter.numel() for parameter in model.parameters()) - of_heads, per_class


def card_entry(encoder: Encoder, cfg: Any, figures: Mapping[str, Any]) -> dict[str, Any]:
    """One pretrained card, as far as it is not what its architecture or `ModelCard` say."""
    name, classes = cfg.architecture, cfg.num_classes
    entry: dict[str, Any] = {}
    if cfg.hf_hub_id:
        file = {"file": cfg.hf_hub_filename} if cfg.hf_hub_filename else {}
        entry["weights"] = to_data(WeightsFile(repo=cfg.hf_hub_id, **file))
    config: dict[str, Any] = {} if classes == 1000 else {"num_classes": classes}
    size = image_size(encoder, cfg)
    if size != image_size(encoder, timm.get_pretrained_cfg(name)):
        config["img_size"] = size
    if config:
        entry["config"] = config
        sized = {k: tuple(v) for k, v in config.items() if k == "img_size"}
        entry["num_params"] = count_parameters(name, classes, **sized)
    entry["preprocessing"] = preprocessing(cfg)
    provenance = {
        "task": task if (task := task_of(name, classes)) == FEATURES else None,
        "labels": timm.data.imagenet_info.infer_imagenet_subset({"num_classes": classes}),
        "license": cfg.license,
        "paper_ids": [cfg.paper_ids] if isinstance(cfg.paper_ids, str) else cfg.paper_ids,
        "origin_url": cfg.origin_url,
        "description": cfg.description,
        "published": figures,
    }
    return entry | {key: value for key, value in provenance.items() if value}


def preprocessing(cfg: Any) -> dict[str, Any]:
    return to_data(image_spec(cfg.to_dict(), where=cfg.architecture))
