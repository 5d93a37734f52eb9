"""The arguments that timm hands to its model classes, as fields of our configs.

An argument is the field of its name. A class is told by its name in small letters, that of a block
without `Block`. What a partial changes are fields too: `norm_layer=partial(LayerNorm, eps=1e-5)` is
`norm_layer` and `norm_eps`, or an entry of `norm_args` where the config has that. The entries of a
group that is no field, such as `block_args`, are fields themselves. None stands for what is usual.
What departs from this is in the tables below; an argument that no field holds is an error.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from inspect import Parameter
from typing import Any

from reference import Call

from zoo.errors import ConfigError, did_you_mean

Fields = dict[str, Any]

# Classes, with what a partial changes, that have another name in zoo.
NAMES = {
    "SelectiveKernelBasic": "sk_basic",
    "SelectiveKernelBottleneck": "sk_bottleneck",
    "ResNestBottleneck": "resnest",
    "BatchNormAct2d": "batchnorm2d",
    "GroupNormAct": "groupnorm",
    "FilterResponseNormTlu2d": "frn_tlu",
    "AvgPool2d": "avg",
    "BlurPool2d": "blur",
    "SEModule": "se",
    "StdConv2d": "std",
    "create_conv2d": "plain",
    "GluMlp(act_layer=silu, gate_last=False)": "swiglu_packed",
    "Attention": "attn",
}

# How timm fits positions to another size, from the arguments of its filter of checkpoints.
RESAMPLE = {
    ("bicubic", True, None): "bicubic_antialias",
    ("bilinear", False, None): "bilinear",
    ("bilinear", False, False): "bilinear",
    ("bilinear", False, True): "bilinear_corners",
}


def _resample(call: Call) -> str:
    given = getattr(call.factory.get("pretrained_filter_fn"), "keywords", {})
    how = (given.get("interpolation", "bicubic"), given.get("antialias", True))
    return RESAMPLE[*how, given.get("align_corners")]


def _distilled(call: Call) -> bool:
    return call.model.__name__ == "VisionTransformerDistilled"


# Fields that follow from the whole call, by family.
FIELDS: dict[str, dict[str, Callable[[Call], Any]]] = {
    "vit": {"dist_token": _distilled, "dist_head": _distilled, "pos_resample": _resample}
}
# Fields that stand last in the files, by family.
LAST = {"vit": ["norm_layer", "norm_eps", "embed_norm_layer", "mlp_layer", "act_layer"]}


def plain(value: Any) -> Any:
    """As JSON holds it: a list for a sequence, an object for a dataclass, a name for a class.

    Raises:
        ConfigError: a partial that changes what a name alone does not tell, or a layer.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if not callable(value):
        return value
    name, _, changed = split(value)
    if changed:
        raise ConfigError(f"{spelled(value.func, changed)} needs a name of its own in NAMES.")
    return name


def split(made: Any) -> tuple[str, Fields, Fields]:
    """A class's name, what its arguments are by default, and what a partial changes of that."""
    cls = made.func if isinstance(made, functools.partial) else made
    if not hasattr(cls, "__name__"):
        raise ConfigError(
            f"A {type(cls).__name__} was handed over ready made; a class is expected."
        )
    known = inspect.signature(cls).parameters.values()
    usual = {p.name: p.default for p in known if p.default is not Parameter.empty}
    given = getattr(made, "keywords", {})
    changed = {k: plain(v) for k, v in given.items() if k not in usual or usual[k] != v}
    if name := NAMES.get(spelled(cls, changed)):
        return name, usual, {}
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__.removesuffix("Block"))
    name = words if words and cls.__name__.endswith("Block") else cls.__name__
    return NAMES.get(cls.__name__, name.lower()), usual, changed


def spelled(cls: Any, changed: Fields) -> str:
    """A key of `NAMES`."""
    options = ", ".join(f"{k}={v}" for k, v in changed.items())
    return f"{cls.__name__}({options})" if changed else cls.__name__


def parameters(model: type) -> Fields:
    """What a model class takes, with its defaults; `Parameter.empty` where it has none."""
    found: Fields = {}
    for cls in model.__mro__:
        taken = inspect.signature(cls).parameters.values()
        found = {p.name: p.default for p in taken if p.kind is p.POSITIONAL_OR_KEYWORD} | found
        if not any(p.kind is p.VAR_KEYWORD for p in taken):
            break
    return found


class Encoder:
    """Reads timm's arguments as the fields of one family's config.

    Args:
        family: its name.
        config: its config class. None where there is none yet: then any argument is a field.
        idle: arguments that change nothing in a network.
    """

    def __init__(self, family: str, config: type | None, idle: tuple[str, ...] = ()) -> None:
        self._extra, self._last = FIELDS.get(family, {}), LAST.get(family, [])
        self._open, self._idle = config is None, idle
        self._defaults: Fields = {}
        if config is not None:
            made = config()
            self._defaults = {f.name: getattr(made, f.name) for f in dataclasses.fields(made)}

    def standard(self, model: type) -> Fields:
        """The fields of the class's own network: what it is called with has no defaults apart."""
        usual = parameters(model)
        stated = {k: v for k, v in usual.items() if v is not Parameter.empty}
        needed = usual.keys() - stated
        ours = {k: plain(v) for k, v in self._defaults.items() if k not in needed}
        return ours | dict(self._encoded(stated, usual))

    def changed(self, call: Call) -> Fields:
        """The fields in which a network is not the class's own.

        Raises:
            ConfigError: an argument that no field holds.
        """
        usual, standard = parameters(call.model), self.standard(call.model)
        fields: Fields = {}
        for name, value in self._encoded({**usual, **call.arguments}, usual):
            if fields.setdefault(name, value) != value:
                raise ConfigError(f"The config has one {name}; {fields[name]} and {value} are set.")
        fields |= {name: field(call) for name, field in self._extra.items()}
        names = sorted(fields, key=lambda k: self._last.index(k) if k in self._last else -1)
        return {k: fields[k] for k in names if k not in standard or standard[k] != fields[k]}

    def _encoded(self, arguments: Fields, usual: Fields) -> Iterator[tuple[str, Any]]:
        for name, value in arguments.items():
            absent = value is None and usual.get(name) is None
            if isinstance(value, Mapping) and name.endswith("_args") and name not in self._defaults:
                yield from self._encoded({**value}, {})
            elif name in self._defaults or self._open:
                if absent and self._defaults.get(name) is not None:
                    continue
                if not callable(value):
                    yield name, plain(value)
                    continue
                own, of_class, changed = split(value)
                yield name, own
                stem, is_layer = name.removesuffix("_layer"), name.endswith("_layer")
                yield from self._options(stem, of_class if is_layer else {}, changed)
            elif not (absent or name in self._idle or value == usual.get(name)):
                raise ConfigError(
                    f"No field of the config holds {name}={plain(value)}."
                    f"{did_you_mean(name, self._defaults)}"
                )

    def _options(self, stem: str, usual: Fields, changed: Fields) -> Iterator[tuple[str, Any]]:
        """What the class that is the argument `<stem>_layer` is called with."""
        if f"{stem}_args" in self._defaults:
            yield from [(f"{stem}_args", changed)] if changed else []
            return
        words = stem.split("_")
        for name, value in (changed if self._open else usual | changed).items():
            fields = ["_".join((*words[k:], name)) for k in range(len(words))]
            known = [field for field in fields if field in self._defaults or self._open]
            if known:
                yield known[0], value
            elif name in changed:
                raise ConfigError(f"No field of the config holds {fields[0]}={value}.")
