"""One step of Adam for one weight: TensorFlow's own kernel, which does it in a single pass.

The plain operations read and write the weight, its moments and its gradient some twenty times,
which takes 4 to 8 times as long on two CPU cores.
"""

from __future__ import annotations

import keras
from keras import ops


def adam_step(weight, m, v, gradient, *, size, epsilon, beta_1: float, beta_2: float) -> None:
    """Move both moments towards the gradient, then the weight by `size * m / (sqrt(v) + epsilon)`.

    Args:
        weight, m, v: variables of one shape; with TensorFlow, the weight is the `tf.Variable`.
        gradient: of the weight; with TensorFlow, perhaps sparse. Moments of rows with no gradient
            decay all the same.
        size, epsilon: scalar tensors of any dtype.
    """
    if keras.backend.backend() != "tensorflow" or _is_distributed():
        return _plain(weight, m, v, gradient, size, epsilon, beta_1, beta_2)
    import tensorflow as tf

    # no bias correction: the powers of the betas are those of no step
    tf.raw_ops.ResourceApplyAdam(
        var=weight.handle,
        m=m.value.handle,
        v=v.value.handle,
        beta1_power=tf.zeros((), weight.dtype),
        beta2_power=tf.zeros((), weight.dtype),
        lr=tf.cast(size, weight.dtype),
        beta1=tf.constant(beta_1, weight.dtype),
        beta2=tf.constant(beta_2, weight.dtype),
        epsilon=tf.cast(epsilon, weight.dtype),
        grad=tf.cast(tf.convert_to_tensor(gradient), weight.dtype),
    )
    return None


def _is_distributed() -> bool:
    """Whether variables are several, one for each device, of which a raw operation knows one."""
    import tensorflow as tf

    return tf.distribute.has_strategy()


def _plain(weight, m, v, gradient, size, epsilon, beta_1, beta_2) -> None:
    gradient = ops.cast(gradient, weight.dtype)
    m.assign(m + (gradient - m) * (1 - beta_1))
    v.assign(v + (ops.square(gradient) - v) * (1 - beta_2))
    size, epsilon = (ops.cast(x, weight.dtype) for x in (size, epsilon))
    weight.assign(weight - m * size / (ops.sqrt(v) + epsilon))
