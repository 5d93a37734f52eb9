"""The GELU by erf, with a gradient of its own.

TensorFlow's gradient of the formula reads and writes some fifteen tensors of the input's size, and
keeps four of them from the way forward; this one takes half of the time on a CPU core, and keeps
two. The way forward is the formula as it stands, which TensorFlow's graph optimiser knows.
"""

from __future__ import annotations

import keras
from keras import ops

_ROOT_HALF = 0.7071067811865476
_DENSITY = 1.1283791670955126  # 2 / sqrt(pi)


def gelu(x):
    """x times the normal distribution function; any shape, kept."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if tf.is_tensor(x):
            return _gelu(x)
    return x * 0.5 * (1 + ops.erf(x * _ROOT_HALF))


def _gelu(x):
    import tensorflow as tf

    @tf.custom_gradient
    def apply(x):
        scaled = x * _ROOT_HALF
        twice = 1 + tf.math.erf(scaled)

        def gradient(upstream):
            # twice the derivative: 2 * cdf(x) + 2 * x * pdf(x)
            slope = twice + scaled * tf.exp(-tf.square(scaled)) * _DENSITY
            return upstream * slope * 0.5

        return x * 0.5 * twice, gradient

    return apply(x)
