"""A data file of the registry: the architectures and pretrained cards of a family."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.errors import ConfigError
from zoo.registry.card import ModelCard, from_data


class CardFile:
    """What one data file says. A card is made when it is asked for.

    Args:
        data: content of the file.

    Attributes:
        family: name of the family.
        module: the module whose `FAMILY` builds it.
        architectures: architecture -> its entry.
        cards: card name -> its entry.
        deprecated: old name -> architecture or card; None where nothing replaces it.

    Raises:
        ConfigError: something that every file has is missing, or a name leads nowhere.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        missing = {"family", "module", "architectures", "cards"} - set(data)
        if missing:
            raise ConfigError(
                f"The file has no {', '.join(sorted(missing))}; found {', '.join(data)}."
            )
        self.family: str = data["family"]
        self.module: str = data["module"]
        self.architectures: Mapping[str, Any] = data["architectures"]
        self.cards: Mapping[str, Any] = data["cards"]
        self.deprecated: Mapping[str, str | None] = data.get("deprecated", {})
        self._sources: Mapping[str, str] = data.get("published_source", {})
        self._made: dict[str, ModelCard] = {}
        defaults = (self.default(name) for name in self.architectures)
        for name in {*defaults, *self.deprecated.values()} - {None}:
            if name not in self.cards and name not in self.architectures:
                raise ConfigError(
                    f"{name!r} is a default or a successor, but no card has that name."
                )

    @classmethod
    def read(cls, path: Path) -> CardFile:
        return cls(json.loads(path.read_text("utf-8")))

    def names(self) -> set[str]:
        """All that the file has a card for, and the deprecated names."""
        return {*self.architectures, *self.cards, *self.deprecated}

    def pretrained(self) -> list[str]:
        """Names of the cards that have weights."""
        return [name for name, entry in self.cards.items() if entry.get("weights")]

    def every(self) -> list[ModelCard]:
        """All cards, those of the architectures included."""
        return [*map(self.architecture, self.architectures), *map(self.card, self.cards)]

    def default(self, architecture: str) -> str | None:
        """Name of the default card of an architecture, where it has one."""
        tag = self.architectures[architecture].get("default")
        return tag and f"{architecture}.{tag}"

    def architecture(self, name: str) -> ModelCard:
        """The card of an architecture, without weights."""
        entry = {k: v for k, v in self.architectures[name].items() if k != "default"}
        common = {"name": name, "architecture": name, "family": self.family}
        return from_data(ModelCard, {**entry, **common})

    def card(self, name: str) -> ModelCard:
        """A pretrained card.

        Raises:
            ConfigError: it is of no architecture of the file.
        """
        if name not in self._made:
            self._made[name] = self._card(name, self.cards[name])
        return self._made[name]

    def _card(self, name: str, entry: Mapping[str, Any]) -> ModelCard:
        architecture = entry.get("architecture") or name.partition(".")[0]
        if architecture not in self.architectures:
            raise ConfigError(f"The card {name!r} is of no architecture of its file.")
        base = self.architecture(architecture)
        published = {
            test: {"source": self._sources.get(test.partition("@")[0]), **figures}
            for test, figures in entry.get("published", {}).items()
        }
        own = {
            "name": name,
            "architecture": architecture,
            "family": self.family,
            "config": {**base.config, **entry.get("config", {})},
            "published": published,
        }
        return from_data(ModelCard, {"num_params": base.num_params, **entry, **own})
