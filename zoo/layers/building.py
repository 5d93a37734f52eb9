"""Building a model with no random initialisation, and keeping what is frozen in it.

All private Keras API of zoo is in this module, but for what `zoo/_keras_hook.py` hooks into.

Keras can create variables without values inside a `StatelessScope`; it lists them globally and
initialises them later. Here that list is always emptied, each value's shape is checked (Keras does
not), and whatever got no value is initialised as Keras would have done it.

Keras's config of a layer says whether the layer itself is trainable; the layers inside of it are
made anew, all trainable. `KeepsTrainable` has the config say it of them too.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import keras
import numpy as np
from keras.src.backend.common import global_state

from zoo.errors import ConfigError
from zoo.weights.mapping import Joined

_T = TypeVar("_T")
_PENDING = "uninitialized_variables"
_MOST_ELEMENTS = 1 << 36  # of a network: 256 GB in float32
_LARGE = 1 << 16  # bytes
_ALIGNMENT = 64  # bytes, of memory that TensorFlow takes as it is


@contextmanager
def dtype_scope(policy: keras.DTypePolicy) -> Iterator[None]:
    """Layers made in the scope, in this thread, take `policy`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class _Bounded(list):
    """The variables of a network that is being built, of which there can be no more than that."""

    def __init__(self, items: list, most: int) -> None:
        super().__init__(items)
        self._most = len(items) + most
        self._elements = 0

    def append(self, variable: keras.Variable) -> None:
        self._elements += math.prod(variable.shape)
        if len(self) >= self._most:
            raise ConfigError(f"it has more weights than {self._most}, with their buffers.")
        if self._elements > _MOST_ELEMENTS:
            raise ConfigError(f"its weights have more than {_MOST_ELEMENTS} elements.")
        super().append(variable)


def build_uninitialized(build: Callable[[], _T], *, most: int = 1 << 17) -> _T:
    """Call `build`, with no variable given a value: what it gives. `initialize` must follow.

    Args:
        most: the number of variables that the network can have. Each takes time to make, so that a
            config must not ask for any number of them.

    Raises:
        ConfigError: more variables than that, or more elements than fit into memory.
    """
    before = list(global_state.get_global_attribute(_PENDING) or [])
    try:
        global_state.set_global_attribute(_PENDING, _Bounded(before, most))
        with keras.StatelessScope(initialize_variables=False):
            return build()
    finally:
        global_state.set_global_attribute(_PENDING, before)


def named_weights(model: keras.Model) -> dict[str, keras.Variable]:
    """The model's weights by their place in the layer tree: `layer1.0.conv1.kernel`.

    `Variable.path` is not used: it depends on what else was built in the process.
    """
    return _named(model, lambda layer: layer._trainable_variables + layer._non_trainable_variables)


def learned_weights(model: keras.Model) -> dict[str, keras.Variable]:
    """The weights of the layers that can learn, running statistics too; no fixed tables."""
    return _named(
        model,
        lambda layer: (
            layer._trainable_variables
            and layer._trainable_variables + layer._non_trainable_variables
        ),
    )


def parameters(model: keras.Model) -> dict[str, keras.Variable]:
    """The weights that training changes by their gradients, frozen or not."""
    return _named(model, lambda layer: layer._trainable_variables)


def _named(
    model: keras.Model, own: Callable[[keras.layers.Layer], list[keras.Variable]]
) -> dict[str, keras.Variable]:
    """The weights that `own` gives for each layer."""
    names: dict[str, keras.Variable] = {}

    def walk(layer: keras.layers.Layer, prefix: str) -> None:
        for variable in own(layer):
            name = prefix + variable.name
            if names.setdefault(name, variable) is not variable:
                raise ValueError(f"Two weights are named {name!r}.")
        for child in layer._layers:
            walk(child, f"{prefix}{child.name}.")

    for layer in model.layers:
        walk(layer, f"{layer.name}.")
    return names


def run_through(model: keras.Model, inputs: Sequence[Any], call: Callable[..., Any]) -> Any:
    """The outputs of a model's graph for other tensors than its own, or none, in their order.

    Args:
        call: calls each layer with what the graph has for it: `call(layer, *args, **kwargs)`.
    """
    return model._run_through_graph(inputs, call_fn=call)


# ---------------------------------------------------------------- what is frozen


def trainable_inside(layer: keras.layers.Layer) -> dict[str, bool]:
    """Where layers and weights inside of a layer are trainable otherwise than what holds them.

    Returns:
        Path from the layer, as in `attn/qkv/kernel`, to whether it is trainable.
    """
    differing: dict[str, bool] = {}

    def walk(holder: keras.layers.Layer, prefix: str) -> None:
        for part in (*holder._trainable_variables, *holder._layers):
            if part.trainable != holder.trainable:
                differing[prefix + part.name] = part.trainable
        for child in holder._layers:
            walk(child, f"{prefix}{child.name}/")

    walk(layer, "")
    return differing


def set_trainable(layer: keras.layers.Layer, value: bool, inside: Mapping[str, bool]) -> None:
    """Make a layer trainable or not, and all inside of it but for what `trainable_inside` gave.

    Args:
        inside: paths that the layer does not have are passed over.
    """

    def walk(holder: keras.layers.Layer, prefix: str) -> None:
        for part in (*holder._trainable_variables, *holder._layers):
            part.trainable = inside.get(prefix + part.name, holder.trainable)
        for child in holder._layers:
            walk(child, f"{prefix}{child.name}/")

    layer.trainable = value
    walk(layer, "")


class KeepsTrainable(keras.layers.Layer):
    """A layer whose config says what is frozen inside of it.

    Layers made inside of a frozen one are frozen.
    """

    _inside: Mapping[str, bool] | None = None  # from the config, until the layer is built

    def get_config(self) -> dict[str, Any]:
        inside = trainable_inside(self) if self._inside is None else self._inside
        stated = inside or self._layers or self._inside is not None
        return super().get_config() | ({"trainable_inside": dict(inside)} if stated else {})

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        own = {key: value for key, value in config.items() if key != "trainable_inside"}
        layer = super().from_config(own)
        object.__setattr__(layer, "_inside", config.get("trainable_inside"))  # not to be tracked
        return layer

    @keras.layers.Layer.trainable.setter
    def trainable(self, value: bool) -> None:
        keras.layers.Layer.trainable.fset(self, value)
        object.__setattr__(self, "_inside", None)

    def _post_build(self) -> None:
        super()._post_build()
        if self._inside is not None or not self.trainable:
            set_trainable(self, self.trainable, self._inside or {})


# ---------------------------------------------------------------- first values


def initialize(
    model: keras.Model,
    values: Mapping[str, np.ndarray],
    release: Callable[[], None] = lambda: None,
) -> None:
    """Give the variables of a model from `build_uninitialized` their first values.

    Args:
        values: arrays by weight name, perhaps views of a read-only file: each is copied once.
            Weights that are not named, and random seeds, get their own initialiser's value.
        release: called after each large array, which is not read again.

    Raises:
        ValueError: an array of another shape, or for a name that the model does not have.
    """
    weights = named_weights(model)
    if unknown := set(values) - set(weights):
        raise ValueError(f"The model has no weight named {', '.join(sorted(unknown))}.")
    for name, array in values.items():
        if tuple(array.shape) != tuple(weights[name].shape):
            found, expected = array.shape, tuple(weights[name].shape)
            raise ValueError(f"{name}: value {found}, variable {expected}.")
    for name, tensor in _tensors(values, weights, release):
        weights[name]._initialize(tensor)
        weights[name]._initializer = None
    for variable in model.variables:
        if variable._value is None:
            variable._deferred_initialize()


def _tensors(
    values: Mapping[str, np.ndarray],
    weights: Mapping[str, keras.Variable],
    release: Callable[[], None],
) -> Iterator[tuple[str, Any]]:
    """Each value as a back-end tensor.

    Large ones are made on other threads: reading and permuting them takes as long as it takes to
    make the variables, and both can be done at once.
    """
    staging = threading.local()

    def large(name: str) -> Any:
        tensor = _tensor(values[name], weights[name].dtype, staging)
        release()
        return tensor

    with ThreadPoolExecutor(max_workers=2) as pool:
        waiting = {n: pool.submit(large, n) for n, a in values.items() if a.nbytes >= _LARGE}
        for name, array in values.items():
            if name in waiting:
                yield name, waiting.pop(name).result()
            else:
                yield name, _tensor(array, weights[name].dtype)


def _tensor(array: np.ndarray, dtype: str, staging: Any = None) -> Any:
    """A back-end tensor of `array`; the back end permutes a permuted view, which is faster.

    Args:
        staging: holds memory of this thread to read into.
    """
    if isinstance(array, Joined):
        parts = [_tensor(part, dtype, staging) for part in array.parts]
        return keras.ops.concatenate(parts, axis=-1)
    if array.flags.c_contiguous:
        return keras.ops.convert_to_tensor(array, dtype=dtype)
    order = np.argsort([-stride for stride in array.strides], kind="stable")
    base, back = np.transpose(array, order), np.argsort(order)
    if not base.flags.c_contiguous:
        return keras.ops.convert_to_tensor(array, dtype=dtype)
    if staging is not None and base.dtype.name == dtype and _is_tensorflow():
        return _permuted(base, back, staging)
    tensor = keras.ops.cast(keras.ops.convert_to_tensor(base), dtype)
    return keras.ops.transpose(tensor, back.tolist())


def _is_tensorflow() -> bool:
    return keras.backend.backend() == "tensorflow"


def _permuted(base: np.ndarray, axes: np.ndarray, staging: Any) -> Any:
    """`base` with its axes permuted, read into memory that serves all arrays of a thread.

    TensorFlow reads aligned memory where it lies, and would copy the file's views into memory of
    their own first, twice, with Python's lock held: half of the time of a load. The result is a
    new tensor: operations on the CPU are done when they return.
    """
    import tensorflow as tf

    size = base.nbytes + _ALIGNMENT
    if getattr(staging, "memory", np.empty(0)).nbytes < size:
        staging.memory = np.empty(size, np.uint8)
    start = -staging.memory.ctypes.data % _ALIGNMENT
    aligned = staging.memory[start : start + base.nbytes].view(base.dtype).reshape(base.shape)
    np.copyto(aligned, base)
    with tf.device("CPU"):
        return tf.raw_ops.Transpose(x=aligned, perm=axes.astype(np.int32))
