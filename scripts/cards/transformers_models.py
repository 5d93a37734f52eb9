"""The cards of transformers' model types, and of checkpoints on the public hub.

`zoo/registry/cards/<family>.json`, or `transformers_<family>.json` for a family of timm's: the
types with the defaults of transformers' config classes, and the checkpoints of `checkpoints.toml`,
whose parameters are counted. At load the repo's own files win over a card: a text model cannot be
loaded without them, since they hold its tokenizer.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import build_index
import keras
from kinds import FAMILIES, Family

from zoo.layers.building import build_uninitialized
from zoo.registry import registry, transformers_config
from zoo.registry.card import WeightsFile, to_data
from zoo.registry.dialect import TRANSFORMERS
from zoo.registry.dialects import transformers_dialects
from zoo.registry.heads import task_of
from zoo.registry.preprocessor_config import image_spec_from_preprocessor
from zoo.registry.registry import CARDS
from zoo.registry.timm_config import FEATURES
from zoo.registry.tokenizer_config import text_spec

from .text import render

Keys = Mapping[str, Any]
_DATA = tomllib.loads(Path(__file__).with_name("checkpoints.toml").read_text("utf-8"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint on the public hub; `checkpoints.toml` says what the fields are."""

    name: str
    org: str
    model: str
    license: str | None = None
    like: tuple[str, ...] = ()
    keys: Keys = dataclasses.field(default_factory=dict)
    labels: tuple[str, ...] = ()
    pooling: str | None = None
    normalize: bool = False
    max_length: int | None = None
    pull_request: str | None = None

    @property
    def repo(self) -> str:
        return f"{self.org}/{self.name}"

    @property
    def model_type(self) -> str:
        dialects = transformers_dialects()
        return next(name for name, one in dialects if self.model in one.classes)

    @property
    def config(self) -> dict[str, Any]:
        """The repo's `config.json`, as far as it is not the type's defaults."""
        sets = {key: value for name in self.like for key, value in _DATA["keys"][name].items()}
        labels = {"id2label": dict(enumerate(self.labels))} if self.labels else {}
        return {"architectures": [self.model], **sets, **self.keys, **labels}


def checkpoints() -> Iterator[Checkpoint]:
    for group in _DATA["group"]:
        common = {key: value for key, value in group.items() if key != "checkpoints"}
        for name, own in group["checkpoints"].items():
            yield Checkpoint(**common | own | {"name": name})


def files() -> dict[Path, Any]:
    """The texts of the files, each by a function."""
    return {path: functools.partial(family_text, family) for path, family in paths().items()}


def paths() -> dict[Path, Family]:
    """The files, and the families that they are of."""
    return {
        CARDS / f"{'transformers_' * bool(family.timm)}{family.name}.json": family
        for family in FAMILIES.values()
        if family.transformers
    }


def begin() -> None:
    """Give new families an empty file, since it is by the registry that dialects are found."""
    for path, family in paths().items():
        if not path.exists():
            path.write_text(render({**head(family), "architectures": {}, "cards": {}}), "utf-8")
            build_index.main()
            registry._index.cache_clear()


def head(family: Family) -> dict[str, Any]:
    return {
        "family": family.name,
        "module": f"zoo.architectures.{family.name}",
        "formats": f"zoo.formats.{family.name}",
        "source": dict(zip(("library", "version"), TRANSFORMERS.split(), strict=True)),
    }


def family_text(family: Family) -> str:
    """The cards of the model types that a family builds."""
    content = {
        **head(family),
        "architectures": {name: architecture(name) for name in family.transformers},
        "cards": {
            row.name.lower(): card(family.name, row)
            for row in checkpoints()
            if row.model_type in family.transformers
        },
    }
    return render(content)


def described(model_type: str, keys: Keys, name: str) -> tuple[Any, Any, str]:
    """What a `config.json` says, the spec of what the network takes, and its task."""
    config = {"model_type": model_type, **keys}
    found = transformers_config.read(config, where=name)
    dialect = found.dialect
    if dialect.processor is not None:
        spec = image_spec_from_preprocessor({}, origin=name, processor=dialect.processor)
        return found, spec, FEATURES
    about: dict[str, Any] = {"fields": found.fields, "config": config, "origin": name}
    return found, text_spec(lambda file: None, dialect=dialect, **about), task_of(found.fields)


def architecture(model_type: str) -> dict[str, Any]:
    found, spec, task = described(model_type, {}, model_type)
    return {"config": to_data(found.fields), "task": task, "preprocessing": to_data(spec)}


def card(family: str, row: Checkpoint) -> dict[str, Any]:
    found, spec, task = described(row.model_type, row.config, row.name)
    fields = found.fields
    if row.pooling is not None:
        modules = (("Normalize",),) if row.normalize else ()
        fields = {**fields, "head": "sentence", "pooling": (row.pooling,), "modules": modules}
        task = task_of(fields)
    if row.max_length is not None:
        spec = dataclasses.replace(spec, max_length=row.max_length)
    base = architecture(row.model_type)["config"]
    return {
        "architecture": row.model_type,
        "config": {k: v for k, v in to_data(fields).items() if base.get(k) != v},
        "weights": to_data(WeightsFile(repo=row.repo, pull_request=row.pull_request)),
        "preprocessing": to_data(spec),
        "task": task,
        **({"labels": list(found.labels)} if found.labels else {}),
        **({"license": row.license} if row.license else {}),
        "num_params": count(family, network(family).read_config(fields, origin=row.name)),
        "origin_url": f"https://huggingface.co/{row.repo}",
    }


def network(family: str) -> Any:
    return importlib.import_module(f"zoo.architectures.{family}").FAMILY


@functools.cache
def count(family: str, config: Any) -> int:
    """The parameters of a network, which is built and gets no values."""

    def build() -> keras.Model:
        graph = network(family).build(config)
        return keras.Model(graph.inputs, graph.outputs)

    return build_uninitialized(build).count_params()
