"""2-D convolution without padding: TensorFlow's own kernel where it can do the job.

`keras.ops.conv` sends every grouped convolution through XLA, which on the CPU takes about 15 times
as long as `tf.nn.conv2d`. The latter has no gradient for grouped float64 nor, on the CPU, for
dilated kernels; there `keras.ops.conv` is the plain fallback.
"""

from __future__ import annotations

import keras
from keras import ops


def conv2d(inputs, kernel, *, strides: int, padding: str, dilation: int):
    """Convolve `[n, h, w, c]` with a kernel `[kh, kw, c / groups, filters]`.

    Args:
        padding: `valid`, or `same` for stride 1 alone.

    Returns:
        `[n, h', w', filters]` in the inputs' dtype.
    """
    grouped = inputs.shape[-1] != kernel.shape[-2]
    if keras.backend.backend() == "tensorflow" and _has_kernel(inputs.dtype, grouped, dilation):
        import tensorflow as tf

        kernel = tf.cast(tf.convert_to_tensor(kernel), inputs.dtype)
        return tf.nn.conv2d(inputs, kernel, strides=strides, padding=padding.upper())
    # Keras takes no dilation beside a stride: the strided result is every n-th of the dense one
    dense = dilation > 1 and strides > 1
    outputs = ops.conv(
        inputs,
        kernel,
        strides=1 if dense else strides,
        padding=padding,
        dilation_rate=dilation,
        data_format="channels_last",
    )
    return outputs[:, ::strides, ::strides] if dense else outputs


def _has_kernel(dtype, grouped: bool, dilation: int) -> bool:
    name = keras.backend.standardize_dtype(dtype)
    return dilation == 1 and not (grouped and name == "float64")
