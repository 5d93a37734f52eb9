"""Vision Transformers: ViT, DeiT, DINO, CLIP and SigLIP image towers, AIM, EVA, BEiT-3, RADIO.

Dosovitskiy et al., "An Image is Worth 16x16 Words", arXiv:2010.11929; DeiT, arXiv:2012.12877 and
arXiv:2204.07118; registers, arXiv:2309.16588; attention pooling, arXiv:2106.04560; parallel
blocks, arXiv:2302.05442 and arXiv:2203.09795; differential attention, arXiv:2410.05258. The
references are timm's modules `vision_transformer` and `deit`, whose names the layers have, and
transformers, whose names `zoo.formats.vit` has.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from zoo.architectures.base import Adapt, Architecture, Feature, Graph, LayerGroups
from zoo.architectures.vit_blocks import BLOCKS, Block, BlockOptions
from zoo.errors import ConfigError
from zoo.formats.vit import FORMATS
from zoo.layers.activation import Activation
from zoo.layers.base import choose
from zoo.layers.convolution import adapt_channels
from zoo.layers.drop import drop_path_rates
from zoo.layers.head import image_input
from zoo.layers.linear import Dense
from zoo.layers.normalization import norm_type
from zoo.layers.position import check_method, resampled_patches, resampled_table
from zoo.layers.tokens import AttentionPool, PatchEmbed, TokenEmbeddings, TokenMap, TokenPool
from zoo.registry.heads import PROBLEMS
from zoo.typed import Channels, Count, Depth, Rate, Size


@dataclass(frozen=True, kw_only=True)
class ViTConfig(BlockOptions):
    """Options of the family, in timm's terms; see also `BlockOptions`.

    Attributes:
        img_size: height and width of the images, whose patches have learned positions.
        patch_size: edge of a patch, in pixels.
        in_chans, num_classes: 0 classes is no head.
        global_pool: `map` (see `AttentionPool`) or a kind of `TokenPool`.
        depth: number of blocks.
        head_bias: whether the head has a bias.
        class_token, dist_token, reg_tokens: learned tokens.
        dist_head: a head for the class token and one for the distillation token.
        pos_embed: `learn`, or `none`.
        no_embed_class, no_embed_reg: no positions for any learned token, or for registers alone.
        pos_resample: how positions fit another size; see `zoo.layers.position`.
        pre_norm, final_norm: norms before and after the blocks.
        fc_norm: the final norm comes after pooling; None: where the pooling is a mean or maximum.
        pool_include_prefix: learned tokens are pooled too.
        dynamic_img_size, dynamic_img_pad: take any size of whole patches; fill up to whole ones.
        whole_patches: whether other sizes are refused with `dynamic_img_size`, as by timm, or what
            is more than whole patches is left out, as by transformers' DINOv2.
        drop_rate, pos_drop_rate, drop_path_rate: dropout before the head, of tokens, and of whole
            branches.
        embed_norm_layer: norm of the patches by name; None: none.
        pooler_act: activation of one more dense layer after pooling, in networks without classes;
            None: no layer.
        problem_type: what classes are, as of `BertConfig`.
        return_prefix_tokens: each map of `features_only` is a pair: map, learned tokens.
    """

    img_size: tuple[Size, Size] = (224, 224)
    patch_size: Size = 16
    in_chans: Channels = 3
    num_classes: Count = 1000
    global_pool: str = "token"
    depth: Depth = 12
    head_bias: bool = True
    class_token: bool = True
    dist_token: bool = False
    dist_head: bool = False
    reg_tokens: Count = 0
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
    whole_patches: bool = True
    drop_rate: Rate = 0.0
    pos_drop_rate: Rate = 0.0
    drop_path_rate: Rate = 0.0
    embed_norm_layer: str | None = None
    pooler_act: str | None = None
    problem_type: str | None = None
    return_prefix_tokens: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.img_size, int):  # as timm's configs may have it
            object.__setattr__(self, "img_size", (self.img_size, self.img_size))
        choose("pos_embed", self.pos_embed, dict.fromkeys(("learn", "none", "")))
        choose("problem_type", self.problem_type, dict.fromkeys((None, *PROBLEMS)))
        check_method(self.pos_resample)
        if self.global_pool in ("token", "cat_token_avg") and not self.class_token:
            raise ConfigError(
                f"global_pool={self.global_pool!r} reads the class token, and class_token is False."
            )
        if self.dist_head and not (self.class_token and self.dist_token):
            raise ConfigError("dist_head=True reads the class token and the distillation token.")
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


# ---------------------------------------------------------------- network


def build(config: ViTConfig, input_size: tuple[int | None, int | None] = (None, None)) -> Graph:
    """The network's graph: patches and learned tokens, blocks, pooled head."""
    size = input_size if config.dynamic_img_size else config.img_size
    if any(edge and edge % config.patch_size for edge in input_size):
        _warn_of_the_rest(config)
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
            embeddings.learned_tokens, with_prefix=config.return_prefix_tokens, name=f"{name}.map"
        )
        return mapped(tokens, patches)

    outputs = _head(config, embeddings.learned_tokens, x)
    return Graph(inputs=inputs, outputs=outputs, features=tuple(features), as_map=as_map)


def _warn_of_the_rest(config: ViTConfig) -> None:
    """Say what a network for one size leaves out of it, as timm's does without a word."""
    if not config.dynamic_img_size and not config.dynamic_img_pad:
        height, width = (edge % config.patch_size for edge in config.img_size)
        warnings.warn(
            f"input_size={config.img_size} is no multiple of the patches, {config.patch_size} x "
            f"{config.patch_size}: {height} rows and {width} columns of pixels are left out.",
            UserWarning,
            stacklevel=2,
        )


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
        whole=config.dynamic_img_size and config.whole_patches,
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


def _blocks(config: ViTConfig) -> list[Block]:
    kind = choose("block_fn", config.block_fn, BLOCKS)
    options = {f.name: getattr(config, f.name) for f in dataclasses.fields(BlockOptions)}
    (rates,) = drop_path_rates(config.drop_path_rate, (config.depth,))
    return [kind(options, k, rate, name=f"blocks.{k}") for k, rate in enumerate(rates)]


def _head(config: ViTConfig, prefix: int, x: Any) -> Any:
    """Pooling, norm, dropout, logits: `[n, t, d] -> [n, num_classes]`."""
    if config.dist_head:
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


# ---------------------------------------------------------------- registration

FAMILY = Architecture(
    name="vit",
    config=ViTConfig,
    build=build,
    formats=FORMATS,
    heads=("head", "head_dist"),
    embedding="head_drop",
    first_conv=lambda config: "patch_embed.proj",
    sizes=("img_size", "patch_size", "dynamic_img_pad"),
    resize=resize,
    hints={
        "embeddings.pos_embed": "The file's position embedding is of another image size. Load it "
        "with input_size=... (the edge, or height and width, in pixels that you want) to have it "
        "resampled."
    },
    groups=LayerGroups(
        patterns=(r"embeddings\.|patch_embed\.|norm_pre\.", r"blocks\.(\d+)\."),
        end=r"norm\.",
        no_decay=r"embeddings\.",
    ),
)
