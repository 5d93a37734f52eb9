"""Models as compiled graphs: what runs often is traced once, and kept as long as its model."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import Any

import keras

# Not attributes of the models: Keras would track and export them.
_GRAPHS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def remembered(model: keras.Model, key: Hashable, make: Callable[[], Any]) -> Any:
    """What `make` gave for a model when it was first asked for.

    It must not hold the model, which it would keep alive; parts of its graph are no harm.
    """
    graphs = _GRAPHS.setdefault(model, {})
    if key not in graphs:
        graphs[key] = make()
    return graphs[key]


def compiled(model: keras.Model, outputs: Any = None, key: str = "outputs") -> Any:
    """The model's inference pass as one remembered graph function of a batch of any size.

    With `model.jit_verbs`, XLA compiles it for each shape.

    Args:
        outputs: symbolic tensors of the model to compute instead of its outputs, or what makes
            them, which is called once.
        key: what to remember them under.
    """
    jit = wants_jit(model)

    def make() -> Any:
        return _forward(model, outputs() if callable(outputs) else outputs, jit)

    return remembered(model, (key, jit), make)


def wants_jit(model: keras.Model) -> bool:
    """Whether the verbs of a model run under XLA; a plain Keras model's do not."""
    return getattr(model, "jit_verbs", False)


def graph_function(
    function: Callable[..., Any], *, jit: bool = False, signature: Any = None
) -> Any:
    """A graph that serves all shapes, or one for each, which XLA compiles.

    Args:
        signature: TensorFlow's specs of the arguments, where the first call's shapes say too much.
    """
    import tensorflow as tf

    # no layer leaves Python's `if` to autograph, which would take half of the time of a first call
    return tf.function(
        function,
        input_signature=signature,
        reduce_retracing=not jit,
        jit_compile=jit,
        autograph=False,
    )


def _forward(model: keras.Model, outputs: Any, jit: bool) -> Any:
    instead = keras.Model(model.input, outputs) if outputs is not None else None
    reference = weakref.ref(model)

    def forward(*inputs):
        target: Any = instead if instead is not None else reference()
        return target(inputs[0] if len(inputs) == 1 else list(inputs), training=False)

    if not isinstance(model.input, dict):
        return graph_function(forward, jit=jit)
    names = tuple(model.input)  # of which a batch may leave some out

    def forward_named(inputs):
        return forward({name: inputs.get(name) for name in names})

    return graph_function(forward_named, jit=jit)
