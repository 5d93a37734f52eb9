"""Activations by the names that configs use, exact in float64.

`keras.ops.gelu` and `leaky_relu` hold float32 constants and lose float64; theirs are here.
"""

from __future__ import annotations

from collections.abc import Callable

from keras import ops

from zoo.layers.base import Layer, Shape, choose, register
from zoo.layers.kernels import activation as kernels


def gelu(x):
    """x times the normal distribution function, by erf (Hendrycks & Gimpel, arXiv:1606.08415)."""
    return kernels.gelu(x)


def silu(x):
    """x sigmoid(x) (Elfwing et al., arXiv:1702.03118)."""
    return kernels.silu(x)


def gelu_tanh(x):
    """The tanh approximation of `gelu`."""
    return 0.5 * x * (1 + ops.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


def quick_gelu(x):
    """x times sigmoid(1.702 x), as CLIP was trained with."""
    return x * ops.sigmoid(1.702 * x)


def leaky_relu(x):
    """max(x, 0.01 x)."""
    return ops.maximum(x, 0.01 * x)


def clipped_gelu(x):
    """`gelu` between -10 and 10 (Wu et al., arXiv:2004.09602)."""
    return ops.clip(gelu(x), -10, 10)


def hard_swish(x):
    """x relu6(x + 3) / 6 (Howard et al., arXiv:1905.02244)."""
    return x * ops.clip(x + 3, 0, 6) / 6


def mish(x):
    """x tanh(softplus(x)) (Misra, arXiv:1908.08681)."""
    return x * ops.tanh(ops.softplus(x))


def squared_relu(x):
    """max(x, 0) squared (So et al., arXiv:2109.08668)."""
    return ops.square(ops.relu(x))


def laplace(x):
    """The distribution function that attention has in Mega (Ma et al., arXiv:2209.10655)."""
    return 0.5 * (1 + ops.erf((x - 0.707107) / (0.282095 * 2**0.5)))


def elu(x):
    """x, or exp(x) - 1 below 0 (Clevert et al., arXiv:1511.07289)."""
    return ops.where(x > 0, x, ops.expm1(ops.minimum(x, 0)))


def selu(x):
    """`elu` whose two sides are scaled (Klambauer et al., arXiv:1706.02515)."""
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    return ops.where(x > 0, scale * x, scale * alpha * ops.expm1(ops.minimum(x, 0)))


def softplus(x):
    """log(1 + exp(x))."""
    return ops.maximum(x, 0) + ops.log1p(ops.exp(-ops.abs(x)))


ACTIVATIONS: dict[str, Callable] = {
    "relu": ops.relu,
    "silu": silu,
    "swish": silu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "leaky_relu": leaky_relu,
    "sigmoid": ops.sigmoid,
    "tanh": ops.tanh,
    "linear": lambda x: x,
    "relu6": lambda x: ops.clip(x, 0, 6),
    "clipped_gelu": clipped_gelu,
    "hard_swish": hard_swish,
    "mish": mish,
    "squared_relu": squared_relu,
    "laplace": laplace,
    "elu": elu,
    "selu": selu,
    "softplus": softplus,
    "softsign": lambda x: x / (1 + ops.abs(x)),
    "log_sigmoid": lambda x: -softplus(-x),
    "hard_tanh": lambda x: ops.clip(x, -1, 1),
    "hard_sigmoid": lambda x: ops.clip(x + 3, 0, 6) / 6,
    "tanh_shrink": lambda x: x - ops.tanh(x),
}


def activation(name: str) -> Callable:
    """The elementwise function of that name.

    Raises:
        ConfigError: no such activation.
    """
    return choose("act_layer", name, ACTIVATIONS)


@register
class Activation(Layer):
    """An activation of `ACTIVATIONS` as a layer, for chains of layers. Any shape, kept."""

    function: str

    def setup(self) -> None:
        self._call = activation(self.function)

    def call(self, inputs):
        return self._call(inputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape
