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

from zoo.layers.kernels.gradient import any_size, with_gradient


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
        gradient = _own_gradient(inputs, kernel, grouped)
        return _conv2d(inputs, kernel, options, gradient)
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


def _own_gradient(inputs, kernel, grouped: bool):
    """What gives the gradient in place of TensorFlow's own; None where that does it well."""
    if _has_grouped_gradient():  # also the sign of oneDNN or a GPU, whose gradients are fast
        return None
    if grouped:
        return _plain_gradient
    return _matrix_gradient if inputs.dtype == "float32" else None


def _conv2d(inputs, kernel, options: dict, gradient):
    """TensorFlow's kernel with its own gradient, or another."""
    import tensorflow as tf

    if gradient is None:
        return tf.nn.conv2d(inputs, kernel, **options)
    return with_gradient(
        _convolve,
        inputs,
        kernel,
        signature=[any_size(inputs, 0), any_size(kernel)],
        gradient=gradient,
        **options,
    )


def _convolve(inputs, kernel, *, gradient, **options):
    import tensorflow as tf

    backward = functools.partial(gradient, inputs, kernel, options)
    return tf.nn.conv2d(inputs, kernel, **options), backward


def _plain_gradient(inputs, kernel, options: dict, upstream):
    """The plain fallback's."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch((inputs, kernel))
        plain = _conv_plain(inputs, kernel, options["strides"], options["padding"].lower())
    return tape.gradient(plain, (inputs, kernel), upstream)


# Maps of at most so many places are small, kernels of at least so many numbers large.
_SMALL, _LARGE = 100, 1 << 19


def _matrix_gradient(inputs, kernel, options: dict, upstream):
    """By matrix products, where TensorFlow's kernels without oneDNN take several times as long.

    Of 8 maps with 512 channels and more, of 7 x 7 places, one core does 12 GFLOP/s in its kernel
    for the gradient of the inputs and 25 to 60 so. From 14 x 14 places on a product is as fast for
    kernels of 1 x 1, and slower for others.
    """
    import tensorflow as tf

    kh, kw, channels, filters = kernel.shape
    if (kh, kw, options["strides"]) == (1, 1, 1):
        x, dy = tf.reshape(inputs, (-1, channels)), tf.reshape(upstream, (-1, filters))
        d_inputs = tf.reshape(tf.matmul(dy, kernel[0, 0], transpose_b=True), tf.shape(inputs))
        return d_inputs, tf.matmul(x, dy, transpose_a=True)[None, None]
    given = {"out_backprop": upstream, "padding": options["padding"]}
    given |= {"strides": [1, options["strides"], options["strides"], 1]}
    d_kernel = tf.raw_ops.Conv2DBackpropFilter(input=inputs, filter_sizes=kernel.shape, **given)
    height, width = upstream.shape[1:3]
    small = None not in (height, width) and height * width <= _SMALL
    if small and kernel.shape.num_elements() >= _LARGE:
        return _from_columns(inputs, kernel, options, upstream), d_kernel
    sizes = tf.shape(inputs)
    return tf.raw_ops.Conv2DBackpropInput(input_sizes=sizes, filter=kernel, **given), d_kernel


def _from_columns(inputs, kernel, options: dict, upstream):
    """The gradient of the inputs: what each place of the kernel gives them, added up."""
    import tensorflow as tf

    (kh, kw, channels, filters), stride = kernel.shape, options["strides"]
    n, h, w, _ = tf.unstack(tf.shape(inputs))
    places = (tf.reshape(x, (-1, filters)) for x in (upstream, kernel))
    columns = tf.matmul(*places, transpose_b=True)
    _, height, width, _ = upstream.shape
    columns = tf.reshape(columns, (n, height, width, kh * kw, channels))
    top, left = ((k - 1) // 2 if options["padding"] == "SAME" else 0 for k in (kh, kw))
    padded = tf.stack([n, h + (kh - 1 if top else 0), w + (kw - 1 if left else 0), channels])
    parts = []
    for k in range(kh * kw):
        start = (k // kw, k % kw)
        end = (start[0] + (height - 1) * stride + 1, start[1] + (width - 1) * stride + 1)
        part = tf.raw_ops.StridedSliceGrad(
            shape=padded,
            begin=[0, *start, 0],
            end=tf.stack([n, *end, channels]),
            strides=[1, stride, stride, 1],
            dy=columns[:, :, :, k],
        )
        parts.append(part)
    return tf.add_n(parts)[:, top : top + h, left : left + w]


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
