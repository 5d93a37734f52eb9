"""Checks of sizes that are known only when a graph runs."""

from __future__ import annotations

from typing import Any

import keras


def whole_patches(images: Any, patch: int) -> Any:
    """Images `[n, h, w, c]`, once it is sure that their edges are multiples of `patch`.

    Sizes are unknown at trace time with TensorFlow alone. XLA, which knows them when it compiles,
    leaves such checks out.
    """
    if keras.backend.backend() != "tensorflow":
        return images
    import tensorflow as tf

    size = tf.shape(images)[1:3]
    message = f"Images are not of whole patches of {patch} x {patch} pixels."
    with tf.control_dependencies([tf.debugging.assert_equal(size % patch, 0, message)]):
        return tf.identity(images)
