"""2-D convolution without padding: TensorFlow's own kernel where it can do the job.

`keras.ops.conv` sends every grouped convolution through XLA, which on the CPU takes about 15 times
as long as `tf.nn.conv2d`. The latter has no gradient for grouped float64 nor, on the CPU, for
dilated kernels; there `keras.ops.conv` is the plain fallback. On processors that oneDNN does not
know it has no gradient for grouped float32 either; there the fallback gives the gradient alone.
"""

from __future__ import annotations

import functools

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
        options = {"strides": strides, "padding": padding.upper()}
        if grouped and not _has_grouped_gradient():
            return _conv2d_forward(inputs, kernel, options)
        return tf.nn.conv2d(inputs, kernel, **options)
    return _conv_plain(inputs, kernel, strides, padding, dilation)


def _conv_plain(inputs, kernel, strides: int, padding: str, dilation: int = 1):
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


def _conv2d_forward(inputs, kernel, options: dict):
    """TensorFlow's kernel, with the plain fallback's gradient."""
    import tensorflow as tf

    @tf.custom_gradient
    def apply(inputs, kernel):
        def gradient(upstream):
            with tf.GradientTape() as tape:
                tape.watch((inputs, kernel))
                plain = _conv_plain(inputs, kernel, options["strides"], options["padding"].lower())
            return tape.gradient(plain, (inputs, kernel), upstream)

        return tf.nn.conv2d(inputs, kernel, **options), gradient

    return apply(inputs, kernel)


@functools.cache
def _has_grouped_gradient() -> bool:
    """Whether TensorFlow computes it on this machine, which depends on the processor."""
    import tensorflow as tf

    with tf.init_scope():
        images, kernel = tf.zeros((1, 2, 2, 4)), tf.zeros((1, 1, 2, 4))
        try:
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=images.shape,
                filter=kernel,
                out_backprop=images,
                strides=[1] * 4,
                padding="VALID",
            )
        except tf.errors.InvalidArgumentError:
            return False
    return True


def _has_kernel(dtype, grouped: bool, dilation: int) -> bool:
    name = keras.backend.standardize_dtype(dtype)
    return dilation == 1 and not (grouped and name == "float64")
