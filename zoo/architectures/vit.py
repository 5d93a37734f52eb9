"""Vision Transformers: ViT, DeiT, DINO, CLIP and SigLIP image towers, AIM, EVA, BEiT-3, RADIO.

Dosovitskiy et al., "An Image is Worth 16x16 Words", arXiv:2010.11929; DeiT, arXiv:2012.12877 and
arXiv:2204.07118; registers, arXiv:2309.16588; attention pooling, arXiv:2106.04560; parallel
blocks, arXiv:2302.05442 and arXiv:2203.09795; differential attention, arXiv:2410.05258. The
references are timm's modules `vision_transformer` and `deit`, whose names the layers have, and
transformers, whose names `vit_layouts` maps.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.architectures.base import Adapt, Architecture, Feature, Graph
from zoo.architectures.vit_layouts import LAYOUTS
from zoo.errors import ConfigError
from zoo.layers.activation import Activation, activation
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
from zoo.layers.convolution import adapt_channels
from zoo.layers.drop import DropPath, LayerScale, drop_path_rates
from zoo.layers.head import image_input
from zoo.layers.linear import Dense
from zoo.layers.mlp import mlp_type
from zoo.layers.normalization import norm_type
from zoo.layers.position import check_method, resampled_patches, resampled_table
from zoo.layers.tokens import AttentionPool, PatchEmbed, TokenEmbeddings, TokenMap, TokenPool


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Options of the family, in timm's terms.

    Attributes:
        img_size: height and width of the images, whose patches have learned positions.
        patch_size: edge of a patch, in pixels.
        in_chans, num_classes: 0 classes is no head.
        global_pool: `map` (see `AttentionPool`) or a kind of `TokenPool`; `token_pair` has a head
            for each of the first two tokens.
        embed_dim, depth, num_heads, mlp_ratio: width of the tokens, blocks, heads, and the MLPs'
            width as a multiple.
        qkv_bias, proj_bias, head_bias: whether the linear maps have a bias.
        qk_norm, scale_attn_norm, scale_mlp_norm: further norms in attention and MLP.
        init_values: start of the layer scale; None is none.
        class_token, dist_token, reg_tokens: learned tokens.
        pos_embed: `learn`, or `none`.
        no_embed_class, no_embed_reg: no positions for any learned token, or for registers alone.
        pos_resample: how positions fit another size; see `zoo.layers.position`.
        pre_norm, final_norm: norms before and after the blocks.
        fc_norm: the final norm comes after pooling; None: where the pooling is a mean or maximum.
        pool_include_prefix: learned tokens are pooled too.
        dynamic_img_size, dynamic_img_pad: take any size of whole patches; fill up to whole ones.
        drop_rate, pos_drop_rate, proj_drop_rate, attn_drop_rate, drop_path_rate: dropout before
            the head, of tokens, of the branches' outputs, of attention, and of whole branches.
        embed_norm_layer, norm_layer, norm_eps, act_layer: layers by name.
        block_fn, mlp_layer, attn_layer: one of `BLOCKS`, `MLPS`, `ATTENTIONS`.
        pooler_act: activation of one more dense layer after pooling, in networks without classes;
            None: no layer.
        return_prefix_tokens: each map of `features_only` is a pair: map, learned tokens.
    """

    img_size: tuple[int, int] = (224, 224)
    patch_size: int = 16
    in_chans: int = 3
    num_classes: int = 1000
    global_pool: str = "token"
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    proj_bias: bool = True
    head_bias: bool = True
    qk_norm: bool = False
    scale_attn_norm: bool = False
    scale_mlp_norm: bool = False
    init_values: float | None = None
    class_token: bool = True
    dist_token: bool = False
    reg_tokens: int = 0
    pos_embed: str = "learn"
    no_embed_class: bool = False
    no_embed_reg: bool = False
    pos_resample: str = "bicubic_antialias"
    pre_norm: bool = False
    final_norm: bool = True
    fc_norm: bool | None = None
    pool_include_prefix: bool = False
    dynamic_img_size: bool = False
    dynamic_img_pad: bool = False
    drop_rate: float = 0.0
    pos_drop_rate: float = 0.0
    proj_drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    embed_norm_layer: str | None = None
    norm_layer: str = "layernorm"
    norm_eps: float = 1e-6
    act_layer: str = "gelu"
    block_fn: str = "block"
    mlp_layer: str = "mlp"
    attn_layer: str = "attn"
    pooler_act: str | None = None
    return_prefix_tokens: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.img_size, int):  # as timm's configs may have it
            object.__setattr__(self, "img_size", (self.img_size, self.img_size))
        choose("pos_embed", self.pos_embed, dict.fromkeys(("learn", "none", "")))
        check_method(self.pos_resample)
        if self.global_pool in ("token", "token_pair", "cat_token_avg") and not self.class_token:
            raise ConfigError(
                f"global_pool={self.global_pool!r} reads the class token, and class_token is False."
            )
        if self.embed_dim % self.num_heads:
            raise ConfigError(
                f"embed_dim={self.embed_dim} cannot be cut into num_heads={self.num_heads} heads."
            )
        if min(self.grid) < 1:
            raise ConfigError(
                f"img_size={self.img_size} has no whole patch of patch_size={self.patch_size}."
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        extra = self.patch_size - 1 if self.dynamic_img_pad else 0
        height, width = ((edge + extra) // self.patch_size for edge in self.img_size)
        return height, width

    @property
    def norm_after_pool(self) -> bool:
        """Whether the final norm comes after pooling."""
        if self.fc_norm is not None:
            return self.fc_norm
        return self.global_pool in ("avg", "avgmax", "max")

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


# ---------------------------------------------------------------- blocks


class _Block(Layer):
    """What the kinds of blocks share: tokens `[n, t, d]` in and out, and the pieces of branches.

    Args:
        options: the config's fields.
        index: number of the block, from 0.
        drop_path: probability to drop a branch in training.
    """

    fields = ("options", "index", "drop_path")

    def __init__(self, options: dict, index: int, drop_path: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.options, self.index, self.drop_path = dict(options), index, drop_path
        self.config = ViTConfig(**{k: v for k, v in options.items() if k != "img_size"})

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
class ViTBlock(_Block):
    """Residual branches, one after another or side by side: `x + branch(x) + branch(x)`.

    The config's `block_fn` is one of `BRANCHES`.
    """

    def __init__(self, options: dict, index: int, drop_path: float, **kwargs: Any) -> None:
        super().__init__(options, index, drop_path, **kwargs)
        self.steps = choose("block_fn", self.config.block_fn, BRANCHES)(self)

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


def _pre_norm(block: _Block) -> list[list[Branch]]:
    attention = [block.norm("norm1"), block.attention("attn"), block.scale("ls1")]
    mlp = [block.norm("norm2"), block.mlp("mlp"), block.scale("ls2")]
    return [[[*attention, block.drop("drop_path1")]], [[*mlp, block.drop("drop_path2")]]]


def _post_norm(block: _Block) -> list[list[Branch]]:
    attention = [block.attention("attn"), block.norm("norm1"), block.drop("drop_path1")]
    return [[attention], [[block.mlp("mlp"), block.norm("norm2"), block.drop("drop_path2")]]]


def _side_by_side(block: _Block) -> list[list[Branch]]:
    def branch(name: str, kind: str) -> Branch:
        inner = block.attention if kind == "attn" else block.mlp
        ends = block.scale(f"{name}.ls"), block.drop(f"{name}.drop_path")
        return [block.norm(f"{name}.norm"), inner(f"{name}.{kind}"), *ends]

    return [[branch(f"{group}.{k}", kind) for k in range(2)] for group, kind in _SIDES]


_SIDES = (("attns", "attn"), ("ffns", "mlp"))
BRANCHES = {"block": _pre_norm, "res_post": _post_norm, "parallel_things": _side_by_side}


@register
class ParallelScalingBlock(_Block):
    """Attention and MLP of one and the same projection (Dehghani et al., arXiv:2302.05442)."""

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
        rates = (config.attn_drop_rate, config.proj_drop_rate)
        self.drops = [self.child(keras.layers.Dropout, rate) if rate else None for rate in rates]
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
        x = run_chain(self.act(x), self.drops[1])
        return inputs + run_chain(self._join(tokens, x), *self.tail)

    def _attend(self, query: Any, key: Any, value: Any, training: Any) -> Any:
        return attended(query, key, value, drop=self.drops[0], training=training)

    def _join(self, tokens: Any, x: Any) -> Any:
        return self.attn_out_proj(tokens) + self.mlp_out_proj(x)


@register
class DiffParallelScalingBlock(ParallelScalingBlock, Differential):
    """The parallel block with differential attention, and one way out of both halves."""

    def _build_heads(self, width: int) -> int:
        head = width // self.config.num_heads // 2
        self.build_difference(head, self.index)
        return head

    def _build_ways_out(self, width: int) -> None:
        self.out_proj = self.child(Dense, width, use_bias=self.config.proj_bias, name="out_proj")
        self.out_proj.build((None, None, width + self.config.hidden))

    def _attend(self, query: Any, key: Any, value: Any, training: Any) -> Any:
        return self.differ(query, key, value, drop=self.drops[0], training=training)

    def _join(self, tokens: Any, x: Any) -> Any:
        return self.out_proj(ops.concatenate([tokens, x], axis=-1))


BLOCKS: dict[str, type[_Block]] = {
    **dict.fromkeys(BRANCHES, ViTBlock),
    "parallel_scaling": ParallelScalingBlock,
    "diff_parallel_scaling": DiffParallelScalingBlock,
}


# ---------------------------------------------------------------- network

# fields of the config that blocks read
_BLOCK_OPTIONS = (
    *("embed_dim", "num_heads", "mlp_ratio", "qkv_bias", "proj_bias", "qk_norm"),
    *("scale_attn_norm", "scale_mlp_norm", "init_values", "proj_drop_rate", "attn_drop_rate"),
    *("norm_layer", "norm_eps", "act_layer", "block_fn", "mlp_layer", "attn_layer"),
)


def build(config: ViTConfig, input_size: tuple[int | None, int | None] = (None, None)) -> Graph:
    """The network's graph: patches and learned tokens, blocks, pooled head."""
    size = (None, None) if config.dynamic_img_size else config.img_size
    inputs = image_input(size, config.in_chans)
    patches, embeddings = _patches(config)(inputs), _embeddings(config)
    x = embeddings(patches)
    if config.pos_drop_rate:
        x = keras.layers.Dropout(config.pos_drop_rate, name="pos_drop")(x)
    if config.pre_norm:
        x = _norm(config, "norm_pre")(x)
    features = []
    for block in _blocks(config):
        x = block(x)
        feature = Feature(name=block.name, channels=config.embed_dim, reduction=config.patch_size)
        features.append((feature, x))
    if config.final_norm and not config.norm_after_pool:
        x = _norm(config, "norm")(x)

    def as_map(name: str, tokens: Any) -> Any:
        mapped = TokenMap(
            embeddings.prefix, with_prefix=config.return_prefix_tokens, name=f"{name}.map"
        )
        return mapped(tokens, patches)

    outputs = _head(config, embeddings.prefix, x)
    return Graph(inputs=inputs, outputs=outputs, features=tuple(features), as_map=as_map)


def _norm(config: ViTConfig, name: str) -> keras.layers.Layer:
    return norm_type(config.norm_layer)(epsilon=config.norm_eps, name=name)


def _patches(config: ViTConfig) -> PatchEmbed:
    return PatchEmbed(
        config.embed_dim,
        config.patch_size,
        use_bias=not config.pre_norm,  # the norm has one
        norm_layer=config.embed_norm_layer,
        norm_eps=config.norm_eps,
        pad=config.dynamic_img_pad,
        name="patch_embed",
    )


def _embeddings(config: ViTConfig) -> TokenEmbeddings:
    return TokenEmbeddings(
        config.grid,
        class_token=config.class_token,
        dist_token=config.dist_token,
        reg_tokens=config.reg_tokens,
        positions=config.pos_embed == "learn",
        class_slots=not config.no_embed_class,
        reg_slots=not config.no_embed_reg,
        resample=config.pos_resample,
        name="embeddings",
    )


def _blocks(config: ViTConfig) -> list[_Block]:
    kind = choose("block_fn", config.block_fn, BLOCKS)
    options = {name: getattr(config, name) for name in _BLOCK_OPTIONS}
    (rates,) = drop_path_rates(config.drop_path_rate, (config.depth,))
    return [kind(options, k, rate, name=f"blocks.{k}") for k, rate in enumerate(rates)]


def _head(config: ViTConfig, prefix: int, x: Any) -> Any:
    """Pooling, norm, dropout, logits: `[n, t, d] -> [n, num_classes]`."""
    if config.global_pool == "token_pair":
        return _distilled_head(config, prefix, x)
    if config.global_pool == "map":
        x = AttentionPool(
            config.num_heads,
            config.hidden,
            act=config.act_layer,
            norm_layer=config.norm_layer,
            norm_eps=config.norm_eps,
            prefix=0 if config.pool_include_prefix else prefix,
            name="attn_pool",
        )(x)
    else:
        include = config.pool_include_prefix
        x = TokenPool(config.global_pool, prefix, include_prefix=include, name="pool")(x)
    if config.final_norm and config.norm_after_pool:
        x = _norm(config, "fc_norm")(x)
    if config.pooler_act is not None and config.num_classes == 0:
        x = Dense(config.embed_dim, name="pooler.dense")(x)
        x = Activation(config.pooler_act, name="pooler.act")(x)
    x = keras.layers.Dropout(config.drop_rate, name="head_drop")(x)
    if config.num_classes == 0:
        return x
    return Dense(config.num_classes, use_bias=config.head_bias, name="head")(x)


def _distilled_head(config: ViTConfig, prefix: int, x: Any) -> Any:
    """Two heads, of the class and the distillation token, whose logits are averaged."""
    drop = keras.layers.Dropout(config.drop_rate, name="tokens_drop")
    mean, *pair = TokenPool("token_pair", prefix, name="head_drop")(drop(x))
    if config.num_classes == 0:
        return mean
    heads = (Dense(config.num_classes, name=name) for name in ("head", "head_dist"))
    logits = [head(token) for head, token in zip(heads, pair, strict=True)]
    return keras.layers.Average(name="heads")(logits)


# ---------------------------------------------------------------- other image sizes


def resize(config: ViTConfig, stated: ViTConfig) -> dict[str, Adapt]:
    """How a file's positions and patches fit the config's sizes, as timm does it.

    Args:
        stated: the config on the file's card, whose grid the file has, if it has as many positions;
            else a square one.
    """

    def positions(table: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        slots = shape[1] - math.prod(config.grid)
        count = table.shape[1] - slots
        edge = math.isqrt(max(count, 0))
        old = stated.grid if math.prod(stated.grid) == count else (edge, edge)
        return resampled_table(table, slots, old, config.grid, config.pos_resample)

    return {
        "embeddings.pos_embed": positions,
        "patch_embed.proj.kernel": lambda kernel, shape: resampled_patches(
            adapt_channels(kernel, shape), config.patch_size, config.pos_resample
        ),
    }


def own_layout(architecture: str, config: ViTConfig) -> str | None:
    """The layout of one of transformers' model types."""
    if architecture not in LAYOUTS:
        return None
    if config.global_pool == "token_pair":
        return f"{architecture}.distilled"
    gated = config.mlp_layer == "swiglu_packed"
    return f"{architecture}.swiglu" if gated else architecture


def suited(config: ViTConfig, tensors: Collection[str]) -> ViTConfig:
    """transformers' configs do not tell whether a file has the pooler."""
    absent = not any(name.endswith("pooler.dense.weight") for name in tensors)
    return dataclasses.replace(config, pooler_act=None) if absent else config


# ---------------------------------------------------------------- registration

FAMILY = Architecture(
    name="vit",
    config=ViTConfig,
    build=build,
    layouts=LAYOUTS,
    heads=("head", "head_dist"),
    embedding="head_drop",
    first_conv=lambda config: "patch_embed.proj",
    resize=resize,
    suited=suited,
    own_layout=own_layout,
    hints={
        "embeddings.pos_embed": "The file's position embedding is of another image size. Load it "
        "with input_size=... (the edge, or height and width, in pixels that you want) to have it "
        "resampled."
    },
    no_maths=("weight_init", "fix_init"),
)
