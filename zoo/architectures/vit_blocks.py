"""The blocks of Vision Transformers: attention and MLP, one after another or side by side.

Pre-norm blocks, arXiv:2010.11929; post-norm, arXiv:2111.09883; parallel blocks, arXiv:2203.09795
and arXiv:2302.05442; differential attention, arXiv:2410.05258. The layers have the names of timm's
module `vision_transformer`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from zoo.errors import ConfigError
from zoo.layers.activation import activation
from zoo.layers.attention import (
    Attention,
    Differential,
    DifferentialAttention,
    attended,
    heads_first,
    heads_last,
)
from zoo.layers.base import (
    Layer,
    Shape,
    Step,
    build_chain,
    choose,
    register,
    run_chain,
)
from zoo.layers.drop import DropPath, LayerScale
from zoo.layers.linear import Dense
from zoo.layers.mlp import mlp_type
from zoo.layers.normalization import norm_type
from zoo.layers.offers import Attends
from zoo.typed import Rate, Size


@dataclass(frozen=True, kw_only=True)
class BlockOptions:
    """What blocks read of a config, in timm's terms.

    Attributes:
        embed_dim, num_heads, mlp_ratio: width of the tokens, heads, and the MLPs' width as a
            multiple.
        qkv_bias, proj_bias: whether the linear maps have a bias.
        qk_norm, scale_attn_norm, scale_mlp_norm: further norms in attention and MLP.
        init_values: start of the layer scale; None is none.
        proj_drop_rate, attn_drop_rate: dropout of the branches' outputs, and of attention.
        norm_layer, norm_eps, act_layer: layers by name.
        block_fn, mlp_layer, attn_layer: one of `BLOCKS`, `MLPS`, `ATTENTIONS`.
    """

    embed_dim: Size = 768
    num_heads: Size = 12
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    proj_bias: bool = True
    qk_norm: bool = False
    scale_attn_norm: bool = False
    scale_mlp_norm: bool = False
    init_values: float | None = None
    proj_drop_rate: Rate = 0.0
    attn_drop_rate: Rate = 0.0
    norm_layer: str = "layernorm"
    norm_eps: float = 1e-6
    act_layer: str = "gelu"
    block_fn: str = "block"
    mlp_layer: str = "mlp"
    attn_layer: str = "attn"

    def __post_init__(self) -> None:
        if self.embed_dim % self.num_heads:
            raise ConfigError(
                f"embed_dim={self.embed_dim} cannot be cut into num_heads={self.num_heads} heads."
            )

    @property
    def hidden(self) -> int:
        """Width of the MLPs."""
        return int(self.embed_dim * self.mlp_ratio)

    @property
    def maps(self) -> dict[str, Any]:
        """The options of attention layers."""
        return {
            "qkv_bias": self.qkv_bias,
            "proj_bias": self.proj_bias,
            "qk_norm": self.qk_norm,
            "scale_norm": self.scale_attn_norm,
            "norm_layer": self.norm_layer,
            "norm_eps": self.norm_eps,
            "attn_drop": self.attn_drop_rate,
            "proj_drop": self.proj_drop_rate,
        }


class Block(Layer):
    """What the kinds of blocks share: tokens `[n, t, d]` in and out, and the pieces of branches.

    Args:
        options: the fields of `BlockOptions`.
        index: number of the block, from 0.
        drop_path: probability to drop a branch in training.
    """

    options: dict
    index: int
    drop_path: float

    def setup(self) -> None:
        self.options = dict(self.options)
        self.config = BlockOptions(**self.options)

    def norm(self, name: str) -> keras.layers.Layer:
        config = self.config
        return self.child(norm_type(config.norm_layer), epsilon=config.norm_eps, name=name)

    def attention(self, name: str) -> Layer:
        config = self.config
        make = choose("attn_layer", config.attn_layer, ATTENTIONS)
        return make(self, config.num_heads, name=name, **config.maps)

    def mlp(self, name: str) -> Layer:
        config = self.config
        return self.child(
            mlp_type(config.mlp_layer),
            config.hidden,
            act=config.act_layer,
            norm=config.norm_layer if config.scale_mlp_norm else None,
            norm_eps=config.norm_eps,
            use_bias=config.proj_bias,
            drop=config.proj_drop_rate,
            name=name,
        )

    def scale(self, name: str) -> LayerScale | None:
        value = self.config.init_values
        return self.child(LayerScale, value, name=name) if value else None

    def drop(self, name: str) -> DropPath | None:
        return self.child(DropPath, self.drop_path, name=name) if self.drop_path else None

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


ATTENTIONS: dict[str, Callable[..., Layer]] = {
    "attn": lambda block, heads, **options: block.child(Attention, heads, **options),
    "diff": lambda block, heads, **options: block.child(
        DifferentialAttention, heads, depth=block.index, **options
    ),
}


@register
class ViTBlock(Block):
    """Residual branches, one after another or side by side: `x + branch(x) + branch(x)`.

    The config's `block_fn` is one of `BRANCHES`.
    """

    def __init__(self, options: dict, index: int, drop_path: float, **kwargs: Any) -> None:
        super().__init__(options, index, drop_path, **kwargs)
        self.steps = choose("block_fn", self.config.block_fn, BRANCHES)(self)
        layers = [layer for branches in self.steps for branch in branches for layer in branch]
        attention = [layer for layer in layers if isinstance(layer, Attends)]
        self.attention_maps = sum(layer.attention_maps for layer in attention)
        self.signed_attention = any(layer.signed_attention for layer in attention)

    def build(self, input_shape: Shape) -> None:
        for branches in self.steps:
            for branch in branches:
                build_chain(input_shape, *branch)
        self.built = True

    def call(self, inputs):
        x = inputs
        for branches in self.steps:
            x = x + sum(run_chain(x, *branch) for branch in branches)
        return x


Branch = list[Step]


def _pre_norm(block: Block) -> list[list[Branch]]:
    attention = [block.norm("norm1"), block.attention("attn"), block.scale("ls1")]
    mlp = [block.norm("norm2"), block.mlp("mlp"), block.scale("ls2")]
    return [[[*attention, block.drop("drop_path1")]], [[*mlp, block.drop("drop_path2")]]]


def _post_norm(block: Block) -> list[list[Branch]]:
    attention = [block.attention("attn"), block.norm("norm1"), block.drop("drop_path1")]
    return [[attention], [[block.mlp("mlp"), block.norm("norm2"), block.drop("drop_path2")]]]


def _side_by_side(block: Block) -> list[list[Branch]]:
    def branch(name: str, kind: str) -> Branch:
        inner = block.attention if kind == "attn" else block.mlp
        ends = block.scale(f"{name}.ls"), block.drop(f"{name}.drop_path")
        return [block.norm(f"{name}.norm"), inner(f"{name}.{kind}"), *ends]

    return [[branch(f"{group}.{k}", kind) for k in range(2)] for group, kind in _SIDES]


_SIDES = (("attns", "attn"), ("ffns", "mlp"))
BRANCHES = {"block": _pre_norm, "res_post": _post_norm, "parallel_things": _side_by_side}


@register
class ParallelScalingBlock(Block):
    """Attention and MLP of one and the same projection (Dehghani et al., arXiv:2302.05442)."""

    attention_maps, signed_attention = 1, False

    def build(self, input_shape: Shape) -> None:
        config, width = self.config, input_shape[-1]
        self.head = self._build_heads(width)
        features = config.hidden + 3 * width
        self.in_norm = self.norm("in_norm")
        self.in_proj = self.child(Dense, features, use_bias=config.qkv_bias, name="in_proj")
        build_chain(input_shape, self.in_norm, self.in_proj)
        self.mlp_bias = None
        if not config.qkv_bias:
            self.mlp_bias = self.add_weight(
                name="mlp_bias", shape=(config.hidden,), initializer="zeros"
            )
        self.norms = [self.norm(name) for name in ("q_norm", "k_norm") if config.qk_norm]
        for norm in self.norms:
            norm.build((None, None, None, self.head))
        self._build_ways_out(width)
        self.tail = [self.scale("ls"), self.drop("drop_path")]
        build_chain(input_shape, *self.tail)
        self.attn_drop = self.drop_layer(config.attn_drop_rate, "attn_drop")
        self.mlp_drop = self.drop_layer(config.proj_drop_rate, "mlp_drop")
        self.act = activation(config.act_layer)
        self.built = True

    def _build_heads(self, width: int) -> int:
        """Features of a query, and what else attention needs."""
        return width // self.config.num_heads

    def _build_ways_out(self, width: int) -> None:
        for name, inputs in (("attn_out_proj", width), ("mlp_out_proj", self.config.hidden)):
            dense = self.child(Dense, width, use_bias=self.config.proj_bias, name=name)
            dense.build((None, None, inputs))
            setattr(self, name, dense)

    def call(self, inputs, training=None):
        width, hidden = inputs.shape[-1], self.config.hidden
        projected = self.in_proj(self.in_norm(inputs))
        places = [hidden, hidden + width, hidden + 2 * width]
        x, query, key, value = ops.split(projected, places, axis=-1)
        if self.mlp_bias is not None:
            x = x + ops.cast(self.mlp_bias, x.dtype)
        query, key = (heads_first(a, a.shape[-1] // self.head) for a in (query, key))
        if self.norms:
            query, key = self.norms[0](query), self.norms[1](key)
        value = heads_first(value, self.config.num_heads)
        tokens = heads_last(self._attend(query, key, value, training))
        x = run_chain(self.act(x), self.mlp_drop)
        return inputs + run_chain(self._join(tokens, x), *self.tail)

    def _attend(self, query: Any, key: Any, value: Any, training: Any) -> Any:
        return attended(query, key, value, drop=self.attn_drop, training=training)

    def _join(self, tokens: Any, x: Any) -> Any:
        return self.attn_out_proj(tokens) + self.mlp_out_proj(x)


@register
class DiffParallelScalingBlock(Differential, ParallelScalingBlock):
    """The parallel block with differential attention, and one way out of both halves."""

    def _build_heads(self, width: int) -> int:
        head = width // self.config.num_heads // 2
        self.build_difference(head, self.index)
        return head

    def _build_ways_out(self, width: int) -> None:
        self.out_proj = self.child(Dense, width, use_bias=self.config.proj_bias, name="out_proj")
        self.out_proj.build((None, None, width + self.config.hidden))

    def _attend(self, query: Any, key: Any, value: Any, training: Any) -> Any:
        return self.differ(query, key, value, drop=self.attn_drop, training=training)

    def _join(self, tokens: Any, x: Any) -> Any:
        return self.out_proj(ops.concatenate([tokens, x], axis=-1))


BLOCKS: dict[str, type[Block]] = {
    **dict.fromkeys(BRANCHES, ViTBlock),
    "parallel_scaling": ParallelScalingBlock,
    "diff_parallel_scaling": DiffParallelScalingBlock,
}
