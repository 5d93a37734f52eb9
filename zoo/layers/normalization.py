"""Normalisations with the reference's constants, each over channels last."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from zoo.layers.base import Layer, LayerMixin, Shape, choose, register
from zoo.layers.kernels.normalization import (
    fused_batch_norm,
    has_fused_batch_norm,
    has_own_layer_norm,
    layer_norm,
)


@register
class BatchNorm(LayerMixin, keras.layers.BatchNormalization):
    """Batch normalisation with PyTorch's epsilon and momentum (its 0.1 is Keras's 0.9).

    In training the running variance takes the biased batch variance, as Keras does; PyTorch
    takes the unbiased one.
    """

    def __init__(self, *, epsilon: float = 1e-5, momentum: float = 0.9, **kwargs: Any) -> None:
        super().__init__(epsilon=epsilon, momentum=momentum, **kwargs)

    def call(self, inputs, training=None, mask=None):
        learns = training and self.trainable and mask is None
        if not (learns and self._is_usual and has_fused_batch_norm(inputs)):
            return super().call(inputs, training=training, mask=mask)
        outputs, *moments = fused_batch_norm(inputs, self.gamma, self.beta, self.epsilon)
        for running, batch in zip((self.moving_mean, self.moving_variance), moments, strict=True):
            before = ops.cast(running, batch.dtype)
            running.assign(before * self.momentum + batch * (1.0 - self.momentum))
        return outputs

    @property
    def _is_usual(self) -> bool:
        """Whether no option of Keras's is on that the fused kernel does not know."""
        last = self.axis in (-1, 3)
        return last and self.scale and self.center and not (self.synchronized or self.renorm)


@register
class GroupNorm(LayerMixin, keras.layers.GroupNormalization):
    """Group normalisation (Wu & He, arXiv:1803.08494) in 32 groups with PyTorch's epsilon."""

    def __init__(self, *, groups: int = 32, epsilon: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(groups=groups, epsilon=epsilon, **kwargs)


@register
class LayerNorm(LayerMixin, keras.layers.LayerNormalization):
    """Layer normalisation over the last axis (Ba et al., arXiv:1607.06450); any shape, kept."""

    def __init__(self, *, epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(epsilon=epsilon, **kwargs)

    def call(self, inputs, training=None):
        wide = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        usual = self.scale and self.center and not self.rms_scaling
        last = tuple(self.axis) in ((-1,), (len(inputs.shape) - 1,))
        if not (usual and last and has_own_layer_norm(wide)):
            return super().call(inputs)
        outputs = layer_norm(wide, self.gamma, self.beta, self.epsilon)
        return ops.cast(outputs, self.compute_dtype)


@register
class RMSNorm(Layer):
    """Division by the root of the mean square over the last axis, times `gamma`; any shape, kept.

    Zhang & Sennrich, arXiv:1910.07467.
    """

    epsilon: float = 1e-6

    def build(self, input_shape: Shape) -> None:
        self.gamma = self.add_weight(name="gamma", shape=(input_shape[-1],), initializer="ones")
        self.built = True

    def call(self, inputs):
        # squares of half-precision numbers overflow, and their mean loses digits
        wide = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        root = ops.rsqrt(ops.mean(wide * wide, axis=-1, keepdims=True) + self.epsilon)
        return ops.cast(wide * root, inputs.dtype) * ops.cast(self.gamma, inputs.dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


class _ChannelScale(Layer):
    """Weights of a norm that brings its own activation: `gamma`, `beta` and one vector more.

    Args:
        epsilon: added under the root.
        activate: False leaves out the activation, and the vector named `extra`.
    """

    epsilon: float = 1e-5
    activate: bool = True
    extra: str
    extra_initializer: str

    def build(self, input_shape: Shape) -> None:
        shape = (input_shape[-1],)
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones")
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros")
        if self.activate:
            self.activation_weight = self.add_weight(
                name=self.extra, shape=shape, initializer=self.extra_initializer
            )

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


@register
class EvoNormS0(_ChannelScale):
    """EvoNorm-S0 (Liu et al., arXiv:2004.02967, table 1): norm and activation in one.

    `[n, h, w, c] -> [n, h, w, c]`; groups of c / 32 channels share a standard deviation.
    """

    extra, extra_initializer = "v", "ones"
    groups = 32

    def call(self, inputs):
        if self.activate:
            shape = ops.shape(inputs)
            n, h, w, c = shape[0], shape[1], shape[2], inputs.shape[-1]
            grouped = ops.reshape(inputs, (n, h, w, self.groups, c // self.groups))
            variance = ops.var(grouped, axis=(1, 2, 4), keepdims=True)
            deviation = ops.sqrt(variance + self.epsilon)
            gated = inputs * ops.sigmoid(inputs * ops.cast(self.activation_weight, inputs.dtype))
            gated = ops.reshape(gated, (n, h, w, self.groups, c // self.groups)) / deviation
            inputs = ops.reshape(gated, (n, h, w, c))
        gamma, beta = ops.cast(self.gamma, inputs.dtype), ops.cast(self.beta, inputs.dtype)
        return inputs * gamma + beta


@register
class FilterResponseNorm(_ChannelScale):
    """Filter response normalisation with its thresholded linear unit (arXiv:1911.09737).

    `[n, h, w, c] -> [n, h, w, c]`; each channel of each image is divided by its root mean square.
    """

    extra, extra_initializer = "tau", "zeros"

    def call(self, inputs):
        power = ops.mean(ops.square(inputs), axis=(1, 2), keepdims=True)
        gamma, beta = ops.cast(self.gamma, inputs.dtype), ops.cast(self.beta, inputs.dtype)
        outputs = inputs * ops.rsqrt(power + self.epsilon) * gamma + beta
        if self.activate:
            outputs = ops.maximum(outputs, ops.cast(self.activation_weight, inputs.dtype))
        return outputs


NORMS: dict[str, type] = {
    "batchnorm2d": BatchNorm,
    "groupnorm": GroupNorm,
    "layernorm": LayerNorm,
    "rmsnorm": RMSNorm,
    "evonorm2ds0": EvoNormS0,
    "frn_tlu": FilterResponseNorm,
}


def norm_type(name: str) -> type:
    """The norm layer of that name in configs.

    Raises:
        ConfigError: no such norm.
    """
    return choose("norm_layer", name, NORMS)


def brings_activation(name: str) -> bool:
    """Whether the norm of that name is its own activation, so that none follows it."""
    return issubclass(norm_type(name), _ChannelScale)
