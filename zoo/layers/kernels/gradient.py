"""Gradients of a kernel's own, in a graph that all calls share.

`tf.custom_gradient` has two faults in a graph. It puts a closure into a registry that lives as long
as the process; the closure holds tensors, these their graph, and that the variables of the model: a
model that has run in a graph is never freed. And where the call stands in a branch of `tf.cond`,
the tensors that the closure holds are not the branch's own, which TensorFlow cannot follow when the
gradient is taken outside of the graph, or when the graph was read from a SavedModel.

Both are gone where the call is a function of tensors alone, with a graph of its own: the registry
then holds small graphs without weights, one for each kind of call, and what the gradient needs is
passed from the one function to the other as TensorFlow passes it for any `tf.function`. All layers
with the same kind of call share it, so that it is traced once.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

_PORTABLE: ContextVar[bool] = ContextVar("portable", default=False)


def with_gradient(
    function: Callable[..., Any],
    *tensors: Any,
    signature: Sequence[Any] | None = None,
    xla: bool | None = None,
    **options: Any,
) -> Any:
    """`function(*tensors, **options)`, differentiated as it says.

    Args:
        function: gives its outputs and, as `tf.custom_gradient` wants it, what turns the gradients
            of these into those of `tensors`. It stands at the top of a module and reads no tensor
            but its arguments.
        tensors: of any dtype; not variables.
        signature: what the shared graph is to know of each tensor's shape (`any_size`); all that
            is known here by default. The fewer it knows, the fewer graphs there are.
        xla: whether XLA will compile it; looked up if None.
        options: hashable, part of what a graph is made for.

    Returns:
        The outputs. Sizes that `signature` leaves open are unknown in their static shapes.
    """
    import tensorflow as tf

    if tf.executing_eagerly():
        return _custom(function, options)(*tensors)
    if signature is None:
        signature = [any_size(x) for x in tensors]
    xla = in_xla() if xla is None else xla
    key = (tuple(sorted(options.items())), tuple(signature), xla, _PORTABLE.get())
    return _shared(function, *key)(*tensors)


def compiled(function: Any, *arguments: Any, alone: bool) -> Any:
    """`function(*arguments)`, compiled by XLA once for all graphs, with no gradient.

    No tape looks inside: behind `tf.stop_gradient`, a second one would still ask what is there for
    its gradient.

    Args:
        function: a `tf.function` of `jit_compile=True`.
        arguments: tensors, and lists of them; of `with_gradient`'s function, or made of these.
        alone: whether no other call could run at the same time. `XlaLaunch` counts as an operation
            with a state, and TensorFlow runs such ones one after another.
    """
    import tensorflow as tf

    flat = tf.nest.flatten(arguments)
    here = not alone or tf.executing_eagerly() or in_xla() or _PORTABLE.get()
    launch = function if here else functools.partial(_launch, function)

    def call(*tensors):
        fixed = [tf.stop_gradient(x) for x in tensors]  # an eager tape does look
        outputs = launch(*tf.nest.pack_sequence_as(arguments, fixed))
        return outputs, lambda *_: [None] * len(tensors)

    return tf.custom_gradient(call)(*flat)


def _launch(function, *arguments):
    """The call by the operation that runs a program of XLA's, `XlaLaunch`.

    For an ordinary call, TensorFlow copies the function once more for each graph around it, with
    all that this graph calls, and never frees that.
    """
    import tensorflow as tf

    specs = tf.nest.map_structure(any_size, arguments)
    concrete = function.get_concrete_function(*specs)
    graph = tf.compat.v1.get_default_graph()
    concrete.add_to_graph(graph)
    inputs, results = tf.nest.flatten(arguments), tf.nest.flatten(concrete.structured_outputs)
    name = tf.compat.v1.NameAttrList(name=concrete.name)
    attributes = {
        "function": tf.compat.v1.AttrValue(func=name),
        "Nresources": tf.compat.v1.AttrValue(i=0),
        "Tconstants": _types(),
        "Targs": _types(*inputs),
        "Tresults": _types(*results),
    }
    operation = graph.create_op(
        "XlaLaunch", inputs, [x.dtype for x in results], attrs=attributes, name=function.__name__
    )
    for output, like in zip(operation.outputs, results, strict=True):
        output.set_shape(like.shape)
    return tf.nest.pack_sequence_as(concrete.structured_outputs, operation.outputs)


def _types(*tensors):
    import tensorflow as tf

    kinds = [x.dtype.as_datatype_enum for x in tensors]
    return tf.compat.v1.AttrValue(list=tf.compat.v1.AttrValue.ListValue(type=kinds))


@contextlib.contextmanager
def portable() -> Iterator[None]:
    """What is traced within runs elsewhere too: under XLA, or where only its calls are known."""
    token = _PORTABLE.set(True)
    try:
        yield
    finally:
        _PORTABLE.reset(token)


def any_size(x: Any, *axes: int) -> Any:
    """The `tf.TensorSpec` of a tensor, with any size along `axes`."""
    import tensorflow as tf

    if x.shape.rank is None:
        return tf.TensorSpec(None, x.dtype)
    free = {axis % x.shape.rank for axis in axes}
    return tf.TensorSpec([None if i in free else n for i, n in enumerate(x.shape)], x.dtype)


def in_xla() -> bool:
    """Whether what is traced now is for XLA to compile, which refuses some operations."""
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util  # no public name tells this

    graph = tf.compat.v1.get_default_graph()
    return not tf.executing_eagerly() and control_flow_util.GraphOrParentsInXlaContext(graph)


@functools.cache
def _shared(function, options, signature, xla: bool, portable: bool):
    """One for XLA has to say so, or its control flow would not be made for it; one that is to be
    `portable` is traced as such."""
    import tensorflow as tf

    return tf.function(
        _custom(function, dict(options)),
        input_signature=signature,
        autograph=False,
        jit_compile=True if xla else None,
    )


def _custom(function, options):
    import tensorflow as tf

    def call(*tensors):
        return function(*tensors, **options)

    call.__name__ = function.__name__
    return tf.custom_gradient(call)
