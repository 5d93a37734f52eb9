"""Write the registry's data files from timm's own metadata: no figure is typed by hand.

    python scripts/build_cards.py [--results CHECKOUT]

`zoo/registry/cards/<module>.json`: the architectures of a timm module (what each of its entry
points hands to its model class), their parameter counts, pretrained tags, deprecated names.
`zoo/registry/absent.json`: the names that timm alone has. `zoo/registry/labels/`: the ImageNet
label sets. Published accuracies come from the results tables of timm's repository, `CHECKOUT`
(bare or not); without it the figures in the files stay.

The next timm module is one row of `MODULES` and, for another family, one encoder.
"""

from __future__ import annotations

import argparse
import csv
import functools
import gzip
import inspect
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zoo.registry import labels as label_sets
from zoo.registry import transformers_config
from zoo.registry.card import WeightsFile, to_data
from zoo.registry.preprocessor_config import image_spec_from_preprocessor
from zoo.registry.registry import ABSENT, CARDS
from zoo.registry.timm_config import FEATURES, image_spec, task_of
from zoo.registry.transformers_types import VERSION
from zoo.registry.transformers_vision import VISION

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "parity"))

from reference import timm, torch  # noqa: E402  (it can only be imported from that folder)

imagenet, layers, nn = timm.data.imagenet_info, timm.layers, torch.nn
resnet, resnest, sknet = timm.models.resnet, timm.models.resnest, timm.models.sknet
resnetv2, vit, deit = timm.models.resnetv2, timm.models.vision_transformer, timm.models.deit

RESULTS = {"imagenet-1k": "results/results-imagenet.csv"}
REPOSITORY = "https://github.com/huggingface/pytorch-image-models"

# ---- architectures: timm's arguments as fields of our configs -------------------------------

NAMES = {
    resnet.BasicBlock: "basic",
    resnet.Bottleneck: "bottleneck",
    sknet.SelectiveKernelBasic: "sk_basic",
    sknet.SelectiveKernelBottleneck: "sk_bottleneck",
    resnest.ResNestBottleneck: "resnest",
    nn.ReLU: "relu",
    nn.BatchNorm2d: "batchnorm2d",
    layers.BatchNormAct2d: "batchnorm2d",
    layers.GroupNormAct: "groupnorm",
    layers.EvoNorm2dS0: "evonorm2ds0",
    layers.FilterResponseNormTlu2d: "frn_tlu",
    nn.AvgPool2d: "avg",
    layers.BlurPool2d: "blur",
    layers.SEModule: "se",
    layers.StdConv2d: "std",
    layers.create_conv2d: "plain",
    nn.SiLU: "silu",
    layers.LayerNorm: "layernorm",
    layers.RmsNorm: "rmsnorm",
    layers.PatchEmbed: "patch",
    layers.Mlp: "mlp",
    layers.SwiGLU: "swiglu",
    layers.GluMlp: "swiglu_packed",
    layers.Attention: "attn",
    vit.Block: "block",
    vit.ResPostBlock: "res_post",
    vit.ParallelThingsBlock: "parallel_things",
    vit.ParallelScalingBlock: "parallel_scaling",
    vit.DiffParallelScalingBlock: "diff_parallel_scaling",
}

# Arguments of no effect on what is built, handled apart (pruned), or that no architecture sets
# (drop_block_rate, patch_drop_rate).
NOT_CONFIG = {
    *("device", "dtype", "zero_init_last", "feature_cfg", "drop_block_rate", "pruned"),
    *("weight_init", "fix_init", "patch_drop_rate", "pretrained_strict"),
}


def split(value: Any) -> tuple[Any, dict[str, Any]]:
    """A class by its name; of a partial, its class's name and the arguments that change it."""
    if isinstance(value, functools.partial):
        known = inspect.signature(value.func).parameters
        given = {k: v for k, v in value.keywords.items() if known[k].default != v}
        return NAMES[value.func], given
    return (NAMES[value] if callable(value) else value), {}


def plain(value: Any) -> Any:
    """As JSON holds it: a list for a sequence, a name for a class."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    name, given = split(value)
    if given:
        raise ValueError(f"no field of the config holds the arguments of {value}")
    return name


# What timm hands to blocks as `block_args` are fields of our config, at these values where a block
# does not take them.
BLOCK_FIELDS: dict[str, Any] = {
    "attn_layer": None,
    "sk_kwargs": {},
    "radix": 0,
    "avd": False,
    "avd_first": False,
}


def encode_resnet(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `zoo.architectures.resnet.ResNetConfig`."""
    block_args = BLOCK_FIELDS | (arguments["block_args"] or {})
    attn_layer, attn_args = split(block_args["attn_layer"])
    rest = {k: plain(v) for k, v in arguments.items() if k != "block_args"}
    return rest | block_args | {"attn_layer": attn_layer, "attn_args": attn_args}


def encode_resnetv2(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `zoo.architectures.resnetv2.ResNetV2Config`."""
    conv_layer, given = split(arguments["conv_layer"])
    eps = inspect.signature(layers.StdConv2d).parameters["eps"].default
    rest = {k: plain(v) for k, v in arguments.items() if k != "conv_layer"}
    return rest | {"conv_layer": conv_layer, "conv_eps": given.get("eps", eps)}


# How timm fits positions to another size, from the arguments of its filter of checkpoints.
POS_RESAMPLE = {
    ("bicubic", True, None): "bicubic_antialias",
    ("bilinear", False, None): "bilinear",
    ("bilinear", False, False): "bilinear",
    ("bilinear", False, True): "bilinear_corners",
}

# The two things that the packed gate of timm may do otherwise than ours.
PACKED_GATE = {"act_layer": nn.SiLU, "gate_last": False}


def encode_vit(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `zoo.architectures.vit.ViTConfig`."""
    held = dict(arguments)
    fit = held.pop("pretrained_filter_fn", None)
    given = fit.keywords if isinstance(fit, functools.partial) else {}
    how = (given.get("interpolation", "bicubic"), given.get("antialias", True))
    norm_layer, norm_args = split(held.pop("norm_layer") or layers.LayerNorm)
    embed_norm, embed_norm_args = split(held.pop("embed_norm_layer"))
    mlp_layer, mlp_args = split(held.pop("mlp_layer"))
    act_layer = plain(held.pop("act_layer") or "gelu").lower()
    eps = inspect.signature(layers.LayerNorm).parameters["eps"].default
    if mlp_args not in ({}, PACKED_GATE) or held.pop("embed_layer") is not layers.PatchEmbed:
        raise ValueError(f"no field of the config holds {mlp_args}, or the embedding")
    if embed_norm and embed_norm_args != norm_args:
        raise ValueError("the config has one epsilon for all norms")
    distilled = held.get("dist_token", False)
    return {k: plain(v) for k, v in held.items()} | {
        "dist_token": distilled,
        "dist_head": distilled,
        "pos_resample": POS_RESAMPLE[*how, given.get("align_corners")],
        "norm_layer": norm_layer,
        "norm_eps": norm_args.get("eps", eps),
        "embed_norm_layer": embed_norm,
        "mlp_layer": mlp_layer,
        "act_layer": act_layer,
    }


@dataclass(frozen=True, kw_only=True)
class Module:
    """A timm module, its model class, and the family that its architectures belong to."""

    reference: Any
    model: type
    family: str
    builder: str
    encode: Callable[[Mapping[str, Any]], dict[str, Any]]


RESNET = Module(
    reference=resnet,
    model=resnet.ResNet,
    family="resnet",
    builder="zoo.architectures.resnet",
    encode=encode_resnet,
)
RESNETV2 = Module(
    reference=resnetv2,
    model=resnetv2.ResNetV2,
    family="resnetv2",
    builder="zoo.architectures.resnetv2",
    encode=encode_resnetv2,
)
VIT = Module(
    reference=vit,
    model=vit.VisionTransformer,
    family="vit",
    builder="zoo.architectures.vit",
    encode=encode_vit,
)
MODULES = {
    "vision_transformer": VIT,
    "deit": replace(VIT, reference=deit),
    "resnet": RESNET,
    "sknet": replace(RESNET, reference=sknet),
    "resnest": replace(RESNET, reference=resnest),
    "resnetv2": RESNETV2,
}


def handed_over(module: Module, name: str) -> dict[str, Any]:
    """What timm's entry point `name` hands to its model class."""
    handed: dict[str, Any] = {}
    build = module.reference.build_model_with_cfg

    def record(model: type, variant: str, pretrained: bool, **arguments: Any) -> None:
        handed.update(arguments)
        if model is deit.VisionTransformerDistilled:
            handed["dist_token"] = True

    module.reference.build_model_with_cfg = record
    try:
        getattr(module.reference, name)()
    finally:
        module.reference.build_model_with_cfg = build
    return handed


def config_fields(module: Module, handed: Mapping[str, Any]) -> dict[str, Any]:
    """All fields of our config, for timm's model class called with these arguments."""
    parameters = inspect.signature(module.model).parameters.values()
    defaults = {p.name: None if p.default is p.empty else p.default for p in parameters}
    arguments = {k: v for k, v in {**defaults, **handed}.items() if k not in NOT_CONFIG}
    return module.encode(arguments)


def architecture_config(module: Module, name: str) -> dict[str, Any]:
    """The fields of our config where `name` is not what the model class is by default."""
    handed, standard = handed_over(module, name), config_fields(module, {})
    changed = {k: v for k, v in config_fields(module, handed).items() if standard.get(k) != v}
    if "img_size" in standard:  # stated always: the image size that a network is built for
        changed["img_size"] = image_size(handed, timm.get_pretrained_cfg(name))
    return changed | ({"widths": pruned_widths(name)} if handed.get("pruned") else {})


def image_size(handed: Mapping[str, Any], cfg: Any) -> list[int]:
    """Height and width that timm builds a network of one fixed size for."""
    size = handed.get("img_size", cfg.input_size[1:])
    return [size, size] if isinstance(size, int) else list(size)


def build_on_meta(name: str, **arguments: Any) -> Any:
    """timm's model without memory for its weights."""
    with torch.device("meta"):
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
        if isinstance(module, nn.Conv2d) and module.out_channels != full[path].out_channels
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
    kind = nn.Linear if isinstance(module, nn.Linear) else type(module)  # timm subclasses it
    return [kind, held, list(dict(module.named_children()))]


# ---- cards: timm's pretrained_cfg -----------------------------------------------------------


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


def card_entry(module: Module, cfg: Any, published: Mapping[str, Any]) -> dict[str, Any]:
    """One pretrained card, as far as it is not what its architecture or `ModelCard` say."""
    name, classes = cfg.architecture, cfg.num_classes
    entry: dict[str, Any] = {}
    if cfg.hf_hub_id:
        file = {"file": cfg.hf_hub_filename} if cfg.hf_hub_filename else {}
        entry["weights"] = to_data(WeightsFile(repo=cfg.hf_hub_id, **file))
    config: dict[str, Any] = {} if classes == 1000 else {"num_classes": classes}
    if "img_size" in inspect.signature(module.model).parameters:
        handed, usual = handed_over(module, name), timm.get_pretrained_cfg(name)
        if image_size(handed, cfg) != image_size(handed, usual):
            config["img_size"] = image_size(handed, cfg)
    if config:
        entry["config"] = config
        size = {"img_size": tuple(config["img_size"])} if "img_size" in config else {}
        entry["num_params"] = count_parameters(name, classes, **size)
    entry["preprocessing"] = preprocessing(cfg)
    provenance = {
        "task": task if (task := task_of(name, classes)) == FEATURES else None,
        "labels": imagenet.infer_imagenet_subset({"num_classes": classes}),
        "license": cfg.license,
        "paper_ids": [cfg.paper_ids] if isinstance(cfg.paper_ids, str) else cfg.paper_ids,
        "origin_url": cfg.origin_url,
        "description": cfg.description,
        "published": published,
    }
    return entry | {key: value for key, value in provenance.items() if value}


def preprocessing(cfg: Any) -> dict[str, Any]:
    return to_data(image_spec(cfg.to_dict(), where=cfg.architecture))


# ---- published figures ----------------------------------------------------------------------


@dataclass(frozen=True)
class Published:
    """Quoted figures: test -> address of its table, and card -> test -> figures."""

    sources: Mapping[str, str]
    figures: Mapping[str, Mapping[str, Mapping[str, Any]]]


def read_results(checkout: Path) -> Published:
    """The results tables at HEAD of a checkout of timm's repository."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(checkout), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    commit = git("rev-parse", "HEAD").strip()
    figures: dict[str, dict[str, dict[str, Any]]] = {}
    for test, path in RESULTS.items():
        for row in csv.DictReader(io.StringIO(git("show", f"HEAD:{path}"))):
            cfg = timm.get_pretrained_cfg(row["model"], allow_unregistered=False)
            if cfg is None:
                continue
            measured: dict[str, Any] = {k: float(row[k]) for k in ("top1", "top5")}
            measured["img_size"] = int(row["img_size"])
            measured["crop_pct"] = float(row["crop_pct"])
            measured["interpolation"] = row["interpolation"]
            own = all(measured[k] == v for k, v in own_setting(cfg).items())
            key = test if own else f"{test}@{measured['img_size']}"
            figures.setdefault(row["model"], {})[key] = measured
    figures = {card: dict(sorted(tests.items())) for card, tests in figures.items()}
    sources = {test: f"{REPOSITORY}/blob/{commit}/{path}" for test, path in RESULTS.items()}
    return Published(sources, figures)


def own_setting(cfg: Any) -> dict[str, Any]:
    """The evaluation setting that a card states, in the columns of the results tables."""
    return {
        "img_size": cfg.input_size[-1],
        "crop_pct": round(cfg.crop_pct, 3),
        "interpolation": cfg.interpolation,
    }


def keep_results(path: Path) -> Published:
    """The figures that the file already has."""
    data = json.loads(path.read_text("utf-8")) if path.exists() else {}
    cards = data.get("cards", {})
    figures = {name: card["published"] for name, card in cards.items() if "published" in card}
    return Published(data.get("published_source", {}), figures)


# ---- files ----------------------------------------------------------------------------------

WIDTH = 100


def module_data(reference: str, published: Published) -> dict[str, Any]:
    """The content of `cards/<reference>.json`."""
    module = MODULES[reference]
    architectures: dict[str, Any] = {}
    cards: dict[str, Any] = {}
    for architecture in timm.list_models(module=reference):
        entry: dict[str, Any] = {"config": architecture_config(module, architecture)}
        entry["num_params"] = count_parameters(architecture, 1000)
        default = timm.get_pretrained_cfg(architecture)
        pretrained = timm.list_models(f"{architecture}.*", module=reference, pretrained=True)
        if pretrained:
            entry["default"] = default.tag
        else:
            entry["preprocessing"] = preprocessing(default)
        architectures[architecture] = entry
        for card in pretrained:
            figures = published.figures.get(card, {})
            cards[card] = card_entry(module, timm.get_pretrained_cfg(card), figures)
    return {
        "family": module.family,
        "module": module.builder,
        "source": {
            "library": "timm",
            "version": timm.__version__,
            "module": f"timm.models.{reference}",
        },
        "published_source": dict(published.sources),
        "architectures": architectures,
        "cards": cards,
        "deprecated": {
            old: new if new in cards or new in architectures else None  # timm has lost a few
            for old, new in timm.models._registry.get_deprecated_models(reference).items()
        },
    }


def transformers_data() -> dict[str, Any]:
    """The content of `cards/transformers_vit.json`: the model types of transformers."""

    def entry(name: str) -> dict[str, Any]:
        spec = image_spec_from_preprocessor({}, origin=name, model_type=name)
        fields = transformers_config.read({"model_type": name}, where=name).fields
        return {"config": to_data(fields), "task": FEATURES, "preprocessing": to_data(spec)}

    return {
        "family": VIT.family,
        "module": VIT.builder,
        "source": {"library": "transformers", "version": VERSION},
        "architectures": {name: entry(name) for name in VISION},
        "cards": {},
    }


def absent_data() -> dict[str, Any]:
    """The content of `absent.json`: timm's architectures of which there are no cards."""
    names = set(timm.list_models()) - set(timm.list_models(module=list(MODULES)))
    source = {"library": "timm", "version": timm.__version__}
    return {"source": source, "architectures": sorted(names)}


def render(value: Any, indent: str = "", head: str = "") -> str:
    """JSON with as many items of an object on a line as 100 columns take.

    Args:
        value: what JSON can hold.
        indent: of the line on which the value begins.
        head: what stands before the value on that line.
    """
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict) or len(indent + head + line) < WIDTH:
        return line
    inner, open_row = indent + " ", False
    rows: list[str] = []
    for key, item in value.items():
        name = json.dumps(key) + ": "
        text = name + render(item, inner, name)
        joins = open_row and len(inner + rows[-1] + text) <= WIDTH - 3
        if joins and not isinstance(item, dict):
            rows[-1] += f", {text}"
        else:
            rows.append(text)
        open_row = not isinstance(item, dict)
    return "{\n" + ",\n".join(inner + row for row in rows) + f"\n{indent}}}"


def label_files() -> dict[str, str]:
    """The files of `labels/`, uncompressed: the sets that timm can infer, and their names."""
    subsets = {
        name: imagenet.ImageNetInfo(name) for name in imagenet._NUM_CLASSES_TO_SUBSET.values()
    }
    lemmas = {}
    for subset in subsets.values():
        lemmas.update(subset.label_descriptions(as_dict=True))
    files = {f"{name}.txt.gz": lines(subset.label_names()) for name, subset in subsets.items()}
    files["lemmas.tsv.gz"] = lines(f"{synset}\t{lemmas[synset]}" for synset in sorted(lemmas))
    sizes = {name: subset.num_classes() for name, subset in subsets.items()}
    return files | {"index.json": render(sizes) + "\n"}


def lines(items: Iterable[str]) -> str:
    return "".join(f"{item}\n" for item in items)


def read(path: Path) -> str:
    """The text of a file, compressed or not; empty where there is none."""
    data = path.read_bytes() if path.exists() else b""
    return (gzip.decompress(data) if path.suffix == ".gz" and data else data).decode("utf-8")


def write(path: Path, text: str) -> None:
    """Write a file whose text changes, compressed by its suffix (the date left out)."""
    if read(path) == text:
        return
    data = text.encode("utf-8")
    path.write_bytes(gzip.compress(data, 9, mtime=0) if path.suffix == ".gz" else data)
    print(f"wrote {path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", type=Path, metavar="CHECKOUT", help="of timm's repository")
    results = parser.parse_args().results
    for reference in MODULES:
        path = CARDS / f"{reference}.json"
        published = read_results(results) if results else keep_results(path)
        write(path, render(module_data(reference, published)) + "\n")
    write(CARDS / "transformers_vit.json", render(transformers_data()) + "\n")
    write(ABSENT, render(absent_data()) + "\n")
    for name, text in label_files().items():
        write(label_sets.FOLDER / name, text)


if __name__ == "__main__":
    main()
