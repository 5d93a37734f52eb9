"""LSTM and GRU against torch, live, in float64: outputs, final states and every gradient."""

import numpy as np
import pytest
import tensorflow as tf
from reference import relative_error, torch

from zoo.layers.recurrent import GRU, LSTM

BATCH, STEPS, INPUTS, HIDDEN = 3, 150, 7, 11  # more steps than a block, and no multiple of it
LENGTHS = (150, 1, 97)
KINDS = {"lstm": (LSTM, torch.nn.LSTM), "gru": (GRU, torch.nn.GRU)}
SHAPES = {
    "one layer": {},
    "three layers": {"num_layers": 3},
    "no bias": {"bias": False, "num_layers": 2},
    "both directions": {"bidirectional": True},
    "both directions, two layers": {"bidirectional": True, "num_layers": 2},
    "projected": {"proj_size": 5, "num_layers": 2},
    "projected, both directions": {"proj_size": 5, "num_layers": 2, "bidirectional": True},
}
CASES = [(k, s) for k in KINDS for s in SHAPES if not (k == "gru" and "projected" in s)]


class Pair:
    """A torch module with random weights, and our layer with the same."""

    def __init__(self, kind, dtype="float64", steps=STEPS, **options):
        torch.manual_seed(0)
        ours, theirs = KINDS[kind]
        self.theirs = theirs(INPUTS, HIDDEN, batch_first=True, **options).double()
        self.ours = ours(HIDDEN, dtype=dtype, **options)
        self.ours.build((None, None, INPUTS))
        for name, value in self.theirs.named_parameters():
            getattr(self.ours, name).assign(value.detach().numpy())
        rng = np.random.default_rng(0)
        self.x = rng.normal(size=(BATCH, steps, INPUTS))
        chains = self.ours.num_layers * len(self.ours.suffixes)
        widths = (self.ours.output_size, HIDDEN)[: 2 if kind == "lstm" else 1]
        self.state = tuple(rng.normal(size=(chains, BATCH, width)) for width in widths)

    def run_theirs(self, lengths=None, state=None):
        """Outputs, state and gradients: of the input, of the initial state, of each weight."""
        x = torch.tensor(self.x, requires_grad=True)
        start = None if state is None else tuple(torch.tensor(s, requires_grad=True) for s in state)
        given = start if start is None or len(start) == 2 else start[0]
        inputs = x
        if lengths is not None:
            pack = torch.nn.utils.rnn.pack_padded_sequence
            inputs = pack(x, lengths, batch_first=True, enforce_sorted=False)
        y, final = self.theirs(inputs, given)
        if lengths is not None:
            unpack = torch.nn.utils.rnn.pad_packed_sequence
            y, _ = unpack(y, batch_first=True, total_length=x.shape[1])
        final = final if isinstance(final, tuple) else (final,)
        scalar((y, *final), torch.sum, torch.tensor).backward()
        names = {n: p.grad.numpy() for n, p in self.theirs.named_parameters()}
        starts = {f"start {i}": s.grad.numpy() for i, s in enumerate(start or ())}
        outputs = [t.detach().numpy() for t in (y, *final)]
        return outputs, {"x": x.grad.numpy()} | starts | names

    def cache(self, state):
        """A state of torch, `[chains, n, width]`, or zeros, as ours, which has the batch first."""
        if state is None:
            return {
                k: tf.zeros(s.shape, s.dtype) for k, s in self.ours.cache_spec(BATCH, 0).items()
            }
        turned = (tf.transpose(part, (1, 0, 2)) for part in state)
        return dict(zip(self.ours.states, turned, strict=True))

    def run_ours(self, lengths=None, state=None):
        x = tf.constant(self.x)
        start = None if state is None else tuple(map(tf.convert_to_tensor, state))
        mask = None if lengths is None else tf.sequence_mask(lengths, x.shape[1])
        weights = {v.name: v.value for v in self.ours.trainable_variables}
        with tf.GradientTape() as tape:
            tape.watch([x, *(start or ())])
            y, final = self.ours(x, mask=mask, cache=self.cache(start))
            final = [tf.transpose(final[k], (1, 0, 2)) for k in self.ours.states]
            loss = scalar((y, *final), tf.reduce_sum, tf.constant)
        starts = {f"start {i}": s for i, s in enumerate(start or ())}
        gradients = tape.gradient(loss, {"x": x} | starts | weights)
        return [y, *final], gradients


def scalar(tensors, total, constant):
    """A fixed random direction of all that a layer gives."""
    rng = np.random.default_rng(1)
    return sum(total(t * constant(rng.normal(size=tuple(t.shape)))) for t in tensors)


@pytest.mark.parametrize(("kind", "shape"), CASES)
@pytest.mark.parametrize("traced", [False, True], ids=["eager, full", "graph, lengths and state"])
def test_equal_to_torch(kind, shape, traced):
    pair = Pair(kind, **SHAPES[shape])
    lengths, state = (LENGTHS, pair.state) if traced else (None, None)
    outputs, gradients = pair.run_theirs(lengths, state)
    run = tf.function(pair.run_ours, autograph=False) if traced else pair.run_ours
    ours, our_gradients = run(lengths, state)
    assert max(map(relative_error, ours, outputs)) < 1e-9
    assert gradients.keys() == our_gradients.keys()
    errors = {k: relative_error(our_gradients[k], g) for k, g in gradients.items()}
    assert max(errors.values()) < 1e-8, errors
