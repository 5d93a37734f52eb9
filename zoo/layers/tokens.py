"""Images as sequences of tokens: patches, learned tokens, positions, and the ways back."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from zoo.errors import InputError
from zoo.layers.attention import attended, heads_first, heads_last
from zoo.layers.base import Layer, Shape, build_chain, choose, register, run_chain
from zoo.layers.convolution import Conv2D
from zoo.layers.kernels.checks import whole_patches
from zoo.layers.linear import Dense, small_normal
from zoo.layers.mlp import Mlp
from zoo.layers.normalization import norm_type
from zoo.layers.position import check_method, resample


@register
class PatchEmbed(Layer):
    """Images `[n, h, w, c]` to a map of patches `[n, h / patch, w / patch, width]`.

    Args:
        width: features per patch.
        patch: edge of a patch, in pixels.
        use_bias: of the projection.
        norm: norm of the patches by name, or None; `norm_eps` is its epsilon.
        pad: zeros at the right and the bottom up to whole patches.
        whole: refuse images of other than whole patches; else the rest of them is left out.

    Raises:
        InputError: such an image, with `whole`, and without `pad`. Where the size is known only
            when a graph runs, TensorFlow raises its `InvalidArgumentError`.
    """

    width: int
    patch: int
    use_bias: bool = True
    norm_layer: str | None = None
    norm_eps: float = 1e-6
    pad: bool = False
    whole: bool = False

    def setup(self) -> None:
        norm = self.norm_layer and self.child(
            norm_type(self.norm_layer), epsilon=self.norm_eps, name="norm"
        )
        proj = self.child(
            Conv2D,
            self.width,
            self.patch,
            strides=self.patch,
            pad=0,
            use_bias=self.use_bias,
            kernel_initializer=small_normal(),
            name="proj",
        )
        self.chain = [proj, norm]

    def build(self, input_shape: Shape) -> None:
        self._check(input_shape[1:3])
        build_chain(input_shape, *self.chain)
        self.built = True

    def call(self, inputs):
        if self.pad:
            ends = [(0, -edge % self.patch) for edge in ops.shape(inputs)[1:3]]
            inputs = ops.pad(inputs, ((0, 0), *ends, (0, 0)))
        elif self.whole:
            self._check(inputs.shape[1:3])
            if None in inputs.shape[1:3]:
                inputs = whole_patches(inputs, self.patch)
        return run_chain(inputs, *self.chain)

    def _check(self, edges: Shape) -> None:
        """Raise `InputError` for what are not whole patches, as far as the size is known."""
        wrong = any(edge is not None and edge % self.patch for edge in edges)
        if wrong and self.whole and not self.pad:
            raise InputError(
                f"Images of {edges[0]} x {edges[1]} pixels are not whole patches of {self.patch} x "
                f"{self.patch}. Take multiples of {self.patch}, or load the model with "
                "dynamic_img_pad=True, which fills images up."
            )

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        extra = self.patch - 1 if self.pad else 0
        edges = [None if e is None else (e + extra) // self.patch for e in input_shape[1:3]]
        return (input_shape[0], *edges, self.width)


@register
class TokenEmbeddings(Layer):
    """A map of patches `[n, rows, columns, d]` to tokens `[n, prefix + rows * columns, d]`.

    Learned tokens come first, in the order class, distillation, registers. Each position has a
    learned vector; the class and distillation tokens have slots among them, and so have registers.

    Args:
        grid: rows and columns of the learned positions.
        class_token, dist_token, reg_tokens: which learned tokens there are.
        positions: whether positions are learned at all.
        class_slots, reg_slots: whether the tokens have slots among the positions.
        resample: how positions fit another grid than `grid`; see `resample_matrix`.
    """

    grid: tuple[int, ...]
    class_token: bool = True
    dist_token: bool = False
    reg_tokens: int = 0
    positions: bool = True
    class_slots: bool = True
    reg_slots: bool = True
    resample: str = "bicubic_antialias"

    def setup(self) -> None:
        self.grid = tuple(self.grid)
        self.resample = check_method(self.resample)

    @property
    def learned_tokens(self) -> int:
        """Number of tokens before those of the patches."""
        return int(self.class_token) + int(self.dist_token) + self.reg_tokens

    @property
    def slots(self) -> int:
        """Number of positions before those of the grid."""
        heads = int(self.class_token) + int(self.dist_token)
        return heads * self.class_slots + self.reg_tokens * (self.class_slots and self.reg_slots)

    def build(self, input_shape: Shape) -> None:
        width = input_shape[-1]
        counts = {
            "cls_token": int(self.class_token),
            "dist_token": int(self.dist_token),
            "reg_token": self.reg_tokens,
        }
        self.tokens = [
            self.add_weight(name=name, shape=(1, count, width), initializer=small_normal())
            for name, count in counts.items()
            if count
        ]
        if self.positions:
            length = self.slots + self.grid[0] * self.grid[1]
            self.pos_embed = self.add_weight(
                name="pos_embed", shape=(1, length, width), initializer=small_normal()
            )
        self.built = True

    def call(self, patches):
        n, *grid, width = ops.shape(patches)
        x = ops.reshape(patches, (n, grid[0] * grid[1], width))
        learned = [ops.cast(token, self.compute_dtype) for token in self.tokens]
        prefix = ops.concatenate(learned, axis=1) if learned else None
        if self.positions:
            table = ops.cast(self.pos_embed, self.compute_dtype)
            x = x + self._fitted(table[:, self.slots :], grid)
            if prefix is not None:
                without = self.learned_tokens - self.slots  # at the end, with no position
                prefix = prefix + ops.pad(table[:, : self.slots], ((0, 0), (0, without), (0, 0)))
        if prefix is None:
            return x
        prefix = ops.broadcast_to(prefix, (n, self.learned_tokens, width))
        return ops.concatenate([prefix, x], axis=1)

    def _fitted(self, table: Any, grid: list[Any]) -> Any:
        """The grid's positions for a map of `grid` patches."""
        rows, columns = self.grid
        if all(isinstance(edge, int) for edge in grid) and list(grid) == [rows, columns]:
            return table
        return resample(table, (rows, columns), grid, self.resample)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        n, rows, columns, width = input_shape
        patches = None if rows is None or columns is None else rows * columns + self.learned_tokens
        return (n, patches, width)


@register
class TokenMap(Layer):
    """Tokens `[n, prefix + rows * columns, d]` back to a map `[n, rows, columns, d]`.

    Takes the tokens and the map of patches that they were made of.

    Args:
        prefix: number of learned tokens, which are left out.
        with_prefix: give the learned tokens `[n, prefix, d]` too.
    """

    prefix: int
    with_prefix: bool = False

    def call(self, tokens, patches):
        grid = ops.reshape(tokens[:, self.prefix :], ops.shape(patches))
        return (grid, tokens[:, : self.prefix]) if self.with_prefix else grid

    def compute_output_spec(self, tokens: Any, patches: Any) -> Any:
        grid = keras.KerasTensor(patches.shape, dtype=self.compute_dtype)
        prefix = (tokens.shape[0], self.prefix, tokens.shape[-1])
        return (grid, keras.KerasTensor(prefix, self.compute_dtype)) if self.with_prefix else grid


def _pooled(x: Any) -> tuple[Any, Any]:
    return ops.mean(x, axis=1), ops.max(x, axis=1)


# tokens [n, t, d], number of learned ones, first token that counts -> [n, d]
_POOLS = {
    "token": lambda x, prefix, first: x[:, 0],
    "avg": lambda x, prefix, first: ops.mean(x[:, first:], axis=1),
    "max": lambda x, prefix, first: ops.max(x[:, first:], axis=1),
    "avgmax": lambda x, prefix, first: 0.5 * sum(_pooled(x[:, first:])),
    "cat_token_avg": lambda x, prefix, first: ops.concatenate(
        [x[:, 0], ops.mean(x[:, prefix:], axis=1)], axis=-1
    ),
    "token_pair": lambda x, prefix, first: (0.5 * (x[:, 0] + x[:, 1]), x[:, 0], x[:, 1]),
}


# Which tokens at the places `[t]` these are made of, a maximum counted as a mean; likewise.
_READ = {
    "token": lambda places, prefix, first: [places < 1],
    "cat_token_avg": lambda places, prefix, first: [places < 1, places >= prefix],
    "token_pair": lambda places, prefix, first: [places < 2],
}


@register
class TokenPool(Layer):
    """One vector of a sequence: `[n, t, d] -> [n, d]`.

    Args:
        pool: `token` (the first), `avg`, `max`, `avgmax` (their mean), `cat_token_avg` (`[n, 2 d]`:
            the first token, and the mean of the patches), or `token_pair`: the mean of the first
            two tokens, and each of them, three results.
        prefix: number of learned tokens before the patches.
        include_prefix: whether means and maxima take the learned tokens in.

    Raises:
        ConfigError: no such pooling.
    """

    pool: str
    prefix: int
    include_prefix: bool = False

    def setup(self) -> None:
        self._call = choose("global_pool", self.pool, _POOLS)

    def call(self, inputs):
        return self._call(inputs, self.prefix, self.first)

    @property
    def first(self) -> int:
        """The first token that means and maxima take in."""
        return 0 if self.include_prefix else self.prefix

    def token_shares(self, maps: list[Any], count: int) -> Any:
        """See `zoo.layers.offers`."""
        read = _READ.get(self.pool, lambda places, prefix, first: [places >= first])
        parts = [ops.cast(p, "float32") for p in read(ops.arange(count), self.prefix, self.first)]
        return sum(part / ops.sum(part) for part in parts)[None] / len(parts)

    def compute_output_shape(self, input_shape: Shape) -> Any:
        n, _, width = input_shape
        shape = (n, 2 * width if self.pool == "cat_token_avg" else width)
        return (shape, shape, shape) if self.pool == "token_pair" else shape


@register
class AttentionPool(Layer):
    """Attention of one learned query to the tokens, and an MLP: `[n, t, d] -> [n, d]`.

    The multi-head attention pooling of Zhai et al., arXiv:2106.04560, section 3.

    Args:
        heads: number of heads.
        hidden: width of the MLP.
        act, norm_layer, norm_eps: activation of the MLP, and the norm before it.
        prefix: tokens at the start that are not read.
    """

    heads: int
    hidden: int
    act: str = "gelu"
    norm_layer: str = "layernorm"
    norm_eps: float = 1e-6
    prefix: int = 0
    attention_maps, signed_attention = 1, False

    def build(self, input_shape: Shape) -> None:
        width = input_shape[-1]
        self.latent = self.add_weight(
            name="latent", shape=(1, 1, width), initializer=small_normal()
        )
        self.q = self.child(Dense, width, name="q")
        self.kv = self.child(Dense, 2 * width, name="kv")
        self.proj = self.child(Dense, width, name="proj")
        norm = self.child(norm_type(self.norm_layer), epsilon=self.norm_eps, name="norm")
        self.branch = [norm, self.child(Mlp, self.hidden, act=self.act, name="mlp")]
        one = (None, 1, width)
        for layer, shape in ((self.q, one), (self.kv, input_shape), (self.proj, one)):
            layer.build(shape)
        build_chain(one, *self.branch)
        self.built = True

    def call(self, inputs):
        tokens = inputs[:, self.prefix :]
        n, _, width = ops.shape(tokens)
        query = self.q(ops.cast(self.latent, self.compute_dtype))
        query = ops.broadcast_to(query, (n, 1, width))
        key, value = ops.split(self.kv(tokens), 2, axis=-1)
        x = attended(*(heads_first(a, self.heads) for a in (query, key, value)))
        x = self.proj(heads_last(x))
        return (x + run_chain(x, *self.branch))[:, 0]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], input_shape[-1])

    def token_shares(self, maps: list[Any], count: int) -> Any:
        """See `zoo.layers.offers`."""
        return ops.pad(maps[0][:, 0], ((0, 0), (self.prefix, 0)))
