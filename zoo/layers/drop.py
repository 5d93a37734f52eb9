"""What acts on the branch of a residual block: stochastic depth, and a scale per channel."""

from __future__ import annotations

import keras
from keras import ops

from zoo.layers.base import Layer, Shape, register


@register
class DropPath(Layer):
    """Drops the whole branch for a random part of the batch (Huang et al., arXiv:1603.09382).

    Any shape, batch first. In training each example's branch is zeroed with probability `rate`,
    and the others are scaled by `1 / (1 - rate)`; otherwise the inputs pass.
    """

    rate: float
    seed: int | None = None

    def setup(self) -> None:
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def call(self, inputs, training=False):
        if not training or self.rate == 0.0:
            return inputs
        shape = (ops.shape(inputs)[0],) + (1,) * (len(inputs.shape) - 1)
        keep = keras.random.uniform(shape, seed=self.seed_generator, dtype="float32") >= self.rate
        return inputs * ops.cast(keep, inputs.dtype) / (1.0 - self.rate)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


@register
class LayerScale(Layer):
    """One learned factor per channel (Touvron et al., arXiv:2103.17239); any shape, kept."""

    value: float = 1e-5

    def build(self, input_shape: Shape) -> None:
        start = keras.initializers.Constant(self.value)
        self.scale = self.add_weight(name="scale", shape=(input_shape[-1],), initializer=start)
        self.built = True

    def call(self, inputs):
        return inputs * ops.cast(self.scale, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


def drop_path_rates(rate: float, depths: tuple[int, ...]) -> list[list[float]]:
    """Rates that rise linearly from 0 to `rate` over all blocks; one list per stage."""
    last = max(sum(depths) - 1, 1)
    starts = [sum(depths[:stage]) for stage in range(len(depths))]
    return [
        [rate * (start + i) / last for i in range(depth)]
        for start, depth in zip(starts, depths, strict=True)
    ]
