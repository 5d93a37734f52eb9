"""Building a model with no random initialisation. All private Keras API of zoo is in this module.

Keras can create variables without values inside a `StatelessScope`; it lists them globally and
initialises them later. Here that list is always emptied, each value's shape is checked (Keras does
not), and whatever got no value is initialised as Keras would have done it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import keras
import numpy as np
from keras.src.backend.common import global_state

_PENDING = "uninitialized_variables"


@contextmanager
def dtype_scope(policy: keras.DTypePolicy) -> Iterator[None]:
    """Layers made in the scope, in this thread, take `policy`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def build_uninitialized(build: Callable[[], keras.Model]) -> keras.Model:
    """Call `build`, with no variable given a value; `initialize` must follow."""
    before = list(global_state.get_global_attribute(_PENDING) or [])
    try:
        with keras.StatelessScope(initialize_variables=False):
            return build()
    finally:
        global_state.set_global_attribute(_PENDING, before)


def named_weights(model: keras.Model) -> dict[str, keras.Variable]:
    """The model's weights by their place in the layer tree: `layer1.0.conv1.kernel`.

    `Variable.path` is not used: it depends on what else was built in the process.
    """
    names: dict[str, keras.Variable] = {}

    def walk(layer: keras.layers.Layer, prefix: str) -> None:
        for variable in layer._trainable_variables + layer._non_trainable_variables:
            name = prefix + variable.name
            if names.setdefault(name, variable) is not variable:
                raise ValueError(f"Two weights are named {name!r}.")
        for child in layer._layers:
            walk(child, f"{prefix}{child.name}.")

    for layer in model.layers:
        walk(layer, f"{layer.name}.")
    return names


def initialize(model: keras.Model, values: Mapping[str, np.ndarray]) -> None:
    """Give the variables of a model from `build_uninitialized` their first values.

    Args:
        values: arrays by weight name, perhaps views of a read-only file: each is copied once.
            Weights that are not named, and random seeds, get their own initialiser's value.

    Raises:
        ValueError: an array of another shape, or for a name that the model does not have.
    """
    weights = named_weights(model)
    if unknown := set(values) - set(weights):
        raise ValueError(f"The model has no weight named {', '.join(sorted(unknown))}.")
    for name, array in values.items():
        variable = weights[name]
        if tuple(array.shape) != tuple(variable.shape):
            raise ValueError(f"{name}: value {array.shape}, variable {tuple(variable.shape)}.")
        variable._initialize(_tensor(array, variable.dtype))
        variable._initializer = None
    for variable in model.variables:
        if variable._value is None:
            variable._deferred_initialize()


def _tensor(array: np.ndarray, dtype: str):
    """A back-end tensor of `array`; the back end permutes a permuted view, which is faster."""
    order = np.argsort([-stride for stride in array.strides], kind="stable")
    base = np.transpose(array, order)
    if array.flags.c_contiguous or not base.flags.c_contiguous:
        return keras.ops.convert_to_tensor(array, dtype=dtype)
    tensor = keras.ops.cast(keras.ops.convert_to_tensor(base), dtype)
    return keras.ops.transpose(tensor, np.argsort(order).tolist())
