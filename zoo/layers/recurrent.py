"""LSTM and GRU over PyTorch's parameters: stacked, bidirectional, projected, with lengths, states.

Weights have the names and shapes of `torch.nn.LSTM`: `weight_ih_l{k}[_reverse]` `[gates * h, in]`,
`weight_hh_l{k}` `[gates * h, out]`, `bias_ih_l{k}` and `bias_hh_l{k}` `[gates * h]`, and
`weight_hr_l{k}` `[out, h]`, where `out` is `proj_size or hidden_size`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import keras
from keras import ops

from zoo.layers.base import Shape, register
from zoo.layers.decoding import Cache, DecodingLayer
from zoo.layers.kernels import recurrent as kernels


class Recurrent(DecodingLayer):
    """What LSTM and GRU share. Takes `[n, t, in]`, gives `[n, t, directions * out]`.

    Args:
        hidden_size: width of the hidden state.
        num_layers: layers, each over the outputs of the one before.
        bias: whether both products have a bias.
        bidirectional: whether a second chain of layers reads each sequence from its end; outputs
            of both stand side by side.
        dropout: rate of dropout between layers, in training.
        proj_size: width that outputs are projected to; 0 is none. LSTM alone.
        weight_dropout: rate of dropout on the entries of `weight_hh`, in training: one draw for a
            whole batch of sequences (AWD-LSTM; Merity et al., arXiv:1708.02182, section 2).
        seed: of both kinds of dropout.
    """

    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    bidirectional: bool = False
    dropout: float = 0.0
    proj_size: int = 0
    weight_dropout: float = 0.0
    seed: int | None = None
    cell: ClassVar[kernels.Cell]
    states: ClassVar[tuple[str, ...]]  # what the state is made of

    def setup(self) -> None:
        if self.proj_size and not ("cell" in self.states and self.proj_size < self.hidden_size):
            raise ValueError(
                f"proj_size={self.proj_size} is for an LSTM, and smaller than "
                f"hidden_size={self.hidden_size}."
            )
        if self.dropout or self.weight_dropout:
            self.seed_generator = keras.random.SeedGenerator(self.seed)

    @property
    def output_size(self) -> int:
        """Width of the output of one direction."""
        return self.proj_size or self.hidden_size

    @property
    def suffixes(self) -> tuple[str, ...]:
        """What the names of the weights of each direction end with."""
        return ("", "_reverse") if self.bidirectional else ("",)

    def build(self, input_shape: Shape) -> None:
        width = input_shape[-1]
        for layer in range(self.num_layers):
            for suffix in self.suffixes:
                self._add_weights(f"_l{layer}{suffix}", width)
            width = self.output_size * len(self.suffixes)
        self.built = True

    def _add_weights(self, suffix: str, width: int) -> None:
        """The weights of one layer and direction, under PyTorch's names and initialisation."""
        gates, out = self.cell.gates * self.hidden_size, self.output_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (gates, width),
            "weight_hh": (gates, out),
        }
        if self.bias:
            shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)}
        if self.proj_size:
            shapes["weight_hr"] = (out, self.hidden_size)
        bound = self.hidden_size**-0.5
        for name, shape in shapes.items():
            start = keras.initializers.RandomUniform(-bound, bound)
            variable = self.add_weight(name=name + suffix, shape=shape, initializer=start)
            setattr(self, name + suffix, variable)

    def compute_output_shape(self, input_shape: Shape, *_: Any, **__: Any) -> Shape:
        return (*input_shape[:-1], self.output_size * len(self.suffixes))

    def cache_spec(self, n: int | None, length: int | None) -> Cache:
        """The state `[n, layers * directions, width]`: `hidden`, and `cell` of an LSTM."""
        widths = {"hidden": self.output_size, "cell": self.hidden_size}
        chains = self.num_layers * len(self.suffixes)
        shapes = {name: (n, chains, widths[name]) for name in self.states}
        return {k: keras.KerasTensor(s, self.compute_dtype) for k, s in shapes.items()}

    def call(self, x, places=None, mask=None, cache=None, training: bool | None = None):
        """Run over a batch of sequences, as of `zoo.layers.decoding`.

        Args:
            x: `[n, t, in]`.
            places: not needed.
            mask: bool `[n, t]`, true for the steps of a sequence, which stand before its padding;
                None: all. The state does not change in padding, whose outputs are zeros, and the
                reverse direction starts at the last step, as with PyTorch's packed sequences.
            cache: the state before, in PyTorch's order of layers and directions; None is zeros.
            training: whether dropout acts.

        Returns:
            `[n, t, directions * out]`; with a cache, that and the state after.
        """
        x = ops.convert_to_tensor(x, self.compute_dtype)
        count, steps = ops.shape(x)[0], ops.shape(x)[1]
        if mask is None:
            lengths = ops.broadcast_to(ops.cast(steps, "int32"), (count,))
        else:
            lengths = ops.sum(ops.cast(mask, "int32"), axis=1)
        states = self._states(cache, count)
        x, final = self._run(ops.transpose(x, (1, 0, 2)), lengths, states, bool(training))
        x = ops.transpose(x, (1, 0, 2))
        if cache is None:
            return x
        parts = zip(self.states, zip(*final, strict=True), strict=False)  # a GRU's are two of one
        return x, {name: ops.stack(list(part), axis=1) for name, part in parts}

    def _states(self, cache: Cache | None, count: Any) -> list[tuple[Any, Any]]:
        """The state of each chain: layers first, then directions."""
        chains = self.num_layers * len(self.suffixes)
        if cache is None:
            widths = (self.output_size, self.hidden_size)
            zeros = [ops.zeros((count, width), self.compute_dtype) for width in widths]
            return [(zeros[0], zeros[1])] * chains
        parts = [ops.cast(cache[name], self.compute_dtype) for name in self.states]
        return [(parts[0][:, k], parts[-1][:, k]) for k in range(chains)]

    def _run(self, x, lengths, states, training: bool):
        """Layers in depth; those of one direction with nothing between them run as one."""
        plain = not self.bidirectional and not (training and self.dropout)
        if plain:
            chain = [self._weights(k, "", training) for k in range(self.num_layers)]
            return kernels.run(self.cell, chain, x, lengths, states)
        final: list[tuple[Any, Any]] = []
        for layer in range(self.num_layers):
            if layer and training and self.dropout:
                x = keras.random.dropout(x, self.dropout, seed=self.seed_generator)
            outputs = []
            for suffix in self.suffixes:
                weights, state = self._weights(layer, suffix, training), states[len(final)]
                turned = kernels.reversed_in(x, lengths) if suffix else x
                out, (last,) = kernels.run(
                    self.cell, [weights], turned, lengths, [state], alone=not self.bidirectional
                )
                outputs.append(kernels.reversed_in(out, lengths) if suffix else out)
                final.append(last)
            x = ops.concatenate(outputs, axis=-1)
        return x, final

    def _weights(self, layer: int, suffix: str, training: bool) -> kernels.Weights:
        """The weights of one layer and direction in the compute dtype."""

        def named(name: str) -> Any:
            return ops.cast(getattr(self, f"{name}_l{layer}{suffix}"), self.compute_dtype)

        state = named("weight_hh")
        if training and self.weight_dropout:
            state = keras.random.dropout(state, self.weight_dropout, seed=self.seed_generator)
        zeros = None if self.bias else ops.zeros(state.shape[:1], self.compute_dtype)
        return kernels.Weights(
            input=named("weight_ih"),
            state=state,
            input_bias=named("bias_ih") if self.bias else zeros,
            state_bias=named("bias_hh") if self.bias else zeros,
            projection=named("weight_hr") if self.proj_size else None,
        )


@register
class LSTM(Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997), as `torch.nn.LSTM`."""

    cell = kernels.LSTM
    states = ("hidden", "cell")


@register
class GRU(Recurrent):
    """Gated recurrent unit (Cho et al., arXiv:1406.1078), as `torch.nn.GRU`.

    The reset gate acts on the state's product, not on the state.
    """

    cell = kernels.GRU
    states = ("hidden",)
