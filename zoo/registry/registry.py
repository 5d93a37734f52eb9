"""The registry: every architecture and pretrained model that zoo knows, read from data files.

`cards/*.json` hold the families' architectures, pretrained cards and deprecated names; `index/`
says which file has a name, so that looking one up reads that file alone. Other packages add
families by an entry point (see `_others`). Nothing here imports TensorFlow, nor any builder before
it is asked for.
"""

from __future__ import annotations

import functools
import importlib
import json
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from zoo.errors import ConfigError, OptionError, UnknownNameError, did_you_mean, nearest, suggestion
from zoo.options import plain
from zoo.registry.card import ModelCard, WeightsFile, from_data
from zoo.registry.card_file import CardFile

CARDS = Path(__file__).parent / "cards"
INDEX = Path(__file__).parent / "index"
ABSENT = Path(__file__).parent / "absent.json"
ENTRY_POINTS = "zoo.families"


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
    tests: list[Callable[[dict[str, Any]], Any]] = [lambda card: card["weights"]]
    for field, wanted in (("task", task), ("license", license), ("family", family)):
        if wanted is not None:
            tests.append(functools.partial(_has, field, _known(field, wanted)))
    if min_params is not None or max_params is not None:
        low, high = _bound("min_params", min_params, 0), _bound("max_params", max_params, 1e18)
        tests.append(lambda c: c["num_params"] is not None and low <= c["num_params"] <= high)
    if min_top1 is not None:
        least = _bound("min_top1", min_top1, 0)
        tests.append(lambda card: card["published"].get("imagenet-1k", {}).get("top1", -1) >= least)
    if bundled:
        tests.append(lambda card: card["weights"].get("bundled"))
    if cached:
        tests.append(lambda card: _is_here(from_data(WeightsFile, card["weights"])))
    cards = {name: file.facts(name) for file in _files() for name in file.cards}
    return [n for n in _matching(cards, pattern) if all(test(cards[n]) for test in tests)]


def _has(field: str, values: Sequence[str], card: dict[str, Any]) -> bool:
    return card[field] in values


def _is_here(weights: WeightsFile) -> bool:
    from zoo.weights.cache import is_cached
    from zoo.weights.handle import Source

    return weights.bundled or is_cached(
        weights.file, repo=weights.repo, url=weights.url, source=Source()
    )


def list_architectures(pattern: str | Sequence[str] | None = None) -> list[str]:
    """Names of the architectures, pretrained or not, that match the pattern(s), sorted."""
    return _matching((name for file in _files() for name in file.architectures), pattern)


def info(name: str) -> ModelCard:
    """The card of a model.

    Args:
        name: `architecture.tag`, an architecture (its default tag; where nothing pretrained is
            published, a card whose `weights` is None), or a deprecated name, which forwards to its
            successor with a `FutureWarning`.

    Raises:
        UnknownNameError: no such architecture, or no such tag; the message has the nearest names.
    """
    file = _home(name)
    if file is not None and name in file.deprecated:
        current = file.deprecated[name]
        if current is None:
            raise UnknownNameError(f"The model {name!r} has been removed, and nothing replaces it.")
        # A FutureWarning, because Python hides a DeprecationWarning from users.
        message = f"The name {name!r} is deprecated; this is {current!r}, use that name."
        warnings.warn(message, FutureWarning, stacklevel=2)
        name = current
    if file is None:
        raise _unknown(name)
    card = name if name in file.cards else file.default(name)
    return file.card(card) if card else file.architecture(name)


def _unknown(name: str) -> UnknownNameError:
    """What to raise for the name of no model."""
    architecture, _, tag = name.partition(".")
    file = _home(architecture)
    if file is None or architecture not in file.architectures:
        return UnknownNameError(
            f"There is no model {name!r}.{hint(name)} "
            "`zoo.list_models()` gives every pretrained model."
        )
    tags = [card.partition(".")[2] for card in _matching(file.cards, architecture)]
    listed = f"its tags are {', '.join(tags)}" if tags else "nothing pretrained is published for it"
    return UnknownNameError(
        f"{architecture!r} has no tag {tag!r}; {listed}.{did_you_mean(tag, tags)}"
    )


def is_name(text: str) -> bool:
    """Whether this is the name of a card, an architecture or a deprecated model."""
    return _home(text) is not None


def families() -> list[str]:
    """Names of the families, sorted."""
    return sorted((_index("families") | _others()).keys())


def family_module(family: str) -> str:
    """The module that builds a family.

    Raises:
        UnknownNameError: no such family.
    """
    return _index("families").get(family) or _of_others(family).module


def formats_module(family: str) -> str:
    """The module that says how others write a family.

    Raises:
        UnknownNameError: no such family.
    """
    return _index("formats").get(family) or _of_others(family).formats


def _of_others(family: str) -> CardFile:
    if family not in _others():
        raise UnknownNameError(
            f"There is no family {family!r}; there are {', '.join(families())}."
            f"{did_you_mean(family, families())}"
        )
    return _others()[family]


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


def import_third_parties(word: str) -> None:
    """Import the modules that build other packages' families, of those packages that have a word,
    such as the name of a class, in their sources.

    One that cannot be imported is a warning and must not break the rest.
    """
    for family, file in _others().items():
        try:
            if _mentions(_folder(file.module.partition(".")[0]), word):
                importlib.import_module(file.module)
        except Exception as error:  # another package's fault, of whatever kind
            warnings.warn(
                f"{file.module!r}, which builds the family {family!r}, cannot be imported: "
                f"{type(error).__name__}: {error}",
                UserWarning,
                stacklevel=2,
            )


def _mentions(folder: Path, word: str) -> bool:
    search = re.compile(rf"\b{re.escape(word)}\b").search
    return any(search(path.read_text("utf-8", "replace")) for path in folder.rglob("*.py"))


def architecture_card(name: str) -> ModelCard:
    """The card of an architecture without weights: its family, config and parameter count.

    Args:
        name: name of an architecture, without tag; a deprecated one forwards without a warning,
            since it comes from a file that its reader cannot change.

    Raises:
        UnknownNameError: no such architecture; the message has the nearest names.
    """
    file = _home(name)
    successor = file.deprecated.get(name) if file else None
    architecture = successor.partition(".")[0] if successor else name
    if file is None or architecture not in file.architectures:
        raise UnknownNameError(f"There is no architecture {name!r}.{hint(name)}")
    return file.architecture(architecture)


def hint(name: str) -> str:
    """What a name that is none may have meant, with a leading space: a slip, or a model that timm
    has and zoo has not; the empty string where nothing is like it."""
    architecture, dot, _ = name.partition(".")
    known = {other for other in _names(_others().values()) if dot or "." not in other}
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


def _matching(names: Iterable[str], pattern: str | Sequence[str] | None) -> list[str]:
    if pattern is None:
        return sorted(names)
    patterns = [pattern] if isinstance(pattern, str) else list(pattern)
    expanded = [*patterns, *(f"{p}.*" for p in patterns if "." not in p)]
    return sorted(name for name in names if any(fnmatchcase(name, p) for p in expanded))


def _known(field_name: str, wanted: str | Sequence[str]) -> list[str]:
    """The values asked for, each of which some card has."""
    asked = [wanted] if isinstance(wanted, str) else list(wanted)
    names = ((file, name) for file in _files() for name in (*file.architectures, *file.cards))
    known = sorted({file.facts(name)[field_name] for file, name in names} - {None})
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


# ---------------------------------------------------------------- files


@functools.cache
def _index(fact: str) -> dict[str, str]:
    """A table that `make cards` writes: of `names` to data files, of `families` and their
    `formats` to modules."""
    return json.loads((INDEX / f"{fact}.json").read_text("utf-8"))


@functools.cache
def _file(name: str) -> CardFile:
    return CardFile(CARDS / f"{name}.json")


def _home(name: str) -> CardFile | None:
    """The file that has this name, of a card, an architecture or a deprecated model."""
    if name in _index("names"):
        return _file(_index("names")[name])
    return next((file for file in _others().values() if name in file.names()), None)


def _files() -> list[CardFile]:
    return [*map(_file, sorted({*_index("names").values()})), *_others().values()]


def _names(others: Iterable[CardFile]) -> set[str]:
    """All names that zoo's own files and these others have."""
    return set(_index("names")).union(*(file.names() for file in others))


@functools.cache
def _others() -> dict[str, CardFile]:
    """The families of other packages, by name.

    Each is an entry point in the group `zoo.families`, whose name is the family and whose value
    the package that holds `cards.json`. The package is not imported: the file is read where the
    package lies. What is wrong with one of them is a warning and must not break the rest.
    """
    import importlib.metadata  # takes as long as all the rest of a look-up

    others: dict[str, CardFile] = {}
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            file = CardFile(_folder(point.value) / "cards.json")
            if file.family != point.name or point.name in _index("families") | others:
                raise ConfigError(
                    f"the file is of the family {file.family!r}; expected {point.name!r}, as the "
                    "entry point says, and a family that is not there yet."
                )
            if taken := file.names() & _names(others.values()):
                raise ConfigError(f"the names {', '.join(sorted(taken))} are already there.")
            file.every()  # raises for a card that is none
            others[point.name] = file
        except Exception as error:  # another package's fault, of whatever kind
            warnings.warn(
                f"The entry point {point.name!r} = {point.value!r} (group {ENTRY_POINTS}) gives no "
                f"family, and zoo goes on without it: {type(error).__name__}: {error}",
                UserWarning,
                stacklevel=2,
            )
    return others


def _folder(package: str) -> Path:
    """Where a package lies, found without importing it."""
    import importlib.util

    top, *rest = package.split(".")
    spec = importlib.util.find_spec(top)
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise ConfigError(f"there is no package {top!r}")
    return Path(next(iter(folders)), *rest)
