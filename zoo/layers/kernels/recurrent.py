"""Recurrent layers over time: compiled loops for TensorFlow, cuDNN on its GPUs, and a plain loop.

Between two steps a recurrent layer does one small matrix product and a few elementwise operations.
As graph operations these cost more to start than to run, so XLA compiles the loop over a block of
steps; its own gradient keeps what it needs and does the products of all steps at once. Blocks have
a fixed number of steps: a sequence of another length compiles nothing anew. Without dropout between
them, stacked layers run as a wavefront, layer k on block j while layer k + 1 is on block j - 1,
each on a core of its own.

Sequences here are time major, `[t, n, d]`. Inside of the loops states stand upright, `[h, n]`: the
product of PyTorch's matrices with these runs up to twice as fast as that of their mirror images.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from zoo.layers.kernels.gradient import any_size, compiled, with_gradient

BLOCK = 32  # steps that are compiled as one loop


@dataclass(frozen=True)
class Cell:
    """One step of a recurrent layer, apart from its matrix products.

    Attributes:
        name: `lstm` or `gru`.
        gates: columns of the input's and the state's product, in units of the hidden size.
        step: what the input gives each gate, a list of `[h, n]`, what the state gives it, the
            state's output `[out, n]` and memory `[h, n]`, to the new output (before a projection)
            and memory.
        adds: whether `step` adds what input and state give each gate, so that the gradients of both
            are the same.
    """

    name: str
    gates: int
    step: Callable[[list[Any], list[Any], Any, Any], tuple[Any, Any]]
    adds: bool

    def parts(self, product, bias) -> list[Any]:
        """A product `[gates * h, n]` with its bias, by gate.

        Cut before they are added: XLA then does all of a step in one pass.
        """
        width = bias.shape[0] // self.gates
        ends = [(k * width, (k + 1) * width) for k in range(self.gates)]
        return [product[start:end] + bias[start:end, None] for start, end in ends]


def _lstm_step(x, s, output, memory):
    """Equations of `torch.nn.LSTM`; gates in the order input, forget, cell, output."""
    i, f, g, o = (a + b for a, b in zip(x, s, strict=True))
    memory = _sigmoid(f) * memory + _sigmoid(i) * ops.tanh(g)
    return _sigmoid(o) * ops.tanh(memory), memory


def _gru_step(x, s, output, memory):
    """Equations of `torch.nn.GRU`; gates in the order reset, update, new. It has no memory."""
    (r_x, u_x, n_x), (r_s, u_s, n_s) = x, s
    new = ops.tanh(n_x + _sigmoid(r_x + r_s) * n_s)
    return new + _sigmoid(u_x + u_s) * (output - new), memory


def _sigmoid(x):
    """Through the hyperbolic tangent, which XLA computes on vectors."""
    return 0.5 * ops.tanh(0.5 * x) + 0.5


LSTM = Cell("lstm", 4, _lstm_step, adds=True)
GRU = Cell("gru", 3, _gru_step, adds=False)


@dataclass(frozen=True)
class Weights:
    """The weights of one layer in one direction, in PyTorch's shapes.

    Attributes:
        input: `[gates * h, in]`.
        state: `[gates * h, out]`.
        input_bias, state_bias: `[gates * h]`.
        projection: `[out, h]`; None: the output is the hidden state.
    """

    input: Any
    state: Any
    input_bias: Any
    state_bias: Any
    projection: Any = None

    def tensors(self) -> tuple[Any, ...]:
        every = (self.input, self.state, self.input_bias, self.state_bias, self.projection)
        return tuple(ops.convert_to_tensor(w) for w in every if w is not None)


State = tuple[Any, Any]  # output [n, out], memory [n, h]


def run(
    cell: Cell,
    layers: Sequence[Weights],
    x: Any,
    lengths: Any,
    states: Sequence[State],
    *,
    alone: bool = True,
):
    """Run stacked layers, one after another in depth, over a batch of sequences.

    Args:
        layers: the weights of each.
        x: `[t, n, in]`.
        lengths: int32 `[n]`: steps of each sequence; what follows does not change its state, and
            gives zeros.
        states: the initial state of each layer.
        alone: whether no other run could go on at the same time, such as one backwards.

    Returns:
        Outputs of the last layer `[t, n, out]`, and the final states.
    """
    if has_loops() and not has_cudnn():
        return _run_compiled(cell, layers, x, lengths, states, alone and len(layers) == 1)
    final = []
    for weights, state in zip(layers, states, strict=True):
        in_keras = has_cudnn() and weights.projection is None
        one = run_keras if in_keras else run_plain
        x, state = one(cell, weights, x, lengths, state)
        final.append(state)
    return x, final


@functools.cache
def has_cudnn() -> bool:
    """Whether Keras has cuDNN's recurrent layers here: TensorFlow with a GPU."""
    if not has_loops():
        return False
    import tensorflow as tf

    return bool(tf.config.list_logical_devices("GPU"))


def has_loops() -> bool:
    """Whether the back end is one that the compiled loops are for."""
    return keras.backend.backend() == "tensorflow"


def reversed_in(x, lengths):
    """Each sequence of `[t, n, d]` from its end; padding stays behind it."""
    steps = ops.expand_dims(ops.arange(ops.shape(x)[0], dtype="int32"), -1)
    places = ops.where(steps < lengths, lengths - 1 - steps, steps)
    return ops.take_along_axis(x, ops.expand_dims(places, -1), axis=0)


# ---------------------------------------------------------------- any back end


def run_plain(cell: Cell, weights: Weights, x, lengths, state: State):
    """One layer, step after step: what the compiled loop has to equal."""
    w_x, w_s, b_x, b_s, *w_p = weights.tensors()

    def step(state, at):
        (output, memory), (x, t) = state, at
        given = cell.parts(ops.matmul(w_x, ops.transpose(x)), b_x)
        own = cell.parts(ops.matmul(w_s, output), b_s)
        new, new_memory = cell.step(given, own, output, memory)
        new = ops.matmul(w_p[0], new) if w_p else new
        alive = t < lengths
        state = ops.where(alive, new, output), ops.where(alive, new_memory, memory)
        return state, (ops.where(alive, new, ops.zeros_like(new)), memory)  # as Keras wants: alike

    steps = ops.arange(ops.shape(x)[0], dtype="int32")
    start = tuple(map(ops.transpose, state))
    final, (outputs, _) = ops.scan(step, start, (x, steps), length=x.shape[0])
    return ops.transpose(outputs, (0, 2, 1)), tuple(map(ops.transpose, final))


def run_keras(cell: Cell, weights: Weights, x, lengths, state: State):
    """One layer through Keras's own, which takes cuDNN where that can do it."""
    width, dtype = state[1].shape[-1], keras.backend.standardize_dtype(x.dtype)
    layer = _keras_layer(cell.name, width, x.shape[-1], dtype)
    matrices, start = [weights.input, weights.state], list(state)
    bias = weights.input_bias + weights.state_bias
    if cell is GRU:
        matrices, start = [_update_first(w) for w in matrices], [state[0]]
        bias = ops.stack([_update_first(b) for b in (weights.input_bias, weights.state_bias)])
    values = [*map(ops.transpose, matrices), bias]
    others = [v.value for v in layer.non_trainable_variables]
    mask = ops.expand_dims(ops.arange(ops.shape(x)[0], dtype="int32"), 0) < lengths[:, None]
    (outputs, *final), _ = layer.stateless_call(
        values, others, ops.transpose(x, (1, 0, 2)), initial_state=start, mask=mask
    )
    return ops.transpose(outputs, (1, 0, 2)), (final[0], final[-1] if cell is LSTM else state[1])


@functools.cache
def _keras_layer(name: str, width: int, inputs: int, dtype: str) -> keras.layers.Layer:
    """A layer that is called with the weights of others; its own are zeros."""
    import tensorflow as tf

    kind, options = {
        "lstm": (keras.layers.LSTM, {}),
        "gru": (keras.layers.GRU, {"reset_after": True}),
    }[name]
    with tf.init_scope():
        layer = kind(
            width,
            return_sequences=True,
            return_state=True,
            zero_output_for_mask=True,
            kernel_initializer="zeros",
            recurrent_initializer="zeros",
            dtype=dtype,
            **options,
        )
        layer.build((None, None, inputs))
    return layer


def _update_first(w):
    """PyTorch's order of a GRU's gates (reset, update, new) in Keras's (update, reset, new)."""
    reset, update, new = ops.split(w, 3, axis=0)
    return ops.concatenate([update, reset, new], axis=0)


# ---------------------------------------------------------------- TensorFlow


def _run_compiled(cell, layers, x, lengths, states, alone):
    """All layers over all blocks; see the module's words on the wavefront."""
    import tensorflow as tf

    weights = [layer.tensors() for layer in layers]
    time, depth = tf.shape(x)[0], len(layers)
    block = x.shape[0] if x.shape[0] and x.shape[0] <= BLOCK else BLOCK
    blocks = tf.maximum((time + block - 1) // block, 1)
    x = tf.pad(x, [[0, blocks * block - time], [0, 0], [0, 0]])
    x = tf.ensure_shape(
        tf.reshape(x, tf.concat([[blocks, block], tf.shape(x)[1:]], 0)), (None, block, *x.shape[1:])
    )

    def turn(i, outputs, between, states):
        new_between, new_states = [], []
        for k in range(depth):
            start = (i - k) * block  # of layer k's block, which may lie outside of the sequence
            steps = tf.where(start < 0, 0, tf.clip_by_value(time - start, 0, block))
            inputs = x[tf.minimum(i, blocks - 1)] if k == 0 else between[k - 1]
            tensors = [inputs, *states[k], lengths - start, steps, *weights[k]]
            out, *state = _block(cell, tensors, alone)
            new_between.append(tf.ensure_shape(out, between[k].shape))
            new_states.append(tuple(map(tf.ensure_shape, state, [s.shape for s in states[k]])))
        return i + 1, outputs.write(i, new_between[-1]), new_between, new_states

    turns = blocks + depth - 1
    between = [tf.zeros((block, tf.shape(x)[2], s[0].shape[-1]), x.dtype) for s in states]
    _, outputs, _, states = tf.while_loop(
        lambda i, *_: i < turns,
        turn,
        (0, tf.TensorArray(x.dtype, size=turns), between, [tuple(s) for s in states]),
        maximum_iterations=turns,
    )
    outputs = outputs.stack()[depth - 1 :]
    outputs = tf.reshape(outputs, tf.concat([[blocks * block], tf.shape(outputs)[2:]], 0))
    return outputs[:time], states


def _block(cell, tensors, alone):
    """The first `steps` of a block `[block, n, in]` of one layer, differentiable.

    Args:
        tensors: `x, output, memory, lengths, steps, *weights`.
    """
    x, output, memory, lengths, *others = tensors
    signature = [any_size(x, 1), *(any_size(y, 0) for y in (output, memory, lengths))]
    signature += map(any_size, others)
    return with_gradient(_differentiable, *tensors, signature=signature, cell=cell, alone=alone)


def _differentiable(x, output, memory, lengths, steps, *weights, cell, alone):
    forward, _ = _compiled(cell)
    # a loop that XLA compiles has no gradient, and a tape would ask for one
    tensors = (x, output, memory, lengths, steps, weights)
    outputs, final, final_memory = compiled(forward, *tensors, alone=alone)

    def gradient(*upstream):
        tensors = [x, output, memory, lengths, steps, outputs, *upstream, *weights]
        signature = [any_size(y, 1 if len(y.shape) == 3 else 0) for y in tensors[:4]]
        signature += [any_size(steps), any_size(outputs, 1), any_size(outputs, 1)]
        signature += [*(any_size(y, 0) for y in (output, memory)), *map(any_size, weights)]
        options = {"cell": cell, "alone": alone}
        grads = with_gradient(_first_gradient, *tensors, signature=signature, **options)
        return *grads[:3], None, None, *grads[3:]

    return (outputs, final, final_memory), gradient


def _first_gradient(x, output, memory, lengths, steps, outputs, *others, cell, alone):
    import tensorflow as tf

    _, backward = _compiled(cell)
    upstream, weights = others[:3], others[3:]
    before = tf.concat([output[None], outputs[:-1]], 0)
    mirrored = [tf.transpose(w) for w in (weights[1], *weights[4:])]
    arguments = (x, before, memory, lengths, steps, weights, mirrored, upstream)
    dx, d_output, d_memory, d_weights = compiled(backward, *arguments, alone=alone)

    def gradient(*upstreams):
        inputs, lived = (x, output, memory, *weights), tf.minimum(lengths, steps)
        grads = _second_gradient(cell, inputs, lived, upstream, upstreams)
        # the outputs follow from the inputs, whose gradients here are the whole ones
        return *grads[:3], None, None, None, *grads[-3:], *grads[3:-3]

    return (dx, d_output, d_memory, *d_weights), gradient


def _second_gradient(cell, inputs, lengths, upstream, upstreams):
    """The plain way's, of sequence, states and weights, and of the first gradient's upstream."""
    import tensorflow as tf

    tensors = [tf.identity(x) for x in (*inputs, *upstream)]
    with tf.GradientTape() as outer:
        outer.watch(tensors)
        x, output, memory, *weights = tensors[:-3]
        with tf.GradientTape() as inner:
            inner.watch(tensors[:-3])
            outputs, final = run_plain(cell, Weights(*weights), x, lengths, (output, memory))
        grads = inner.gradient(
            [outputs, *final], tensors[:-3], tensors[-3:], unconnected_gradients="zero"
        )
    return outer.gradient(grads, tensors, upstreams, unconnected_gradients="zero")


@functools.cache
def _compiled(cell: Cell):
    """The loop over a block and the loop back through it, each compiled once per shape."""
    import tensorflow as tf

    jit = functools.partial(tf.function, jit_compile=True, autograph=False)

    @jit
    def forward(x, output, memory, lengths, steps, weights):
        w_x, w_s, b_x, b_s, *w_p = weights
        products = _if_any(steps, lambda: _product(w_x, x))

        def step(t, outputs, output, memory):
            given, own = cell.parts(products[:, t], b_x), cell.parts(tf.matmul(w_s, output), b_s)
            new, new_memory = cell.step(given, own, output, memory)
            new = tf.matmul(w_p[0], new) if w_p else new
            alive = t < lengths
            outputs = outputs.write(t, tf.where(alive, new, tf.zeros_like(new)))
            output, memory = tf.where(alive, new, output), tf.where(alive, new_memory, memory)
            return t + 1, outputs, output, memory

        start = (tf.transpose(output), tf.transpose(memory))
        _, outputs, *final = tf.while_loop(
            lambda t, *_: t < steps, step, (0, _array(x, start[0]), *start)
        )
        return tf.transpose(outputs.stack(), (0, 2, 1)), *map(tf.transpose, final)

    @jit
    def backward(x, before, memory, lengths, steps, weights, mirrored, upstream):
        """`before`: the output before each step `[block, n, out]`; `mirrored`: `[out, gates * h]`
        and `[h, out]`, since products with a matrix read across are slow."""
        w_x, w_s, b_x, b_s, *w_p = weights
        d_outputs, d_output, d_memory = (_upright(d) for d in upstream)
        memory = tf.transpose(memory)
        products = _if_any(steps, lambda: (_product(w_x, x), _product(w_s, before)))
        upright = _upright(before)

        def given(t):
            x, s = (product[:, t] for product in products)
            return cell.parts(x, b_x), cell.parts(s, b_s), upright[t]

        memories = _memories(cell, given, memory, lengths, steps, like=x)

        def step(t, arrays, d_output, d_memory):
            alive = t < lengths
            inputs = (*given(t), memories[t])
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                hidden, new_memory = cell.step(*inputs)
            d_new = tf.where(alive, d_output + d_outputs[t], 0)
            d_hidden = tf.matmul(mirrored[1], d_new) if w_p else d_new
            wanted = [d_hidden, tf.where(alive, d_memory, 0)]
            d_given, d_own, d_before, d_memories = tape.gradient(
                [hidden, new_memory], inputs, wanted, unconnected_gradients="zero"
            )
            d_own = tf.concat(d_own, 0)
            d_before += tf.matmul(mirrored[0], d_own)
            values = {"own": d_own, "given": tf.concat(d_given, 0), "hidden": hidden, "new": d_new}
            arrays = {name: array.write(t, values[name]) for name, array in arrays.items()}
            d_output = tf.where(alive, d_before, d_output)
            return t - 1, arrays, d_output, tf.where(alive, d_memories, d_memory)

        gates = products[0][:, 0]
        likes = {"own": gates} | ({} if cell.adds else {"given": gates})
        likes |= {"hidden": memory, "new": d_output} if w_p else {}
        arrays = {name: _array(x, like) for name, like in likes.items()}
        _, arrays, d_output, d_memory = tf.while_loop(
            lambda t, *_: t >= 0, step, (steps - 1, arrays, d_output, d_memory)
        )
        kept = {name: _wide(array.stack()) for name, array in arrays.items()}
        d_own = kept["own"]
        d_given = kept.get("given", d_own)

        def closing():
            d_x = tf.reshape(tf.matmul(d_given, w_x, transpose_a=True), tf.shape(x))
            d_weights = [
                tf.matmul(d_given, _flat(x)),
                tf.matmul(d_own, _flat(before)),
                tf.reduce_sum(d_given, 1),
                tf.reduce_sum(d_own, 1),
                *([tf.matmul(kept["new"], kept["hidden"], transpose_b=True)] if w_p else []),
            ]
            return d_x, d_weights

        d_x, d_weights = _if_any(steps, closing)
        return d_x, tf.transpose(d_output), tf.transpose(d_memory), d_weights

    return forward, backward


def _memories(cell, given, memory, lengths, steps, like):
    """The memory before each step, `[block, h, n]`: computed again rather than kept."""
    import tensorflow as tf

    def step(t, memories, memory):
        new = cell.step(*given(t), memory)[1]
        return t + 1, memories.write(t, memory), tf.where(t < lengths, new, memory)

    start = (0, _array(like, memory), memory)
    return tf.while_loop(lambda t, *_: t < steps, step, start)[1].stack()


def _if_any(steps, compute):
    """What `compute` gives; zeros where there are no steps, since nobody reads them then."""
    import tensorflow as tf

    def zeros():  # XLA knows the shapes, and computes nothing for them
        return tf.nest.map_structure(tf.zeros_like, compute())

    return tf.cond(steps > 0, compute, zeros)


def _array(x, like):
    """For each step of `x`, something with the shape of `like`."""
    import tensorflow as tf

    return tf.TensorArray(like.dtype, size=x.shape[0], element_shape=like.shape)


def _product(w, x):
    """`[o, i] x [t, n, i]` as one matrix product: `[o, t, n]`."""
    import tensorflow as tf

    flat = tf.matmul(w, _flat(x), transpose_b=True)
    return tf.reshape(flat, tf.concat([tf.shape(w)[:1], tf.shape(x)[:2]], 0))


def _upright(x):
    """The last two axes exchanged."""
    import tensorflow as tf

    return tf.linalg.matrix_transpose(x)


def _flat(x):
    """`[t, n, d]` to `[t * n, d]`."""
    import tensorflow as tf

    return tf.reshape(x, (-1, x.shape[-1]))


def _wide(x):
    """`[t, d, n]` to `[d, t * n]`."""
    import tensorflow as tf

    return tf.reshape(tf.transpose(x, (1, 0, 2)), (x.shape[1], -1))
