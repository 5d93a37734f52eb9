"""A model card: weights, preprocessing and provenance of one pretrained model, as one value."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any, TypeVar

from zoo import typed
from zoo.errors import ConfigError, did_you_mean
from zoo.preprocessing import SPECS
from zoo.preprocessing.spec import ImageSpec, Spec

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """Where the weights of a card are.

    Attributes:
        repo: hub repo, `org/name`.
        file: file name in the repo, or in the package for bundled weights.
        revision: commit that the card pins; None is `main`, remembered once resolved.
        sha256: hash of the file; None is trust on first use.
        url: plain https source, for files that are on no hub.
        bundled: the file ships in the package, under `zoo/bundled/<repo>`.
        pull_request: `refs/pr/4`, the hub's converter's, where `main` has no safetensors; if it has
            some by now, these are taken.
        layout: whose tensor names and shapes the file has; None is the family's first.
    """

    repo: str | None = None
    file: str = "model.safetensors"
    revision: str | None = None
    sha256: str | None = None
    url: str | None = None
    bundled: bool = False
    pull_request: str | None = None
    layout: str | None = None


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """One pretrained model (or one built with random weights: then `weights` is None).

    Attributes:
        name: `architecture.tag`, or the handle it came from.
        architecture: name of the architecture in the registry.
        family: name of the family, whose module builds it.
        config: fields of the family's config, as plain data.
        weights: where the weights are; None where no safetensors are published anywhere.
        preprocessing: what inputs go through.
        task: for example `image-classification`.
        labels: name of a label set that ships with zoo, or the labels, or None where unknown.
        license: SPDX-like identifier as the publisher states it.
        num_params: trainable parameters and buffers that are learned, as the reference counts.
        published: figures quoted from others, each with its source. `imagenet-1k` was measured
            with this very preprocessing, `imagenet-1k@288` at another image size.
        paper_ids, origin_url, description: provenance.
        idle: keys of the config that it was read from that change nothing.
    """

    name: str
    architecture: str
    family: str
    config: Mapping[str, Any] = field(default_factory=dict)
    weights: WeightsFile | None = None
    preprocessing: Spec | None = None
    task: str = "image-classification"
    labels: str | tuple[str, ...] | None = None
    license: str | None = None
    num_params: int | None = None
    published: Mapping[str, Any] = field(default_factory=dict)
    paper_ids: tuple[str, ...] = ()
    origin_url: str | None = None
    description: str | None = None
    idle: tuple[str, ...] = ()


def to_data(value: Any) -> Any:
    """A card, or a part of one, as data that JSON can hold; fields at their default are left out.

    `from_data` gives the same value back.
    """
    if is_dataclass(value):
        held = {f: getattr(value, f.name) for f in fields(value)}
        data = {f.name: to_data(v) for f, v in held.items() if v != _default(f)}
        kind = getattr(value, "kind", ImageSpec.kind)  # specs alone have one
        return data if kind == ImageSpec.kind else {"kind": kind, **data}
    if isinstance(value, Mapping):
        return {key: to_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_data(item) for item in value]
    return value


def from_data(kind: type[_T], data: Mapping[str, Any], *, check: bool = False) -> _T:
    """A `ModelCard`, `WeightsFile` or spec from what `to_data` gave.

    Args:
        check: whether values are checked as well: of a file that nobody vouches for. The
            registry's own would take four times as long to read.

    Raises:
        ConfigError: a field that `kind` does not have, or one that it needs and that is missing, or
            a value that a field cannot have.
    """
    known, required = _fields(kind)  # type: ignore[arg-type]  # mypy holds classes unhashable
    if not known.issuperset(data):
        name = next(name for name in data if name not in known)
        raise ConfigError(
            f"{kind.__name__} has no field {name!r}; it has {', '.join(sorted(known))}."
            f"{did_you_mean(str(name), known)}"
        )
    if not required.issubset(data):
        missing = ", ".join(sorted(required - set(data)))
        raise ConfigError(f"{kind.__name__} needs the field(s) {missing}; found {', '.join(data)}.")
    values = {name: _field(name, value, check) for name, value in data.items()}
    if check:
        typed.check(kind, values, where=kind.__name__)
    return kind(**values)


def _field(name: str, value: Any, check: bool) -> Any:
    if name == "weights" and isinstance(value, Mapping):
        return from_data(WeightsFile, value, check=check)
    if name == "preprocessing" and isinstance(value, Mapping):
        return _spec(dict(value), check)
    return tuple(value) if isinstance(value, list) else value


def _spec(data: dict[str, Any], check: bool) -> Spec:
    """The preprocessing of a card: of images, where it names no other kind."""
    kind = data.pop("kind", ImageSpec.kind)
    if not isinstance(kind, str) or kind not in SPECS:
        raise ConfigError(
            f"There is no preprocessing of kind {kind!r}; there are {', '.join(SPECS)}."
            f"{did_you_mean(str(kind), SPECS)}"
        )
    return from_data(SPECS[kind], data, check=check)


@functools.cache
def _fields(kind: type) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the fields of a dataclass, and of those without a default."""
    expected = fields(kind)
    required = (f.name for f in expected if _default(f) is MISSING)
    return frozenset(f.name for f in expected), frozenset(required)


def _default(spec: Field) -> Any:
    return spec.default if spec.default_factory is MISSING else spec.default_factory()
