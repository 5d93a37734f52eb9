"""A data file of the registry: the architectures and pretrained cards of a family."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.errors import ConfigError
from zoo.registry.card import ModelCard, from_data


class CardFile:
    """What one data file says. A card is made anew each time it is asked for.

    Attributes:
        family, module: name of the family, and the module whose `FAMILY` builds it.
        formats: the module whose `FORMATS` say how others write it.
        architectures, cards: entries by name.
        deprecated: old name -> architecture or card; None where nothing replaces it.

    Raises:
        ConfigError: something that every file has is missing, or a name leads nowhere.
    """

    def __init__(self, path: Path) -> None:
        data = json.loads(path.read_text("utf-8"))
        if missing := {"family", "module", "formats", "architectures", "cards"} - set(data):
            raise ConfigError(
                f"The file has no {', '.join(sorted(missing))}; found {', '.join(data)}."
            )
        self.family: str = data["family"]
        self.module: str = data["module"]
        self.formats: str = data["formats"]
        self.architectures: Mapping[str, Any] = data["architectures"]
        self.cards: Mapping[str, Any] = data["cards"]
        self.deprecated: Mapping[str, str | None] = data.get("deprecated", {})
        self._sources: Mapping[str, str] = data.get("published_source", {})
        for name in {*map(self.default, self.architectures), *self.deprecated.values()} - {None}:
            if name not in self.cards and name not in self.architectures:
                raise ConfigError(
                    f"{name!r} is a default or a successor, but no card has that name."
                )

    def names(self) -> set[str]:
        """All names that the file has, deprecated ones included."""
        return {*self.architectures, *self.cards, *self.deprecated}

    def every(self) -> list[ModelCard]:
        """All cards, those of the architectures included."""
        return [*map(self.architecture, self.architectures), *map(self.card, self.cards)]

    def facts(self, name: str) -> dict[str, Any]:
        """What the card of a name, or of an architecture, has for lists: no card is made."""
        entry = self.cards.get(name) or self.architectures[name]
        base = self.architectures.get(entry.get("architecture") or name.partition(".")[0], {})
        usual: dict[str, Any] = {
            "task": ModelCard.task,
            "license": None,
            "weights": None,
            "published": {},
        }
        own = {"family": self.family, "num_params": base.get("num_params")}
        return {**usual, **own, **entry}

    def default(self, architecture: str) -> str | None:
        """Name of the default card of an architecture, where it has one."""
        tag = self.architectures[architecture].get("default")
        return tag and f"{architecture}.{tag}"

    def architecture(self, name: str) -> ModelCard:
        """The card of an architecture, without weights."""
        entry = {k: v for k, v in self.architectures[name].items() if k != "default"}
        own = {"name": name, "architecture": name, "family": self.family}
        return from_data(ModelCard, copy.deepcopy(entry) | own)

    def card(self, name: str) -> ModelCard:
        """A pretrained card.

        Raises:
            ConfigError: it is of no architecture of the file.
        """
        entry = copy.deepcopy(self.cards[name])
        architecture = entry.get("architecture") or name.partition(".")[0]
        if architecture not in self.architectures:
            raise ConfigError(f"The card {name!r} is of no architecture of its file.")
        base = self.architecture(architecture)
        own = {
            "name": name,
            "architecture": architecture,
            "family": self.family,
            "config": {**base.config, **entry.get("config", {})},
            "published": {
                test: {"source": self._sources.get(test.partition("@")[0]), **figures}
                for test, figures in entry.get("published", {}).items()
            },
        }
        return from_data(ModelCard, {"num_params": base.num_params, **entry, **own})
