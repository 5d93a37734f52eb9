"""The feed-forward half of transformer blocks: two linear maps, or a gated one."""

from __future__ import annotations

from typing import Any

from keras import ops

from zoo.layers.activation import activation
from zoo.layers.base import Layer, Shape, build_chain, choose, register, run_chain
from zoo.layers.linear import Dense
from zoo.layers.normalization import norm_type


class _FeedForward(Layer):
    """What the kinds share: options, a norm of the hidden features, the way out.

    Args:
        hidden: width between the two linear maps.
        outputs: width that comes out; None is the input's.
        act: see `activation`.
        norm: norm of the hidden features by name, or None; `norm_eps` is its epsilon.
        use_bias: of the linear maps.
        drop: dropout rate after the activation and after the last map.
    """

    hidden: int
    outputs: int | None = None
    act: str = "gelu"
    norm: str | None = None
    norm_eps: float = 1e-6
    use_bias: bool = True
    drop: float = 0.0

    def setup(self) -> None:
        self.activate = activation(self.act)

    def dense(self, name: str, units: int) -> Dense:
        return self.child(Dense, units, use_bias=self.use_bias, name=name)

    def after(self, width: int) -> list[Any]:
        """The layers behind the activation, whose hidden features are `width` wide."""
        norm = self.norm and self.child(norm_type(self.norm), epsilon=self.norm_eps, name="norm")
        self.fc2 = self.dense("fc2", width)
        return [
            self.drop_layer(self.drop, "drop1"),
            norm,
            self.fc2,
            self.drop_layer(self.drop, "drop2"),
        ]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], self.outputs or input_shape[-1])


@register
class Mlp(_FeedForward):
    """`fc2(act(fc1(x)))`, `[..., d] -> [..., outputs]`."""

    def build(self, input_shape: Shape) -> None:
        self.fc1 = self.dense("fc1", self.hidden)
        self.tail = self.after(self.outputs or input_shape[-1])
        build_chain(input_shape, self.fc1, *self.tail)
        self.built = True

    def call(self, inputs):
        # as one matrix, so that nothing stands between product and activation: oneDNN fuses them
        rows = ops.reshape(inputs, (-1, inputs.shape[-1]))
        x = run_chain(self.activate(self.fc1(rows)), *self.tail)
        return ops.reshape(x, (*ops.shape(inputs)[:-1], x.shape[-1]))


@register
class SwiGLU(_FeedForward):
    """A gated map, `fc2(act(fc1_g(x)) * fc1_x(x))` (Shazeer, arXiv:2002.05202)."""

    def build(self, input_shape: Shape) -> None:
        self.fc1_g, self.fc1_x = self.dense("fc1_g", self.hidden), self.dense("fc1_x", self.hidden)
        self.tail = self.after(self.outputs or input_shape[-1])
        self.fc1_g.build(input_shape)
        build_chain(input_shape, self.fc1_x, *self.tail)
        self.built = True

    def call(self, inputs):
        return run_chain(self.activate(self.fc1_g(inputs)) * self.fc1_x(inputs), *self.tail)


@register
class PackedSwiGLU(_FeedForward):
    """`SwiGLU` whose gate and values come out of one map: `hidden` counts both."""

    def build(self, input_shape: Shape) -> None:
        self.fc1 = self.dense("fc1", self.hidden)
        self.tail = self.after(self.outputs or input_shape[-1])
        self.fc1.build(input_shape)
        build_chain((*input_shape[:-1], self.hidden // 2), *self.tail)
        self.built = True

    def call(self, inputs):
        gate, values = ops.split(self.fc1(inputs), 2, axis=-1)
        return run_chain(self.activate(gate) * values, *self.tail)


MLPS: dict[str, type[_FeedForward]] = {
    "mlp": Mlp,
    "swiglu": SwiGLU,
    "swiglu_packed": PackedSwiGLU,
}


def mlp_type(name: str) -> type[_FeedForward]:
    """The feed-forward layer of that name in configs.

    Raises:
        ConfigError: no such layer.
    """
    return choose("mlp_layer", name, MLPS)
