"""Losses and metrics for models that give logits.

What expects probabilities, as Keras's do by default, would compute nonsense of logits without a
word: it is refused. A loss or metric of a caller's own is taken as it is.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
from keras.losses import Loss
from keras.metrics import Metric

from zoo.errors import OptionError
from zoo.tasks.base import Task

# Functions of Keras that take `from_logits`, and the class of each.
_WITH_LOGITS = {
    "binary_crossentropy": "BinaryCrossentropy",
    "binary_focal_crossentropy": "BinaryFocalCrossentropy",
    "categorical_crossentropy": "CategoricalCrossentropy",
    "categorical_focal_crossentropy": "CategoricalFocalCrossentropy",
    "sparse_categorical_crossentropy": "SparseCategoricalCrossentropy",
}
# Those that have no form for logits, and what they expect.
_WITHOUT = {
    "categorical_generalized_cross_entropy": "probabilities",
    "dice": "probabilities",
    "kl_divergence": "probabilities",
    "poisson": "positive rates",
    "tversky": "probabilities",
}
# Those that compare classes with each other: of one class alone they say the same, whatever it is.
_OF_SEVERAL = {
    *("categorical_crossentropy", "categorical_focal_crossentropy"),
    *("sparse_categorical_crossentropy", "categorical_accuracy", "sparse_categorical_accuracy"),
}
_ACCURACY = ("accuracy", "acc")  # which Keras takes for one metric or another by the shapes


def checked_loss(loss: Any, task: Task) -> Any:
    """A loss for `compile`, of any form that Keras takes, or a structure of them.

    Raises:
        OptionError: one that expects probabilities, or several classes where there is one.
    """
    for one in _leaves(loss):
        if one in ("crossentropy", "ce"):
            raise _expects_probabilities("loss", "Crossentropy by its name", "")
        _check(_resolved(one, keras.losses.get), "loss", task)
    return loss


def checked_metrics(metrics: Any, task: Task) -> Any:
    """Metrics for `compile`, where `accuracy` is the one that suits the task.

    Raises:
        OptionError: one that expects probabilities, or several classes where there is one.
    """
    if isinstance(metrics, Mapping) and not _is_config(metrics):
        return {name: checked_metrics(one, task) for name, one in metrics.items()}
    if isinstance(metrics, list | tuple):
        return [checked_metrics(one, task) for one in metrics]
    if isinstance(metrics, str) and metrics.lower() in _ACCURACY:
        return task.accuracy(metrics) or metrics
    metric = _resolved(metrics, keras.metrics.get)
    _check(metric, "metric", task)
    if (threshold := _threshold(metric)) is not None:
        raise OptionError(
            f"The metric {type(metric).__name__} tells classes apart at {threshold}, as of "
            "probabilities, and zoo's models give logits, where a probability of 0.5 is 0. "
            f"{_ADVICE.get(type(metric).__name__, 'Take one that takes logits.')}"
        )
    return metrics


def _leaves(structure: Any) -> Iterator[Any]:
    """The single losses of lists, tuples and mappings in each other."""
    if isinstance(structure, Mapping) and not _is_config(structure):
        structure = list(structure.values())
    if isinstance(structure, list | tuple):
        for part in structure:
            yield from _leaves(part)
    elif structure is not None:
        yield structure


def _is_config(mapping: Mapping[Any, Any]) -> bool:
    """Whether a mapping is an object in Keras's serialised form."""
    return {"class_name", "config"} <= set(mapping)


def _resolved(given: Any, get: Callable[[Any], Any]) -> Any:
    """The object that a name, a class or a serialised form stands for."""
    if not (isinstance(given, str | Mapping) or inspect.isclass(given)):
        return given
    try:
        return get(given)
    except (TypeError, ValueError):  # Keras says what is wrong with it
        return given


# ---------------------------------------------------------------- what they expect


def _check(given: Any, kind: str, task: Task) -> None:
    function, options = _function_of(given)
    own = getattr(function, "__module__", None) or ""
    name = getattr(function, "__name__", "") if own.startswith("keras.") else ""
    if name in _WITH_LOGITS and not options.get("from_logits", False):
        raise _expects_probabilities(kind, _WITH_LOGITS[name], _WITH_LOGITS[name])
    if name in _WITHOUT:
        raise OptionError(
            f"The {kind} {name} expects {_WITHOUT[name]}, and zoo's models give logits; it has no "
            "form that takes them. Write a function that makes them first, such as "
            f"lambda y, logits: keras.losses.{name}(y, keras.ops.softmax(logits))."
        )
    if name in _OF_SEVERAL and _width(task) == 1:
        raise OptionError(
            f"The {kind} {name} compares classes, and {task.model.name!r} has one, for which it is "
            "always the same. Take a binary one, such as keras.losses.BinaryCrossentropy("
            "from_logits=True) or keras.metrics.BinaryAccuracy(threshold=0.0)."
        )


def _expects_probabilities(kind: str, name: str, advised: str) -> OptionError:
    module = "losses" if kind == "loss" else "metrics"
    instead = f"keras.{module}.{advised}(from_logits=True)" if advised else "one by its class"
    return OptionError(
        f"The {kind} {name} without from_logits=True expects probabilities, and zoo's models give "
        f"logits. Pass {instead}, or no {kind} at all."
    )


def _function_of(given: Any) -> tuple[Any, dict[str, Any]]:
    """The function that a loss or metric computes, and its options; None for one of a caller's own,
    which may make probabilities first."""
    options: dict[str, Any] = {}
    while True:
        if isinstance(given, functools.partial):
            given, options = given.func, {**given.keywords, **options}
        elif isinstance(given, Loss | Metric):
            if not _computes_as_keras(given):
                return None, {}
            options = {**getattr(given, "_fn_kwargs", {}), **options}
            given = getattr(given, "fn", None) or getattr(given, "_fn", None)
        else:
            return given, options


def _computes_as_keras(given: Loss | Metric) -> bool:
    """Whether a loss or metric, perhaps of a subclass, computes what Keras's class does."""
    method = "call" if isinstance(given, Loss) else "update_state"
    owner = next(kind for kind in type(given).__mro__ if method in vars(kind))
    return owner.__module__.startswith("keras.")


def _threshold(metric: Any) -> Any:
    """Where a metric of Keras parts what is a class from what is not; None for logits."""
    function, options = _function_of(metric)
    if function is keras.metrics.binary_accuracy:
        return options.get("threshold", 0.5) or None
    if not isinstance(metric, Metric) or not _computes_as_keras(metric):
        return None
    if isinstance(metric, keras.metrics.AUC):
        return None if metric._from_logits else "thresholds from 0 to 1"
    found = getattr(metric, "thresholds", getattr(metric, "threshold", None))
    return next((t for t in keras.tree.flatten(found) if t is not None and t > 0), None)


_ADVICE = {
    "AUC": "Pass keras.metrics.AUC(from_logits=True).",
    "BinaryAccuracy": "Pass keras.metrics.BinaryAccuracy(threshold=0.0).",
    "BinaryIoU": "Pass keras.metrics.BinaryIoU(threshold=0.0).",
    "Precision": "Pass keras.metrics.Precision(thresholds=0).",
    "Recall": "Pass keras.metrics.Recall(thresholds=0).",
}


def _width(task: Task) -> int | None:
    """Logits of the model, if it has one output."""
    output = task.model.outputs
    return output[0].shape[-1] if len(output) == 1 else None
