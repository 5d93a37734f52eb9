"""What every zoo layer shares: registration, config, and children that inherit the dtype policy."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar, get_args, get_type_hints

import keras

from zoo.errors import ConfigError, did_you_mean
from zoo.layers.building import KeepsTrainable

register = keras.saving.register_keras_serializable(package="zoo")

_T = TypeVar("_T")
Shape = tuple[Any, ...]  # sizes; None where unknown
Step = Any  # of a chain: a layer, an elementwise function, or None


class PlainAttributes:
    """Sets numbers, strings and the like without asking Keras to track them.

    There is nothing in them to track, and asking takes a third of the time to build a model.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if value is None or isinstance(value, bool | int | float | str):
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)


class LayerMixin(PlainAttributes, KeepsTrainable):
    """What layers of zoo that extend one of Keras's have in common with the others."""


class Layer(LayerMixin, keras.layers.Layer):
    """A Keras layer whose options are its annotated attributes, as in a dataclass.

    The constructor takes them in the order in which they stand, and Keras's own (`name`, `dtype`),
    then calls `setup`; the config holds them. An option may be a dataclass, such as a network's
    config. Subclasses create their children with `child`, and define `build` and
    `compute_output_shape`, so that building a model traces no graph.
    """

    fields: ClassVar[tuple[str, ...]] = ()  # the names of the options

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = [one for one in reversed(cls.__mro__) if issubclass(one, Layer) and one is not Layer]
        hints = [hint for one in own for hint in inspect.get_annotations(one).items()]
        cls.fields = tuple(dict.fromkeys(n for n, hint in hints if "ClassVar" not in str(hint)))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = dict(zip(self.fields, args, strict=False))
        if len(args) > len(self.fields) or given.keys() & kwargs.keys():
            names = ", ".join(self.fields)
            raise TypeError(f"{type(self).__name__} takes each of ({names}) once; got {args}.")
        for name in self.fields:
            if name in kwargs:
                given[name] = kwargs.pop(name)
            elif name not in given and not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} needs {name!r}.")
        super().__init__(**kwargs)
        for name, value in given.items():
            setattr(self, name, value)
        self.setup()

    def setup(self) -> None:
        """Check the options, and make what follows from them alone."""

    def child(self, layer: type, *args: Any, **kwargs: Any) -> Any:
        """Make a child layer of type `layer` under this layer's dtype policy."""
        return layer(*args, **kwargs, dtype=self.dtype_policy)

    def drop_layer(self, rate: float, name: str) -> keras.layers.Dropout | None:
        """A child that drops at this rate, for chains; None where nothing is dropped."""
        return self.child(keras.layers.Dropout, rate, name=name) if rate else None

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {name: _plain(getattr(self, name)) for name in self.fields}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        nested = [name for name in cls.fields if isinstance(config.get(name), dict)]
        hints = get_type_hints(cls) if nested else {}
        return super().from_config(config | {k: _typed(config[k], hints.get(k)) for k in nested})


def _typed(value: Any, hint: Any) -> Any:
    """What `_plain` made data of, by its annotation: a dataclass, where that names one."""
    kind: Any = next((k for k in (hint, *get_args(hint)) if dataclasses.is_dataclass(k)), None)
    if kind is None or not isinstance(value, dict):
        return tuple(_typed(v, None) for v in value) if isinstance(value, list) else value
    hints = get_type_hints(kind)
    return kind(**{name: _typed(v, hints.get(name)) for name, v in value.items()})


def _plain(value: Any) -> Any:
    """Keras wraps assigned containers in tracking ones; a config holds plain data."""
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def choose(option: str, name: Any, table: Mapping[Any, _T]) -> _T:
    """The entry of `table` that an option of a config names.

    Raises:
        ConfigError: no such entry; the message has the known names and the nearest ones.
    """
    if name not in table:
        names = ", ".join(map(repr, table))
        raise ConfigError(
            f"{option}={name!r} is not known; known are {names}."
            f"{did_you_mean(str(name), map(str, table))}"
        )
    return table[name]


def build_chain(shape: Shape, *layers: Step) -> Shape:
    """Build `layers` one after another from the input shape, which is followed to the end.

    A chain may also hold plain elementwise functions, such as activations, and None, which is
    passed over: so in `chain_shape` and `run_chain`.
    """
    for layer in layers:
        if isinstance(layer, keras.layers.Layer):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
    return shape


def chain_shape(shape: Shape, *layers: Step) -> Shape:
    """The shape after the layers of a chain."""
    for layer in layers:
        if isinstance(layer, keras.layers.Layer):
            shape = layer.compute_output_shape(shape)
    return shape


def run_chain(x: Any, *layers: Step) -> Any:
    """Apply the layers of a chain one after another."""
    for layer in layers:
        if layer is not None:
            x = layer(x)
    return x
