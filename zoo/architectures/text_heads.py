"""What the heads of text models share: a last map that is tied to the table of tokens, and one
vector of a text as sentence-transformers makes it (arXiv:1908.10084)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras

from zoo.errors import ConfigError
from zoo.layers.activation import Activation
from zoo.layers.base import choose
from zoo.layers.linear import Dense
from zoo.layers.normalization import LayerNorm
from zoo.layers.text import FirstValues, TextPool, UnitNorm

# ---------------------------------------------------------------- one vector of a text


def check_sentence(config: Any) -> None:
    """Raise `ConfigError` for one vector that cannot be. No other head has its options."""
    if config.head != "sentence":
        for name in ("pooling", "modules", "include_prompt", "truncate_dim"):
            default = next(f.default for f in dataclasses.fields(config) if f.name == name)
            object.__setattr__(config, name, default)
        return
    if not config.pooling:
        raise ConfigError("head='sentence' needs pooling, such as ('mean',).")
    for kind, *_ in config.modules:
        choose("modules", kind, MODULES)


def sentence_inputs(config: Any) -> tuple[str, ...]:
    """The inputs beside those of the network: which tokens are pooled, if these are not all."""
    return () if config.include_prompt else ("pooling_mask",)


def sentence(config: Any, embeddings: Any, inputs: Mapping[str, Any], x: Any) -> Any:
    """One vector of a text, `[n, d]`."""
    masks = {name: inputs.get(name) for name in ("attention_mask", "pooling_mask")}
    given = {name: mask for name, mask in masks.items() if mask is not None}
    x = TextPool(config.pooling, name="pooling")(x, **given)
    for k, (kind, *options) in enumerate(config.modules):
        x = MODULES[kind](f"sentence_module.{k}", x, *options)
    return x if config.truncate_dim is None else FirstValues(config.truncate_dim, name="cut")(x)


def _dense(name: str, x: Any, units: int, bias: bool, act: str, residual: bool = False) -> Any:
    y = Dense(units, use_bias=bias, name=f"{name}.linear")(x)
    y = Activation(act, name=f"{name}.act")(y)
    if not residual:
        return y
    if x.shape[-1] != units:
        x = Dense(units, use_bias=False, name=f"{name}.residual")(x)
    return keras.layers.Add(name=f"{name}.add")([y, x])


def _normalize(name: str, x: Any) -> Any:
    return UnitNorm(name=name)(x)


def _dropout(name: str, x: Any, rate: float) -> Any:
    return keras.layers.Dropout(rate, name=name)(x)


def _layer_norm(name: str, x: Any) -> Any:
    return LayerNorm(epsilon=1e-5, name=f"{name}.norm")(x)


MODULES: dict[str, Callable[..., Any]] = {
    "Dense": _dense,
    "Normalize": _normalize,
    "Dropout": _dropout,
    "LayerNorm": _layer_norm,
}
