"""What a family of architectures declares, and how its config is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

import numpy as np

from zoo import typed
from zoo.errors import ConfigError, OptionError, did_you_mean
from zoo.options import number, plain
from zoo.preprocessing.spec import Spec
from zoo.registry.dialect import Formats


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A feature map of a network.

    Attributes:
        name: the reference's name of the module that ends with it.
        channels: number of channels.
        reduction: input pixels per pixel of the map, on each side.
    """

    name: str
    channels: int
    reduction: int


@dataclass(frozen=True, kw_only=True)
class Graph:
    """The symbolic tensors of a built network.

    Attributes:
        inputs: images `[n, h, w, c]`, or what else the family reads.
        outputs: logits `[n, num_classes]`, or pooled features `[n, dim]` with no classes.
        features: what `features_only` can return, first to last.
        as_map: makes a map `[n, h', w', c']` of one of the features' tensors, given their name.
    """

    inputs: Any
    outputs: Any
    features: tuple[tuple[Feature, Any], ...] = ()
    as_map: Callable[[str, Any], Any] = lambda name, tensor: tensor

    def maps(self) -> list[Any]:
        """All maps, first to last."""
        return [self.as_map(feature.name, tensor) for feature, tensor in self.features]


@dataclass(frozen=True, kw_only=True)
class LayerGroups:
    """How deep each weight of a network lies, for learning rates that fall towards the input.

    Attributes:
        patterns: regular expressions, from the input on, for the beginning of a weight's name. A
            weight belongs to the first that matches, and there to the numbers that it captures,
            the first of which counts the stages. What none matches lies deepest: the head.
        end: of weights that belong to the last of these groups, such as the norm after all blocks.
        no_decay: of weights that have several axes and yet no weight decay.
    """

    patterns: tuple[str, ...] = ()
    end: str | None = None
    no_decay: str | None = None


# An array of a file and the shape of the model's weight -> the weight; the array itself if it fits.
Adapt = Callable[[np.ndarray, tuple[int, ...]], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One family: its config type, its builder, and how others write it.

    Attributes:
        name: the family's name in the registry.
        config: frozen dataclass of the options.
        build: makes the `Graph` from a config and an input size `(h, w)`, each perhaps None.
        formats: how others write it.
        heads: names of the classifier layers.
        head_parts: names of further layers, or what they begin with, that belong to a task: fresh
            where a file has another one.
        embedding: name of the layer whose output is the embedding; None where there is none.
        first_conv: name of the convolution that reads the input channels, by config; None for a
            family that reads no images.
        task: the task of a config, for a family whose configs have several; None: the card's.
        tasks: fields of the config by task, where a network can be built for another one.
        spec: the preprocessing that follows from a config, for models whose card has none.
        sizes: options that change what a file's weights have to fit.
        resize: how weights fit these, by name, for the config as asked for and the card's own.
        hints: what to do about a weight that does not fit, by name.
        groups: the order of the layers, for fine-tuning; without it all weights are one group.
    """

    name: str
    config: type
    build: Callable[..., Graph]
    formats: Formats
    heads: tuple[str, ...] = ()
    head_parts: tuple[str, ...] = ()
    embedding: str | None = None
    first_conv: Callable[[Any], str] | None = None
    task: Callable[[Any], str] | None = None
    tasks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    spec: Callable[[Any], Spec | None] | None = None
    sizes: tuple[str, ...] = ()
    resize: Callable[[Any, Any], Mapping[str, Adapt]] | None = None
    hints: Mapping[str, str] = field(default_factory=dict)
    groups: LayerGroups = LayerGroups()

    def read_config(self, data: Mapping[str, Any], *, origin: str) -> Any:
        """Make the config from plain data, strictly.

        Raises:
            ConfigError: an option that the family does not have, named with the nearest ones, or
                a value that its option cannot have.
        """
        passed_over = {*self.formats.nested, *self.formats.idle}
        options = {k: v for k, v in data.items() if k not in passed_over}
        for group in self.formats.nested:
            nested = data.get(group) or {}
            if not isinstance(nested, Mapping):
                raise ConfigError(f"{origin}: {group} is {nested!r:.200}; expected an object.")
            options |= nested
        known = {f.name for f in dataclasses.fields(self.config)}
        if unknown := sorted(set(options) - known):
            raise ConfigError(
                f"{origin} sets {', '.join(unknown)}, which family {self.name!r} does not know."
                f"{did_you_mean(unknown[0], known)}"
            )
        typed.check(self.config, options, where=origin)
        return self.config(**{k: frozen(v) for k, v in options.items()})

    def change_config(
        self, config: Any, options: Mapping[str, Any], *, others: Collection[str] = ()
    ) -> Any:
        """The config with a caller's options.

        Args:
            others: options of the call that are none of the config's, for the nearest names.

        Raises:
            OptionError: an option that the config does not have, named with the nearest ones, or
                one of another type.
        """
        known = {f.name for f in dataclasses.fields(config)}
        if unknown := sorted(set(options) - known):
            raise OptionError(
                f"load() got {', '.join(unknown)}, which is no option of load and none of family "
                f"{self.name!r}.{did_you_mean(unknown[0], {*known, *others})} "
                f"Options of this family: {', '.join(sorted(known))}."
            )
        values = {k: frozen(plain(v)) for k, v in options.items()}
        for name, value in values.items():
            _check_type(name, value, get_type_hints(type(config))[name])
        return dataclasses.replace(config, **values)


def _check_type(name: str, value: Any, hint: Any) -> None:
    """Raise `OptionError` for a value of another type than its field's, or a rate that is none."""
    if not typed.fits(value, hint):
        expected = hint.__name__ if isinstance(hint, type) else str(hint)
        raise OptionError(f"{name}={value!r} is of another type; {expected} was expected.")
    if name.endswith("_rate") and value is not None:
        number(name, value, 0, 1)


def frozen(value: Any) -> Any:
    """Lists become tuples, so that configs compare and hash by value."""
    return tuple(frozen(v) for v in value) if isinstance(value, (list, tuple)) else value
