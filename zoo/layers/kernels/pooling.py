"""Padded max pooling with no infinity in the graph.

Where the border counts as minus infinity, a window's maximum is that of its real places. Here the
border repeats the outermost place instead, which every window that reaches the border holds anyway.
Minus infinity as a number in the graph would stretch the range that integer quantisation divides
into 256 steps. Rows that no window reads are not made: windows of 3 with stride 2 over an even size
then copy less than a full border, and take the same time.

A gradient that reaches a copy belongs to its original: it is the one over minus infinity, also
among equal values. TensorFlow's own of the copies fills a whole map with zeros for each of them.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from zoo.layers.kernels.gradient import any_size, with_gradient


def max_pool(x, window: int, stride: int, pad: int):
    """Maxima of square windows over the places that are there.

    Args:
        x: `[n, h, w, c]`.
        pad: places outside of each side that windows reach; at most half of `window`.

    Returns:
        `[n, (h + 2 * pad - window) // stride + 1, ..., c]`.
    """
    sizes = x.shape[1:3]
    after = tuple(_read_after(size, window, stride, pad) for size in sizes)
    options: dict[str, Any] = {"window": window, "stride": stride, "before": pad, "after": after}
    if not pad or not _is_tensorflow(x):
        return _max_pool(x, **options)
    outputs = with_gradient(_differentiable, x, signature=[any_size(x, 0, 1, 2)], **options)
    new = (None if n is None else (n + 2 * pad - window) // stride + 1 for n in sizes)
    outputs.set_shape((x.shape[0], *new, x.shape[-1]))
    return outputs


def _read_after(size: int | None, window: int, stride: int, pad: int) -> int:
    """How many places behind the last one are in a window; `pad` at most."""
    if size is None:
        return pad
    start = (size + 2 * pad - window) // stride * stride - pad  # of the last window
    return max(start + window - size, 0)


def _is_tensorflow(x) -> bool:
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return tf.is_tensor(x)


def _max_pool(x, *, window: int, stride: int, before: int, after: tuple[int, int]):
    x = _bordered(x, before, after)
    return ops.max_pool(x, window, stride, "valid", "channels_last")


def _bordered(x, before: int, after: tuple[int, int]):
    for axis in (1, 2):
        first, last = (x[:, :1], x[:, -1:]) if axis == 1 else (x[:, :, :1], x[:, :, -1:])
        parts = [first] * before + [x] + [last] * after[axis - 1]
        x = ops.concatenate(parts, axis=axis) if len(parts) > 1 else x
    return x


def _differentiable(x, *, window: int, stride: int, before: int, after: tuple[int, int]):
    import tensorflow as tf

    bordered = _bordered(x, before, after)
    sizes = {"ksize": [1, window, window, 1], "strides": [1, stride, stride, 1]}
    options: dict[str, Any] = sizes | {"padding": "VALID"}
    outputs = tf.raw_ops.MaxPool(input=bordered, **options)

    def gradient(upstream):
        grads = tf.raw_ops.MaxPoolGrad(
            orig_input=bordered, orig_output=outputs, grad=upstream, **options
        )
        rows = _folded(grads, 1, before, after[0])
        return _folded(rows, 2, before, after[1])

    return outputs, gradient


def _folded(x, axis: int, before: int, after: int):
    """What the copies got goes to what they are copies of."""
    import tensorflow as tf

    size = tf.shape(x)[axis]
    if before:
        copies, rest = tf.split(x, [before + 1, size - before - 1], axis)
        x = tf.concat([tf.reduce_sum(copies, axis, keepdims=True), rest], axis)
    if after:
        rest, copies = tf.split(x, [size - before - after - 1, after + 1], axis)
        x = tf.concat([rest, tf.reduce_sum(copies, axis, keepdims=True)], axis)
    return x
