"""Token embeddings, and the way back from vectors to tokens over the same matrix."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from zoo.layers.base import Layer, Shape, register


@register
class Embedding(Layer):
    """Tokens `[n, t]`, int, to vectors `[n, t, size]`; with `reverse`, vectors to logits.

    Args:
        vocab_size: number of tokens.
        size: width of the vectors.
        tied: whether `reverse` is used: one matrix serves as input and output (Press and Wolf,
            arXiv:1608.05859).
        padding_idx: token whose vector starts at zero.
        dropout: rate at which tokens lose their vector in training, everywhere in a batch at once;
            the others are scaled up (AWD-LSTM; Merity et al., arXiv:1708.02182, section 4.3).
        initial_range: vectors start uniform within it on both sides of zero.
        seed: of the dropout.
    """

    vocab_size: int
    size: int
    tied: bool = False
    padding_idx: int | None = None
    dropout: float = 0.0
    initial_range: float = 0.1
    seed: int | None = None

    def setup(self) -> None:
        if self.dropout:
            self.seed_generator = keras.random.SeedGenerator(self.seed)

    def build(self, input_shape: Shape) -> None:
        def start(shape: Shape, dtype: Any) -> Any:
            limit = self.initial_range
            values = keras.random.uniform(shape, -limit, limit, dtype=dtype, seed=self.seed)
            if self.padding_idx is None:
                return values
            rows = ops.expand_dims(ops.arange(shape[0]), -1)
            return ops.where(rows == self.padding_idx, ops.zeros_like(values), values)

        # another name, since the matrix stands twice in a file
        name = "tied_embeddings" if self.tied else "embeddings"
        self.matrix = self.add_weight(
            name=name, shape=(self.vocab_size, self.size), initializer=start
        )
        self.built = True

    def call(self, inputs, reverse: bool = False, training: bool | None = None):
        matrix = ops.cast(self.matrix, self.compute_dtype)
        if reverse:
            flat = ops.reshape(ops.cast(inputs, self.compute_dtype), (-1, self.size))
            logits = ops.matmul(flat, ops.transpose(matrix))
            return ops.reshape(logits, (*ops.shape(inputs)[:-1], self.vocab_size))
        if training and self.dropout:
            kept = ops.ones((self.vocab_size, 1), self.compute_dtype)
            matrix *= keras.random.dropout(kept, self.dropout, seed=self.seed_generator)
        return ops.take(matrix, ops.cast(inputs, "int32"), axis=0)

    def compute_output_shape(self, input_shape: Shape, reverse: bool = False) -> Shape:
        return (*input_shape[:-1], self.vocab_size) if reverse else (*input_shape, self.size)

    def compute_output_spec(self, inputs: Any, reverse: bool = False, training: Any = None) -> Any:
        shape = self.compute_output_shape(inputs.shape, reverse)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)


@register
class Bias(Layer):
    """Adds one number per place of the last axis: `[..., d]` to `[..., d]`."""

    def build(self, input_shape: Shape) -> None:
        self.bias = self.add_weight(name="bias", shape=(input_shape[-1],), initializer="zeros")
        self.built = True

    def call(self, inputs):
        return inputs + ops.cast(self.bias, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape
