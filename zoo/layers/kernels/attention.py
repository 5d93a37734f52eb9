"""Scaled dot-product attention: the plain path, and one in blocks whose memory is linear in length.

The logits of `t` queries and `s` keys are `min(t, s) / d` times as large as what they are made of.
On long inputs, writing and reading them takes more time than the products do. The blockwise path
holds those of one block at a time: running maximum and sum per query (Rabe and Staats 2021,
https://arxiv.org/abs/2112.05682; Dao et al. 2022, https://arxiv.org/abs/2205.14135), with a
gradient of its own, which computes the blocks again from the logarithm of the sums.

Both compute bfloat16 and float16 in float32 inside. TensorFlow's own softmax and products of these
types have, on the CPU, 3 to 9 times the error that the rounding of the output alone makes (197,
1024 and 4096 keys, against float64); float32 softmax alone helps little, since the logits are
rounded before it; and float32 is 1.2 to 1.6 times as fast there.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from zoo.layers.kernels.gradient import any_size, in_xla, with_gradient

# Smaller blocks run slower (1.1 to 1.3 times with 512 queries), and with 512 keys, which is no more
# than 6 % faster, what is inside takes 16 % of the size of inputs and outputs at 8192 tokens
# instead of 11 %.
QUERY_BLOCK, KEY_BLOCK = 1024, 256
# Blocks under way at once. TensorFlow spreads a single product of this size badly over the cores:
# one at a time takes 1.2 to 1.7 times as long.
PARALLEL = 2

_NEVER = -1e30  # logit of a key that may not be read; finite, so that no difference of two is NaN


def attend(query, key, value, *, mask=None, bias=None, causal=False, scale=None):
    """Let each query read the values, by how much their keys resemble it.

    Args:
        query: `[n, h, t, d]`.
        key, value: `[n, g, s, d]` and `[n, g, s, e]`. `h` is a multiple of `g`: query head `i`
            reads head `i // (h // g)`. `h`, `g`, `d` and `e` are known when a graph is traced.
        mask: boolean, True where a key may be read; broadcastable to `[n, h, t, s]`, so that
            `[n, 1, 1, s]` is padding. It has no gradient.
        bias: is added to the logits, after `scale`; broadcastable to `[n, h, t, s]`.
        causal: query `i` reads keys up to `i + (s - t)`.
        scale: of the logits, a number; `d ** -0.5` by default.

    Returns:
        `[n, h, t, e]` in the dtype of the query. Queries that may read no key get zeros, where
        `torch.nn.functional.scaled_dot_product_attention` gives NaN.
    """
    options = {"mask": mask, "causal": causal, "scale": scale}
    # a bias is as large as the logits: nothing is saved beside one
    if bias is not None or keras.backend.backend() != "tensorflow":
        return plain(query, key, value, bias=bias, **options)
    in_blocks = _chooses_blocks(ops.shape(query)[2], ops.shape(key)[2])
    if in_xla() and not isinstance(in_blocks, bool):
        in_blocks = False  # XLA compiles for one length, but does not follow it into loops
    if isinstance(in_blocks, bool):
        return (blockwise if in_blocks else plain)(query, key, value, **options)
    import tensorflow as tf

    return tf.cond(
        in_blocks,
        lambda: blockwise(query, key, value, **options),
        lambda: plain(query, key, value, **options),
    )


def _chooses_blocks(t, s):
    """Whether `t` queries and `s` keys go the blockwise way: a bool, or a tensor if not known yet.

    A length that is unknown when a graph is traced is looked at when it runs: the graph then has
    both ways, short inputs are as fast as ever, and long ones fit into memory.
    """
    least = _shortest_for_blocks()
    known = [size for size in (t, s) if isinstance(size, int)]
    if any(size < least for size in known):
        return False
    if len(known) == 2:
        return True
    return ops.logical_and(t >= least, s >= least)


@functools.cache
def _shortest_for_blocks() -> int:
    """The least `min(t, s)` for blocks, since `min(t, s) / d` tells how much the logits take.

    On two CPU cores blocks take this share of the plain path's time, at batches of 1 and 8 with 12
    heads of 64 in float32: 1.25 and 0.7 at 197 tokens, 0.95 and 0.85 at 577, 0.9 and 0.85 at 1025,
    0.55 and less from 2048 on. With the gradient: 2.2 and 1.5, 1.4 and 1.15, 0.9 to 1.4, and 0.75.
    On a GPU, one block of one head at a time leaves most of it idle; there it is memory that
    decides, and the bound is reasoned, not measured: 64 times the size of the inputs.
    """
    import tensorflow as tf

    return 4096 if tf.config.list_logical_devices("GPU") else 768


# ---------------------------------------------------------------- plain, on any back end


def plain(query, key, value, *, mask=None, bias=None, causal=False, scale=None):
    """`attend` with all logits in memory at once."""
    logits, readable = _logits(query, key, mask, bias, causal, scale)
    weights = _by_group(_softmax(logits), key.shape[1])
    outputs = ops.matmul(weights, ops.cast(value, weights.dtype))
    outputs = ops.reshape(outputs, (*ops.shape(query)[:3], value.shape[-1]))
    return ops.cast(_zero_unless_any(readable, outputs), query.dtype)


def attention_probabilities(query, key, *, mask=None, bias=None, causal=False, scale=None):
    """The weights `[n, h, t, s]` with which `attend` adds up the values; rows of zeros as there."""
    logits, readable = _logits(query, key, mask, bias, causal, scale)
    return ops.cast(_zero_unless_any(readable, _softmax(logits)), query.dtype)


def _logits(query, key, mask, bias, causal, scale):
    """Logits `[n, h, t, s]` in the inner dtype, and which keys may be read; None: all of them."""
    dtype = _inner_dtype(query.dtype)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    (n, h, t, _), s = ops.shape(query), ops.shape(key)[2]
    scaled = _by_group(ops.cast(query, dtype) * scale, key.shape[1])
    logits = ops.matmul(scaled, ops.swapaxes(ops.cast(key, dtype), -1, -2))
    logits = ops.reshape(logits, (n, h, t, s))
    if bias is not None:
        logits = logits + ops.cast(bias, dtype)
    readable = mask
    if causal:
        past = _is_past(ops.arange(t), ops.arange(s), s - t)
        readable = past if mask is None else ops.logical_and(mask, past)
    if readable is not None:  # a sum takes half of the time of a choice
        logits = logits + ops.where(readable, ops.cast(0, dtype), ops.cast(_NEVER, dtype))
    return logits, readable


def _softmax(logits):
    # Keras warns of a single key, which is where a sequence begins
    return ops.exp(logits - logits) if logits.shape[-1] == 1 else ops.softmax(logits)


def _by_group(x, groups: int):
    """Heads `[n, h, t, d]` that read the same keys one below the other: `[n, g, h / g * t, d]`."""
    if x.shape[1] == groups:
        return x
    n, h, t, d = ops.shape(x)
    return ops.reshape(x, (n, groups, h // groups * t, d))


def _is_past(queries, keys, offset):
    """Whether the query at each place may read the key at each place, `[t, s]`."""
    return keys <= ops.expand_dims(queries, -1) + offset


def _zero_unless_any(readable, x):
    """Rows of `x` that may read no key become zeros."""
    if readable is None:
        return x
    return ops.where(ops.any(readable, axis=-1, keepdims=True), x, 0)


def _inner_dtype(dtype) -> str:
    """See the module's words on what is computed in float32."""
    name = keras.backend.standardize_dtype(dtype)
    return "float32" if name in ("bfloat16", "float16") else name


# ---------------------------------------------------------------- in blocks, in TensorFlow


def blockwise(query, key, value, *, mask=None, causal=False, scale=None):
    """`attend` in memory that grows with `t + s`, as does that of its gradient.

    A second gradient is right, but goes the plain way.
    """
    import tensorflow as tf

    tensors = [*map(tf.convert_to_tensor, (query, key, value))]
    if mask is not None:
        mask = tf.convert_to_tensor(mask)
        tensors.append(mask[(None,) * (4 - len(mask.shape))])
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    options = {"causal": bool(causal), "scale": scale}
    return with_gradient(_blockwise, *tensors, signature=_signature(tensors), **options)


def _blockwise(query, key, value, *mask, **options):
    inputs = (query, key, value)
    outputs, log_sums = _run(_forward, options, *inputs, *mask)
    xla = in_xla()  # which a gradient taken outside of it could not tell

    def gradient(upstream):
        tensors = (*inputs, outputs, log_sums, upstream, *mask)
        shared = {"signature": _signature(tensors), "xla": xla}
        grads = with_gradient(_first_gradient, *tensors, **shared, **options)
        return *grads, *(None for _ in mask)

    return outputs, gradient


def _first_gradient(query, key, value, outputs, log_sums, upstream, *mask, **options):
    inputs = (query, key, value)
    grads = _run(_backward, options, *inputs, outputs, log_sums, upstream, *mask)

    def gradient(*upstreams):
        # outputs and sums follow from the inputs, whose gradients here are the whole ones
        *d_inputs, d_upstream = _second_gradient(options, (*inputs, upstream), mask, upstreams)
        return *d_inputs, None, None, d_upstream, *(None for _ in mask)

    return grads, gradient


def _run(function, options, *tensors):
    """`function(*tensors, **options)`, a graph of its own where nothing is traced yet."""
    import tensorflow as tf

    # an eager tape would differentiate the loops, too
    tensors = tuple(tf.stop_gradient(x) for x in tensors)
    if not tf.executing_eagerly():
        return function(*tensors, **options)
    # an eager loop would copy all outputs whenever it writes a block of them
    signature = tuple(_any_length(x) for x in tensors)
    return _traced(function, tuple(options.items()), signature)(*tensors)


@functools.cache
def _traced(function, options, signature):
    """A graph that serves all lengths."""
    import tensorflow as tf

    function = functools.partial(function, **dict(options))
    return tf.function(function, input_signature=signature, autograph=False)


def _signature(tensors):
    """Of unknown lengths, all layers share one graph; known ones save it what depends on them."""
    if any(x.shape[-2] is None for x in tensors):
        return [_any_length(x) for x in tensors]
    return [any_size(x) for x in tensors]


def _any_length(x):
    import tensorflow as tf

    if x.dtype == tf.bool:
        return tf.TensorSpec([1 if size == 1 else None for size in x.shape], x.dtype)
    return any_size(x, 0, 2)


def _second_gradient(options, tensors, mask, upstreams):
    """Of query, key, value and the first gradient's own upstream: that of the plain path."""
    import tensorflow as tf

    tensors = [tf.identity(x) for x in tensors]  # of one and the same, each has its share
    with tf.GradientTape() as outer:
        outer.watch(tensors)
        with tf.GradientTape() as inner:
            inner.watch(tensors[:3])
            outputs = plain(*tensors[:3], mask=mask[0] if mask else None, **options)
        grads = inner.gradient(outputs, tensors[:3], tensors[3])
    return outer.gradient(grads, tensors, upstreams)


@dataclass(frozen=True)
class _Cut:
    """An axis in blocks of one size. The last may begin inside of the one before.

    So nothing is padded, which would copy all of it, and all blocks have one static shape. Sizes
    are numbers where known when traced, else tensors.
    """

    length: Any
    size: Any
    count: Any

    @classmethod
    def of(cls, length, most: int) -> _Cut:
        if isinstance(length, int):
            count = max(-(-length // most), 1)
            return cls(length, -(-length // count), count)
        import tensorflow as tf

        count = tf.maximum(-(-length // most), 1)
        return cls(length, -(-length // count), count)

    def block(self, i):
        """Where block `i` begins, its places `[size]`, and whether each is in no block before."""
        import tensorflow as tf

        start = tf.minimum(i * self.size, self.length - self.size)
        places = start + tf.range(self.size)
        return start, places, places >= i * self.size


@dataclass(frozen=True)
class _Work:
    """Inputs by row. A row is a head of keys and values with all query heads that read them.

    Attributes:
        query: `[rows, h / g * t, d]`.
        key, value: `[rows, s, d]`, `[rows, s, e]`.
        mask: `[n or 1, h or 1, t or 1, s]`; None: all may be read.
        sizes: of the query, `(n, h, t, d)`.
        groups: `g`.
        queries, keys: how the middle axes are cut.
        dtype: of what is inside.
    """

    query: Any
    key: Any
    value: Any
    mask: Any
    causal: bool
    scale: float
    sizes: tuple[Any, ...]
    groups: int
    queries: _Cut
    keys: _Cut
    dtype: str

    @classmethod
    def of(cls, query, key, value, mask, causal: bool, scale: float) -> _Work:
        import tensorflow as tf

        sizes, (n, groups, s, _) = _sizes(query), _sizes(key)
        rows, heads = n * groups, sizes[1] // groups
        return cls(
            query=tf.reshape(query, (rows, heads * sizes[2], query.shape[-1])),
            key=tf.reshape(key, (rows, s, key.shape[-1])),
            value=tf.reshape(value, (rows, s, value.shape[-1])),
            mask=mask,
            causal=causal,
            scale=scale,
            sizes=sizes,
            groups=groups,
            queries=_Cut.of(heads * sizes[2], QUERY_BLOCK),
            keys=_Cut.of(s, KEY_BLOCK),
            dtype=_inner_dtype(query.dtype),
        )

    @property
    def rows(self):
        return self.sizes[0] * self.groups

    def by_row(self, x):
        """`[n, h, t, e]` as `[rows, h / g * t, e]`."""
        import tensorflow as tf

        return tf.reshape(x, (self.rows, self.queries.length, x.shape[-1]))

    def piece(self, x, row, cut: _Cut, start):
        """A block of a row of `x`, in the inner dtype."""
        import tensorflow as tf

        block = tf.slice(x, (row, start, 0), (1, cut.size, x.shape[-1]))
        return tf.cast(tf.reshape(block, (cut.size, x.shape[-1])), self.dtype)

    def query_block(self, row, i) -> _Queries:
        import tensorflow as tf

        (_, heads, t, _), s = self.sizes, self.keys.length
        start, places, fresh = self.queries.block(i)
        scaled = self.piece(self.query, row, self.queries, start) * self.scale
        scaled = tf.concat([scaled, tf.ones_like(scaled[:, :1])], -1)
        positions, key_blocks = places % t, self.keys.count
        if self.causal:
            end = tf.reduce_max(positions) + (s - t) + 1  # of the keys that any of them reads
            size = tf.maximum(self.keys.size, 1)  # without keys it is 0
            key_blocks = tf.clip_by_value(-(-end // size), 0, key_blocks)
        head = row % self.groups * (heads // self.groups) + places // t
        rows = self._mask_rows(row // self.groups, head, positions)
        return _Queries(start, fresh, scaled, positions, rows, key_blocks)

    def _mask_rows(self, n, heads, positions):
        """The mask of queries, `[size, s]`; `[1, s]` if it is padding; None without one."""
        import tensorflow as tf

        if self.mask is None:
            return None
        ns, hs, ts, width = _sizes(self.mask)
        if self.is_padding:
            rows = tf.reshape(tf.slice(self.mask, (n % ns, 0, 0, 0), (1, 1, 1, width)), (1, width))
        else:
            # an axis of size 1 is read at 0
            flat = tf.reshape(self.mask, (ns * hs * ts, width))
            rows = tf.gather(flat, (n % ns * hs + heads % hs) * ts + positions % ts)
        return tf.broadcast_to(rows, (tf.shape(rows)[0], self.keys.length))

    @property
    def is_padding(self) -> bool:
        return self.mask is not None and tuple(self.mask.shape[1:3]) == (1, 1)

    def logits(self, queries: _Queries, row, j):
        """Logits of queries and key block `j`, `[size, keys.size]`; that block; its start."""
        import tensorflow as tf

        start, places, readable = self.keys.block(j)
        key = self.piece(self.key, row, self.keys, start)
        if self.is_padding:
            readable &= tf.slice(queries.mask, (0, start), (1, self.keys.size))[0]
        # whether a key may be read rides in the product, one column more, and costs nothing there
        never = tf.where(readable, tf.zeros((), self.dtype), _NEVER)
        logits = tf.matmul(queries.scaled, tf.concat([tf.transpose(key), never[None]], 0))
        if self.mask is not None and not self.is_padding:
            size = (self.queries.size, self.keys.size)
            logits = tf.where(tf.slice(queries.mask, (0, start), size), logits, _NEVER)
        if self.causal:
            offset = self.keys.length - self.sizes[2]
            logits = tf.cond(
                start + self.keys.size - 1 > tf.reduce_min(queries.positions) + offset,
                lambda: tf.where(_is_past(queries.positions, places, offset), logits, _NEVER),
                lambda: logits,
            )
        return logits, key, start


@dataclass(frozen=True)
class _Queries:
    """A block of queries of one row.

    Attributes:
        start, fresh: see `_Cut.block`.
        scaled: `[size, d + 1]`; the last column is 1.
        positions: in their sequence, `[size]`.
        mask: `[size, s]`, or `[1, s]` if it is padding, or None.
        key_blocks: how many of the first ones to read.
    """

    start: Any
    fresh: Any
    scaled: Any
    positions: Any
    mask: Any
    key_blocks: Any


def _forward(query, key, value, mask=None, *, causal: bool, scale: float):
    """Outputs `[n, h, t, e]` and logarithms of the sums of weights, `[n, h, t, 1]`.

    The latter are very large for queries that may read no key, so that all weights are 0.
    """
    import tensorflow as tf

    work = _Work.of(query, key, value, mask, causal, scale)
    size, length, width = work.queries.size, work.queries.length, work.value.shape[-1]

    def unit(i, outputs, log_sums):
        row = i // work.queries.count
        queries = work.query_block(row, i % work.queries.count)

        def step(j, top, total, summed):
            logits, _, start = work.logits(queries, row, j)
            value = work.piece(work.value, row, work.keys, start)
            new_top = tf.maximum(top, tf.reduce_max(logits, -1, keepdims=True))
            weights, kept = tf.exp(logits - new_top), tf.exp(top - new_top)
            total = total * kept + tf.reduce_sum(weights, -1, keepdims=True)
            return new_top, total, summed * kept + tf.matmul(weights, value)

        top = tf.fill((size, 1), tf.constant(_NEVER, work.dtype))
        start = (top, tf.zeros((size, 1), work.dtype), tf.zeros((size, width), work.dtype))
        top, total, summed = _loop(queries.key_blocks, step, *start)
        reads = top > _NEVER / 2
        total = tf.maximum(total, 1)  # as it is, if there is a key: the largest logit's weight is 1
        new = summed / total * tf.cast(reads, work.dtype)
        log_sum = tf.where(reads, top + tf.math.log(total), -_NEVER)
        start = row * length + queries.start
        return _write(outputs, start, new), _write(log_sums, start, log_sum)

    outputs = _to_fill((work.rows * length, width), work.query.dtype)
    log_sums = _to_fill((work.rows * length, 1), work.dtype)
    turns = work.rows * work.queries.count
    outputs, log_sums = _loop(turns, unit, outputs, log_sums, parallel=PARALLEL)
    sizes = work.sizes[:3]
    return tf.reshape(outputs, (*sizes, width)), tf.reshape(log_sums, (*sizes, 1))


def _backward(
    query, key, value, outputs, log_sums, upstream, mask=None, *, causal: bool, scale: float
):
    """Gradients of query, key and value."""
    import tensorflow as tf

    work = _Work.of(query, key, value, mask, causal, scale)
    kept = [work.by_row(x) for x in (outputs, log_sums, upstream)]

    def one_row(row, *grads):
        def unit(i, d_query, d_key, d_value):
            queries = work.query_block(row, i)
            pieces = (work.piece(x, row, work.queries, queries.start) for x in kept)
            output, log_sum, d_output = pieces
            # what the block before has done adds nothing again
            d_output *= tf.cast(queries.fresh, work.dtype)[:, None]
            shared = tf.reduce_sum(output * d_output, -1, keepdims=True)

            def step(j, d_block, d_key, d_value):
                logits, key, start = work.logits(queries, row, j)
                value = work.piece(work.value, row, work.keys, start)
                weights = tf.exp(logits - log_sum)
                d_logits = weights * (tf.matmul(d_output, value, transpose_b=True) - shared)
                new_key = tf.matmul(d_logits, queries.scaled[:, :-1], transpose_a=True)
                new_value = tf.matmul(weights, d_output, transpose_a=True)
                d_block += tf.matmul(d_logits, key)
                return d_block, _add(d_key, start, new_key), _add(d_value, start, new_value)

            start = tf.zeros_like(queries.scaled[:, :-1])
            d_block, d_key, d_value = _loop(queries.key_blocks, step, start, d_key, d_value)
            return _add(d_query, queries.start, d_block * work.scale), d_key, d_value

        # of one row, so that rows do not wait for each other
        start = (_to_fill(tf.shape(x)[1:], work.dtype) for x in inputs)
        new = _loop(work.queries.count, unit, *start)
        return [_write(x, row, y[None]) for x, y in zip(grads, new, strict=True)]

    inputs = (work.query, work.key, work.value)
    grads = (_to_fill(tf.shape(x), x.dtype) for x in inputs)
    grads = _loop(work.rows, one_row, *grads, parallel=PARALLEL)
    return [tf.reshape(g, tf.shape(x)) for g, x in zip(grads, (query, key, value), strict=True)]


def _loop(turns, body, *state, parallel: int = 1):
    """The state after `state = body(i, *state)` for each `i`; its shapes stay as they are."""
    import tensorflow as tf

    def turn(i, *before):
        after = body(i, *before)
        for new, old in zip(after, before, strict=True):
            new.set_shape(old.shape)
        return i + 1, *after

    loop = tf.while_loop(lambda i, *_: i < turns, turn, (0, *state), parallel_iterations=parallel)
    return loop[1:]


def _to_fill(shape, dtype):
    """Zeros that `_write` fills in place; `tf.zeros` may become a constant that the graph keeps."""
    import tensorflow as tf

    return tf.raw_ops.Empty(shape=shape, dtype=dtype, init=True)


def _add(x, start, rows):
    import tensorflow as tf

    return _write(x, start, tf.slice(x, (start, 0), tf.shape(rows)) + rows)


def _write(x, start, rows):
    """`x` with `rows` from `start` on, in place where nothing else holds `x`.

    TensorFlow's `tensor_scatter_nd_update` copies all of `x` each time, and the operation that does
    not cannot be compiled by XLA, which updates either in place.
    """
    import tensorflow as tf

    count, rows = tf.shape(rows)[0], tf.cast(rows, x.dtype)
    if in_xla():
        return tf.tensor_scatter_nd_update(x, (start + tf.range(count))[:, None], rows)
    return tf.raw_ops.TensorStridedSliceUpdate(
        input=x, begin=[start], end=[start + count], strides=[1], value=rows
    )


def _sizes(x) -> tuple[Any, ...]:
    """Sizes of the axes: numbers where known, else tensors."""
    import tensorflow as tf

    dynamic = tf.shape(x)
    return tuple(dynamic[i] if size is None else size for i, size in enumerate(x.shape))
