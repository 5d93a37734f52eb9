"""What a model carries besides its graph: card, labels, preprocessing, what its load did."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from zoo.architectures.base import Feature
from zoo.preprocessing import preprocessor
from zoo.registry.card import ModelCard, from_data, to_data
from zoo.registry.labels import labels as label_set


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What a load did.

    Attributes:
        source: repo, folder or address the weights came from; None for random weights.
        commit: the one commit that every file came from, for a hub.
        pull_request: `refs/pr/4` where that is of the hub's converter, since `main` has no weights.
        files: the files read.
        loaded: number of model weights that were given values from the files.
        fresh: weights that were never trained: those with fresh random values, and `marked`. A
            model's `load_report` leaves out those that were trained since.
        marked: weights of the files that these say were never trained.
        ignored: tensors of the files that were not used.
        adapted: weights that were fitted to another number of input channels.
        notes: what the files have otherwise than their config says or such files usually do.
        dtype: dtype of the files' tensors.
        idle: keys of the config file that change nothing in the network.
    """

    source: str | None = None
    commit: str | None = None
    files: tuple[str, ...] = ()
    loaded: int = 0
    fresh: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    dtype: str | None = None
    pull_request: str | None = None
    marked: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()

    def __str__(self) -> str:
        origin = f"{self.source}@{self.commit}" if self.commit else self.source
        lines = [f"{self.loaded} weights from {origin or 'nowhere'} ({self.dtype or 'no file'})"]
        if self.pull_request:
            lines.append(f"{self.pull_request}: the safetensors are in this pull request alone")
        for title in ("fresh", "ignored", "adapted", "idle"):
            if names := getattr(self, title):
                shown = ", ".join(names[:8]) + (f", and {len(names) - 8} more" * (len(names) > 8))
                lines.append(f"{title}: {shown}")
        lines.extend(f"note: {note}" for note in self.notes)
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a model carries besides its graph, and through `.keras` files: plain values alone.

    Attributes:
        card: the card, as loaded: with the caller's options in it.
        task: name of the task.
        embedding: name of the layer whose (first) output is the embedding; None: there is none.
        layout: layout that a save writes.
        features: the maps that the model gives, for `features_only`.
        file_dtype: dtype that a save writes.
        other_dtypes: tensors of the file that have another dtype.
        constants: tensors of the file that no weight holds.
        tensor_names: the names of the file's tensors that can have several; see `Resolution`.
        report: what the load did.
        initial: checksums of the values that the weights of `report.fresh` began with.
    """

    card: ModelCard
    task: str
    embedding: str | None
    layout: str
    features: tuple[Feature, ...] | None = None
    file_dtype: str = "float32"
    other_dtypes: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] | None = None
    tensor_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    report: LoadReport = LoadReport()
    initial: Mapping[str, int] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Names of the classes, in the order of the logits."""
        labels = self.card.labels
        return label_set(labels) if isinstance(labels, str) else labels

    @cached_property
    def preprocess(self) -> Any:
        """What turns inputs into batches; None where the card knows of none."""
        return preprocessor(self.card.preprocessing) if self.card.preprocessing else None

    def to_dict(self) -> dict[str, Any]:
        data = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if self.constants is not None:
            data["constants"] = {
                k: {"dtype": str(v.dtype), "value": v.tolist()} for k, v in self.constants.items()
            }
        return data | {
            "card": to_data(self.card),
            "features": self.features and [dataclasses.asdict(f) for f in self.features],
            "report": dataclasses.asdict(self.report),
            "other_dtypes": dict(self.other_dtypes),
            "tensor_names": {k: list(names) for k, names in self.tensor_names.items()},
            "initial": dict(self.initial),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Record:
        values = dict(data)
        values["card"] = from_data(ModelCard, values["card"])
        values["features"] = values["features"] and tuple(Feature(**f) for f in values["features"])
        if values["constants"] is not None:
            values["constants"] = {
                k: np.asarray(v["value"], v["dtype"]) for k, v in values["constants"].items()
            }
        report: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values["report"].items()
        }
        return cls(**values | {"report": LoadReport(**report)})
