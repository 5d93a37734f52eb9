"""The model types of transformers: which key of a `config.json` is which field of our configs.

One entry per type, in `transformers_vision` and `transformers_text`; `transformers_config` reads
and writes files by them. What a file leaves out has the default of transformers' own config class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from zoo.errors import ConfigError, did_you_mean

VERSION = "5.24.0"  # whose config classes the defaults are

Fields = dict[str, Any]

SINGLE_LABEL, MULTI_LABEL = "single_label_classification", "multi_label_classification"
REGRESSION = "regression"
PROBLEMS = (SINGLE_LABEL, MULTI_LABEL, REGRESSION)  # values of `problem_type`

_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "quick_gelu": "quick_gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_10": "clipped_gelu",
    "relu": "relu",
    "relu2": "squared_relu",
    "relu6": "relu6",
    "leaky_relu": "leaky_relu",
    "silu": "silu",
    "swish": "silu",
    "hardswish": "hard_swish",
    "mish": "mish",
    "laplace": "laplace",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "linear": "linear",
}


@dataclass(frozen=True, kw_only=True)
class ModelType:
    """One `model_type` of transformers.

    Attributes:
        defaults: its keys, with the values of its config class.
        same: key -> field that holds the same value.
        fields: fields that all networks of the type have.
        derive: fields that follow from several keys, or are written in another way.
        revert: the keys of such fields.
        heads: class in `architectures` -> fields; the first one is the network without a head.
            One that says `num_classes` has no classes of the file's.
        idle: keys that transformers reads of the type and that change nothing in the networks that
            zoo has of it, each with the reason.
    """

    defaults: Mapping[str, Any]
    same: Mapping[str, str]
    fields: Mapping[str, Any]
    derive: Callable[[Mapping[str, Any]], Fields]
    revert: Callable[[Mapping[str, Any]], dict[str, Any]]
    heads: Mapping[str, Mapping[str, Any]]
    idle: Mapping[str, str] = field(default_factory=dict)


def problem(keys: Mapping[str, Any]) -> str | None:
    """What the classes of a config are; None where it does not say.

    Raises:
        ConfigError: a `problem_type` that is none.
    """
    stated = keys.get("problem_type")
    if stated is not None and stated not in PROBLEMS:
        raise ConfigError(f"problem_type is {stated!r}; one of {', '.join(PROBLEMS)} is known.")
    return stated


def activation(name: Any) -> str:
    """Our name of an activation.

    Raises:
        ConfigError: there is none of that name, or one with weights.
    """
    if name not in _ACTIVATIONS:
        raise ConfigError(
            f"the activation {name!r} is unknown; known are {', '.join(_ACTIVATIONS)}."
            f"{did_you_mean(str(name), _ACTIVATIONS)}"
        )
    return _ACTIVATIONS[name]


def their_activation(name: str) -> str:
    """transformers' name of one of our activations."""
    return next(theirs for theirs, ours in _ACTIVATIONS.items() if ours == name)
