"""The registry: every architecture and pretrained model that zoo knows, read from data files.

`cards/*.json` hold the families' architectures, pretrained cards and deprecated names; other
packages add families by an entry point (see `_third_party`). Nothing here imports TensorFlow, nor
any builder before `import_family` is called.
"""

from __future__ import annotations

import copy
import functools
import importlib
import importlib.metadata
import importlib.util
import json
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from zoo.errors import ConfigError, OptionError, UnknownNameError, did_you_mean, nearest, suggestion
from zoo.options import plain
from zoo.registry.card import ModelCard, WeightsFile, from_data
from zoo.weights.handle import Source

CARDS = Path(__file__).parent / "cards"
ABSENT = Path(__file__).parent / "absent.json"
ENTRY_POINTS = "zoo.families"


@dataclass(frozen=True)
class _Registry:
    """What one data file says, or all of them together.

    Attributes:
        modules: family -> module whose `FAMILY` builds it.
        formats: family -> module whose `FORMATS` say how others write it.
        architectures: architecture -> its card without weights.
        defaults: architecture -> name of its default card, where it has one.
        cards: card name -> card.
        deprecated: old name -> architecture or card; None where nothing replaces it.
    """

    modules: dict[str, str] = field(default_factory=dict)
    formats: dict[str, str] = field(default_factory=dict)
    architectures: dict[str, ModelCard] = field(default_factory=dict)
    defaults: dict[str, str] = field(default_factory=dict)
    cards: dict[str, ModelCard] = field(default_factory=dict)
    deprecated: dict[str, str | None] = field(default_factory=dict)

    def names(self) -> set[str]:
        """Everything that `info` answers to."""
        return {*self.architectures, *self.cards, *self.deprecated}

    def add(self, part: _Registry) -> None:
        """Take in another file: all of it, or none of it if a name is taken."""
        taken = self.names() & part.names()
        if taken:
            raise ConfigError(f"The names {', '.join(sorted(taken))} are already in the registry.")
        for family, module in part.modules.items():
            if self.modules.get(family, module) != module:
                raise ConfigError(
                    f"The family {family!r} is built by {self.modules[family]!r}, not {module!r}."
                )
        for name in ("modules", "formats", "architectures", "defaults", "cards", "deprecated"):
            getattr(self, name).update(getattr(part, name))


def list_models(
    pattern: str | Sequence[str] | None = None,
    *,
    task: str | Sequence[str] | None = None,
    license: str | Sequence[str] | None = None,
    family: str | Sequence[str] | None = None,
    min_params: float | None = None,
    max_params: float | None = None,
    min_top1: float | None = None,
    bundled: bool = False,
    cached: bool = False,
) -> list[str]:
    """Names of the pretrained models, sorted.

    Args:
        pattern: shell-style pattern, or several, for the whole name; one without a dot is also
            tried on the architecture alone (`resnet*`, `*.a1_in1k`, `resnet50d`).
        task, license, family: the value wanted, or several of which any will do.
        min_params, max_params: number of parameters; a card that states none is left out.
        min_top1: least published ImageNet-1k top-1 accuracy, in per cent, with the card's own
            preprocessing; a card that states none is left out.
        bundled: only those whose weights are in the package.
        cached: only those whose weights are on this machine: in the package, or in the cache of
            the hub that is asked by default, whoever fetched them.

    Raises:
        UnknownNameError: a task, licence or family that no model has; the message has the nearest.
        OptionError: a bound that is not a number.
    """
    cards = [card for card in _registry().cards.values() if card.weights is not None]
    for field_name, wanted in (("task", task), ("license", license), ("family", family)):
        if wanted is not None:
            allowed = _known(field_name, wanted)
            cards = [card for card in cards if getattr(card, field_name) in allowed]
    if min_params is not None or max_params is not None:
        low, high = _bound("min_params", min_params, 0), _bound("max_params", max_params, 1e18)
        cards = [c for c in cards if c.num_params is not None and low <= c.num_params <= high]
    if min_top1 is not None:
        low = _bound("min_top1", min_top1, 0)
        cards = [c for c in cards if c.published.get("imagenet-1k", {}).get("top1", -1) >= low]
    if bundled:
        cards = [card for card in cards if card.weights and card.weights.bundled]
    if cached:
        cards = [card for card in cards if card.weights and _is_here(card.weights)]
    return _matching((card.name for card in cards), pattern)


def _is_here(weights: WeightsFile) -> bool:
    from zoo.weights.cache import is_cached

    return weights.bundled or is_cached(
        weights.file, repo=weights.repo, url=weights.url, source=Source()
    )


def list_architectures(pattern: str | Sequence[str] | None = None) -> list[str]:
    """Names of the architectures, pretrained or not, that match the pattern(s), sorted."""
    return _matching(_registry().architectures, pattern)


def info(name: str) -> ModelCard:
    """The card of a model.

    Args:
        name: `architecture.tag`, an architecture (its default tag; where nothing pretrained is
            published, a card whose `weights` is None), or a deprecated name, which forwards to its
            successor with a `FutureWarning`.

    Raises:
        UnknownNameError: no such architecture, or no such tag; the message has the nearest names.
    """
    return copy.deepcopy(_find(_forward(name)))


def is_name(text: str) -> bool:
    """Whether this is the name of a card, an architecture or a deprecated model."""
    return text in _registry().names()


def families() -> list[str]:
    """Names of the families, sorted."""
    return sorted(_registry().modules)


def family_module(family: str) -> str:
    """The module that builds a family.

    Raises:
        UnknownNameError: no such family.
    """
    if family not in _registry().modules:
        raise UnknownNameError(
            f"There is no family {family!r}; there are {', '.join(families())}."
            f"{did_you_mean(family, families())}"
        )
    return _registry().modules[family]


def formats_module(family: str) -> str:
    """The module that says how others write a family.

    Raises:
        UnknownNameError: no such family.
    """
    family_module(family)
    return _registry().formats[family]


def import_family(family: str) -> Any:
    """Import the module that builds a family and return its `FAMILY`.

    Raises:
        UnknownNameError: no such family.
        ConfigError: the module has no `FAMILY`.
    """
    module = importlib.import_module(family_module(family))
    if not hasattr(module, "FAMILY"):
        raise ConfigError(f"{module.__name__!r}, which builds {family!r}, has no `FAMILY`.")
    return module.FAMILY


def import_third_parties() -> None:
    """Import the modules that build other packages' families.

    One that cannot be imported is a warning and must not break the rest.
    """
    for family, module in _registry().modules.items():
        if module.partition(".")[0] == __name__.partition(".")[0]:
            continue
        try:
            importlib.import_module(module)
        except Exception as error:  # another package's fault, of whatever kind
            warnings.warn(
                f"{module!r}, which builds the family {family!r}, cannot be imported: "
                f"{type(error).__name__}: {error}",
                UserWarning,
                stacklevel=2,
            )


def architecture_card(name: str) -> ModelCard:
    """The card of an architecture without weights: its family, config and parameter count.

    Args:
        name: name of an architecture, without tag; a deprecated one forwards without a warning,
            since it comes from a file that its reader cannot change.

    Raises:
        UnknownNameError: no such architecture; the message has the nearest names.
    """
    registry = _registry()
    successor = registry.deprecated.get(name)
    card = registry.architectures.get(successor.partition(".")[0] if successor else name)
    if card is None:
        raise UnknownNameError(f"There is no architecture {name!r}.{hint(name)}")
    return copy.deepcopy(card)


def architecture_config(name: str) -> tuple[str, dict[str, Any]]:
    """The family of an architecture, and the fields of the family's config that define it.

    Raises:
        UnknownNameError: no such architecture; the message has the nearest names.
    """
    card = architecture_card(name)
    return card.family, dict(card.config)


def hint(name: str) -> str:
    """What a name that is none may have meant, with a leading space: a slip, or a model that timm
    has and zoo has not; the empty string where nothing is like it."""
    architecture, dot, _ = name.partition(".")
    known = {other for other in _registry().names() if dot or "." not in other}
    longer = [other for other in known if name.lower() in other.lower()]
    if longer:
        return suggestion(sorted(longer, key=lambda o: (not o.startswith(name), len(o), o))[:3])
    word = _first_word(name)
    alike = {o for o in known | _absent() if nearest(word, [_first_word(o)], least=0.7)}
    best = nearest(architecture, alike, 1)
    if best and best[0] not in known:
        return f" timm has {best[0]!r}, which zoo does not have yet."
    return did_you_mean(name, alike & known)


def _first_word(name: str) -> str:
    """The letters that a name begins with: what comes after them, such as `_tiny` or `50`, makes
    names of quite different things alike."""
    letters = re.match(r"[^\W\d_]+", name)
    return letters[0] if letters else name


@functools.cache
def _absent() -> frozenset[str]:
    """Architectures of timm that were not in the registry when it was written."""
    return frozenset(json.loads(ABSENT.read_text("utf-8"))["architectures"])


def _forward(name: str) -> str:
    if name not in _registry().deprecated:
        return name
    current = _registry().deprecated[name]
    if current is None:
        raise UnknownNameError(f"The model {name!r} has been removed, and nothing replaces it.")
    # A FutureWarning, because Python hides a DeprecationWarning from users.
    message = f"The name {name!r} is deprecated; this is {current!r}, use that name."
    warnings.warn(message, FutureWarning, stacklevel=3)
    return current


def _find(name: str) -> ModelCard:
    registry = _registry()
    if name in registry.cards:
        return registry.cards[name]
    architecture, dot, tag = name.partition(".")
    if architecture not in registry.architectures:
        raise UnknownNameError(
            f"There is no model {name!r}.{hint(name)} "
            "`zoo.list_models()` gives every pretrained model."
        )
    if not dot:
        default = registry.defaults.get(name)
        return registry.cards[default] if default else registry.architectures[name]
    tags = [card.partition(".")[2] for card in _matching(registry.cards, architecture)]
    listed = f"its tags are {', '.join(tags)}" if tags else "nothing pretrained is published for it"
    raise UnknownNameError(
        f"{architecture!r} has no tag {tag!r}; {listed}.{did_you_mean(tag, tags)}"
    )


def _matching(names: Iterable[str], pattern: str | Sequence[str] | None) -> list[str]:
    if pattern is None:
        return sorted(names)
    patterns = [pattern] if isinstance(pattern, str) else list(pattern)
    expanded = [*patterns, *(f"{p}.*" for p in patterns if "." not in p)]
    return sorted(name for name in names if any(fnmatchcase(name, p) for p in expanded))


def _known(field_name: str, wanted: str | Sequence[str]) -> list[str]:
    """The values asked for, each of which some card has."""
    asked = [wanted] if isinstance(wanted, str) else list(wanted)
    every = (*_registry().cards.values(), *_registry().architectures.values())
    known = sorted({getattr(card, field_name) for card in every} - {None})
    for value in asked:
        if value not in known:
            raise UnknownNameError(
                f"No model has {field_name}={value!r}; there are {', '.join(known)}."
                f"{did_you_mean(value, known)}"
            )
    return asked


def _bound(option: str, value: Any, otherwise: float) -> float:
    if value is None:
        return otherwise
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise OptionError(
            f"{option} is a number, such as 30e6 parameters or 80.0 per cent; got {value!r}."
        )
    return value


@functools.cache
def _registry() -> _Registry:
    registry = _Registry()
    for path in sorted(CARDS.glob("*.json")):
        registry.add(_parse(json.loads(path.read_text("utf-8"))))
    _third_party(registry)
    return registry


def _third_party(registry: _Registry) -> None:
    """Add the families of other packages.

    Each is an entry point in the group `zoo.families`, whose name is the family and whose value
    the package that holds `cards.json`. The package is not imported: the file is read where the
    package lies. What is wrong with one of them is a warning and must not break the rest.
    """
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            part = _parse(json.loads(_cards_file(point.value).read_text("utf-8")))
            if set(part.modules) != {point.name} or point.name in registry.modules:
                raise ConfigError(
                    f"the file is of the family {', '.join(part.modules)!r}; expected "
                    f"{point.name!r}, as the entry point says, and a family that is not there yet."
                )
            registry.add(part)
        except Exception as error:  # another package's fault, of whatever kind
            warnings.warn(
                f"The entry point {point.name!r} = {point.value!r} (group {ENTRY_POINTS}) gives no "
                f"family, and zoo goes on without it: {type(error).__name__}: {error}",
                UserWarning,
                stacklevel=2,
            )


def _cards_file(package: str) -> Path:
    """Where a package's `cards.json` lies, found without importing the package."""
    top, *rest = package.split(".")
    spec = importlib.util.find_spec(top)
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise ConfigError(f"there is no package {top!r}")
    return Path(next(iter(folders)), *rest, "cards.json")


def _parse(data: Mapping[str, Any]) -> _Registry:
    """Check one file's content and make it a registry of one family."""
    missing = {"family", "module", "formats", "architectures", "cards"} - set(data)
    if missing:
        raise ConfigError(f"The file has no {', '.join(sorted(missing))}; found {', '.join(data)}.")
    family, sources = data["family"], data.get("published_source", {})
    part = _Registry(
        modules={family: data["module"]},
        formats={family: data["formats"]},
        deprecated=data.get("deprecated", {}),
    )
    for name, entry in data["architectures"].items():
        held = {key: value for key, value in entry.items() if key != "default"}
        common = {"name": name, "architecture": name, "family": family}
        part.architectures[name] = from_data(ModelCard, {**held, **common})
        if entry.get("default"):
            part.defaults[name] = f"{name}.{entry['default']}"
    for name, entry in data["cards"].items():
        part.cards[name] = _parse_card(name, entry, part.architectures, sources)
    for name in {*part.defaults.values(), *part.deprecated.values()} - {None}:
        if name not in part.cards and name not in part.architectures:
            raise ConfigError(f"{name!r} is a default or a successor, but no card has that name.")
    return part


def _parse_card(
    name: str,
    entry: Mapping[str, Any],
    architectures: Mapping[str, ModelCard],
    sources: Mapping[str, str],
) -> ModelCard:
    architecture = architectures.get(entry.get("architecture") or name.partition(".")[0])
    if architecture is None:
        raise ConfigError(f"The card {name!r} is of no architecture of its file.")
    return from_data(
        ModelCard,
        {
            "num_params": architecture.num_params,
            **entry,
            "name": name,
            "architecture": architecture.architecture,
            "family": architecture.family,
            "config": {**architecture.config, **entry.get("config", {})},
            "published": {
                test: {"source": sources.get(test.partition("@")[0]), **figures}
                for test, figures in entry.get("published", {}).items()
            },
        },
    )
