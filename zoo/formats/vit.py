"""How others write Vision Transformers: timm's names of weights, which the model has too; and the
config keys, classes and names of weights of transformers, for each of its model types."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from zoo.errors import ConfigError
from zoo.registry.config_keys import PROBLEM, Choice, Codec, Key, activation_key
from zoo.registry.dialect import (
    TIMM,
    TRANSFORMERS,
    Dialect,
    Formats,
    ModelClass,
    Recipe,
    ToldByFile,
    Variant,
)
from zoo.typed import Size, fits
from zoo.weights.mapping import (
    Arrays,
    Constant,
    Operation,
    Row,
    Rows,
    WeightMap,
    joined_rows,
    linear_rows,
    norm_rows,
    torch_rows,
)

TIMM_WEIGHTS = WeightMap(
    (
        Row("embeddings.*", "*"),
        *torch_rows(),
        Row("*.scale", "*.gamma"),
        Row("*.mlp_bias", "*.mlp_bias"),
        Row("*.lambda_*", "*.lambda_*"),
        Row("attn_pool.latent", "attn_pool.latent"),
    ),
    # SigLIP files keep their pooling where a model pools otherwise
    ignore=("attn_pool.*",),
)

# ---------------------------------------------------------------- weights: ViT, DeiT, DINOv2

_LAYER = "encoder.layer.*"


def _vit(block: Rows, heads: Rows) -> WeightMap:
    rows = (
        Row("embeddings.cls_token", "embeddings.cls_token"),
        Row("embeddings.dist_token", "embeddings.distillation_token"),
        Row("embeddings.reg_token", "embeddings.register_tokens"),
        Row("embeddings.pos_embed", "embeddings.position_embeddings"),
        *linear_rows("patch_embed.proj", "embeddings.patch_embeddings.projection"),
        *joined_rows("blocks.*.attn.qkv", f"{_LAYER}.attention.attention", "query", "key", "value"),
        *linear_rows("blocks.*.attn.proj", f"{_LAYER}.attention.output.dense"),
        *block,
        *norm_rows("norm", "layernorm"),
        *linear_rows("pooler.dense", "pooler.dense"),
        *heads,
    )
    return WeightMap(
        rows,
        constants=(Constant("embeddings.cls_token", "embeddings.mask_token"),),
        ignore=("pooler.*",),  # some files have one that no classifier reads
        heads=("classifier", "cls_classifier", "distillation_classifier"),
    )


def _dino_block(first: str, second: str) -> Rows:
    return (
        *norm_rows("blocks.*.norm1", f"{_LAYER}.norm1"),
        *norm_rows("blocks.*.norm2", f"{_LAYER}.norm2"),
        Row("blocks.*.ls1.scale", f"{_LAYER}.layer_scale1.lambda1"),
        Row("blocks.*.ls2.scale", f"{_LAYER}.layer_scale2.lambda1"),
        *linear_rows("blocks.*.mlp.fc1", f"{_LAYER}.mlp.{first}"),
        *linear_rows("blocks.*.mlp.fc2", f"{_LAYER}.mlp.{second}"),
    )


_VIT_BLOCK = (
    *norm_rows("blocks.*.norm1", f"{_LAYER}.layernorm_before"),
    *norm_rows("blocks.*.norm2", f"{_LAYER}.layernorm_after"),
    *linear_rows("blocks.*.mlp.fc1", f"{_LAYER}.intermediate.dense"),
    *linear_rows("blocks.*.mlp.fc2", f"{_LAYER}.output.dense"),
)
_CLASSIFIER = linear_rows("head", "classifier")
_DISTILLED = (
    *linear_rows("head", "cls_classifier"),
    *linear_rows("head_dist", "distillation_classifier"),
)

# ---------------------------------------------------------------- weights: CLIP and SigLIP


def _split_query(arrays: Arrays) -> Arrays:
    """The linear maps of the query, and of key and value, out of one of all three."""
    width = arrays[0].shape[0] // 3
    return [arrays[0][:width].T, arrays[0][width:].T]


SPLIT_QUERY = Operation(
    "split query", _split_query, lambda arrays: [np.concatenate([a.T for a in arrays])]
)
TABLE = Operation("table", lambda arrays: [arrays[0][None]], lambda arrays: [arrays[0][0]])
TOKEN = Operation("token", lambda arrays: [arrays[0][None, None]], lambda arrays: [arrays[0][0, 0]])


def _tower(head: str) -> WeightMap:
    layer = "encoder.layers.*"
    rows = (
        Row("embeddings.cls_token", "embeddings.class_embedding", TOKEN),
        Row("embeddings.pos_embed", "embeddings.position_embedding.weight", TABLE),
        *linear_rows("patch_embed.proj", "embeddings.patch_embedding"),
        *norm_rows("norm_pre", "pre_layrnorm"),
        *joined_rows("blocks.*.attn.qkv", f"{layer}.self_attn", "q_proj", "k_proj", "v_proj"),
        *linear_rows("blocks.*.attn.proj", f"{layer}.self_attn.out_proj"),
        *norm_rows("blocks.*.norm1", f"{layer}.layer_norm1"),
        *norm_rows("blocks.*.norm2", f"{layer}.layer_norm2"),
        *linear_rows("blocks.*.mlp.fc1", f"{layer}.mlp.fc1"),
        *linear_rows("blocks.*.mlp.fc2", f"{layer}.mlp.fc2"),
        *norm_rows("norm", "post_layernorm"),
        Row("attn_pool.latent", "head.probe"),
        *(
            Row(
                (f"attn_pool.q.{ours}", f"attn_pool.kv.{ours}"),
                f"head.attention.in_proj_{theirs}",
                SPLIT_QUERY,
            )
            for ours, theirs in (("kernel", "weight"), ("bias", "bias"))
        ),
        *linear_rows("attn_pool.proj", "head.attention.out_proj"),
        *norm_rows("attn_pool.norm", "head.layernorm"),
        *linear_rows("attn_pool.mlp.fc1", "head.mlp.fc1"),
        *linear_rows("attn_pool.mlp.fc2", "head.mlp.fc2"),
        *linear_rows("head", head),
    )
    return WeightMap(
        rows,
        constants=(Constant("embeddings.pos_embed", "embeddings.position_ids"),),  # of older files
        ignore=("head.*",),  # the pooling: classifiers of SigLIP read none
        # the other half of a whole checkpoint, and the scale between the halves
        heads=(head, "text_model", "text_projection", "logit_scale", "logit_bias"),
    )


# ---------------------------------------------------------------- keys


def _pair(size: Any, keys: Any) -> tuple[int, int]:
    if not fits(size, tuple[Size, Size]):
        raise ConfigError(f"{size!r:.100}; an edge, or height and width, expected")
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def _edge(pair: tuple[int, int], fields: Any) -> Any:
    height, width = pair
    return height if height == width else [height, width]


def _ratio(hidden: int, width: int) -> float:
    """The multiple of `width` whose whole part is `hidden`, which dividing may miss by a bit."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


_HIDDEN = Codec(
    lambda hidden, keys: _ratio(hidden, keys["hidden_size"]),
    lambda ratio, fields: int(fields["embed_dim"] * ratio),
)


def _gated(hidden: int) -> int:
    """Gate and values of DINOv2's MLPs: two thirds of the width each, to a multiple of 8."""
    return 2 * ((int(hidden * 2 / 3) + 7) // 8 * 8)


def _read_ratio(ratio: Any, keys: Mapping[str, Any]) -> float:
    width = keys["hidden_size"]
    return _ratio(_gated(int(width * ratio)), width) if keys["use_swiglu_ffn"] else float(ratio)


def _write_ratio(ratio: float, fields: Mapping[str, Any]) -> int:
    width = fields["embed_dim"]
    hidden = int(width * ratio)
    gated = fields["mlp_layer"] == "swiglu_packed"
    for whole in range(1, 33):
        if (_gated(width * whole) if gated else width * whole) == hidden:
            return whole
    raise ConfigError(f"transformers' DINOv2 has whole ratios alone: {hidden} of {width}.")


def _pooler_width(size: Any, keys: Mapping[str, Any]) -> None:
    if size not in (None, keys["hidden_size"]):
        raise ConfigError(f"pooler_output_size={size} is not the width.")


_COMMON = (
    Key("hidden_size", "embed_dim", 768),
    Key("num_hidden_layers", "depth", 12),
    Key("num_attention_heads", "num_heads", 12),
    Key("num_channels", "in_chans", 3),
    Key("image_size", "img_size", 224, Codec(_pair, _edge)),
    Key("patch_size", "patch_size", 16),
    PROBLEM,
)
_DROPOUT = (
    Key("hidden_dropout_prob", ("proj_drop_rate", "pos_drop_rate"), 0.0),
    Key("attention_probs_dropout_prob", "attn_drop_rate", 0.0),
)
_INTERMEDIATE = Key("intermediate_size", "mlp_ratio", 3072, _HIDDEN)
_MASKED = {"encoder_stride": "of masked images"}
_BACKBONE = dict.fromkeys(
    ("apply_layernorm", "reshape_hidden_states", "out_features", "out_indices"),
    "of backbones, which give maps of their own",
)
_POOLER = ToldByFile("pooler_act", "pooler.dense.weight", None)

# ---------------------------------------------------------------- types

VIT = Dialect(
    library=TRANSFORMERS,
    prefix="vit.",
    weights=_vit(_VIT_BLOCK, _CLASSIFIER),
    keys=(
        *_COMMON,
        *_DROPOUT,
        _INTERMEDIATE,
        activation_key("hidden_act", "act_layer", "gelu"),
        Key("layer_norm_eps", "norm_eps", 1e-12),
        Key("qkv_bias", "qkv_bias", True),
        activation_key("pooler_act", "pooler_act", "tanh"),
        Key("pooler_output_size", None, None, Codec(read=_pooler_width)),
    ),
    fields={"pos_resample": "bicubic"},
    classes={
        "ViTModel": ModelClass(classes=0),
        "ViTForImageClassification": ModelClass(fields={"pooler_act": None}),
    },
    idle=_MASKED,
    told=(_POOLER,),
    processor="ViTImageProcessor",
)
DEIT = VIT.but(
    prefix="deit.",
    fields={"dist_token": True},
    variants={"distilled": Variant({"dist_head": True}, _vit(_VIT_BLOCK, _DISTILLED))},
    classes={
        "DeiTModel": ModelClass(classes=0),
        "DeiTForImageClassification": ModelClass(fields={"pooler_act": None}),
        "DeiTForImageClassificationWithTeacher": ModelClass(
            fields={"pooler_act": None, "dist_head": True}
        ),
    },
    processor="DeiTImageProcessor",
)
_DINO = Dialect(
    library=TRANSFORMERS,
    weights=_vit(_dino_block("fc1", "fc2"), _CLASSIFIER),
    variants={
        "swiglu": Variant(
            {"mlp_layer": "swiglu_packed"},
            _vit(_dino_block("weights_in", "weights_out"), _CLASSIFIER),
        )
    },
    keys=(
        *_COMMON,
        *_DROPOUT,
        Key("mlp_ratio", "mlp_ratio", 4, Codec(_read_ratio, _write_ratio)),
        activation_key("hidden_act", "act_layer", "gelu"),
        Choice(
            "use_swiglu_ffn",
            {False: {}, True: {"mlp_layer": "swiglu_packed", "act_layer": "silu"}},
            False,
            beside={True: {"hidden_act": "gelu"}},  # which is not read
        ),
        Key("layer_norm_eps", "norm_eps", 1e-6),
        Key("qkv_bias", "qkv_bias", True),
        Key("layerscale_value", "init_values", 1.0),
        Key("drop_path_rate", "drop_path_rate", 0.0),
    ),
    fields={"dynamic_img_size": True, "whole_patches": False},
    processor="BitImageProcessor",
)
_TOKEN_AND_AVERAGE = ModelClass(fields={"global_pool": "cat_token_avg"})
DINOV2 = _DINO.but(
    prefix="dinov2.",
    keys=(Key("patch_size", "patch_size", 14),),
    fields={"pos_resample": "bicubic"},
    classes={
        "Dinov2Model": ModelClass(classes=0),
        "Dinov2ForImageClassification": _TOKEN_AND_AVERAGE,
    },
    idle=_BACKBONE | {"use_mask_token": "of masked images"},
)
DINOV2_WITH_REGISTERS = _DINO.but(
    prefix="dinov2_with_registers.",
    keys=(Key("num_register_tokens", "reg_tokens", 4),),
    fields={"no_embed_reg": True},
    classes={
        "Dinov2WithRegistersModel": ModelClass(classes=0),
        "Dinov2WithRegistersForImageClassification": _TOKEN_AND_AVERAGE,
    },
    idle=_BACKBONE,
)
_TOWER = Dialect(
    library=TRANSFORMERS,
    prefix="vision_model.",
    always_prefixed=True,
    weights=_tower("visual_projection"),
    keys=(
        *_COMMON,
        _INTERMEDIATE,
        activation_key("hidden_act", "act_layer", "quick_gelu"),
        Key("layer_norm_eps", "norm_eps", 1e-5),
        Key("attention_dropout", "attn_drop_rate", 0.0),
    ),
    fields={"pos_resample": "bicubic"},
)
CLIP = _TOWER.but(
    keys=(Key("patch_size", "patch_size", 32), Key("projection_dim", None, 512)),
    fields={"pre_norm": True},
    classes={
        "CLIPVisionModel": ModelClass(classes=0),
        "CLIPVisionModelWithProjection": ModelClass(
            fields={"head_bias": False}, classes="projection_dim", projects=True
        ),
    },
    wholes={"clip": {"CLIPModel": "CLIPVisionModelWithProjection"}},
    processor="CLIPImageProcessor",
)

# without the head there is nothing after the last norm; one vector is the tokens' average
_AVERAGE = {"global_pool": "avg", "fc_norm": False}
SIGLIP = _TOWER.but(
    weights=_tower("classifier"),
    keys=(
        activation_key("hidden_act", "act_layer", "gelu_pytorch_tanh"),
        Key("layer_norm_eps", "norm_eps", 1e-6),
        Choice("vision_use_head", {True: {"global_pool": "map"}, False: _AVERAGE}, True),
    ),
    fields={"class_token": False},
    classes={
        "SiglipVisionModel": ModelClass(classes=0),
        "SiglipForImageClassification": ModelClass(fields=_AVERAGE, whole="siglip"),
    },
    wholes={"siglip": {"SiglipModel": "SiglipVisionModel"}},
    processor="SiglipImageProcessor",
)

FORMATS = Formats(
    dialects={
        "timm": Dialect(library=TIMM, weights=TIMM_WEIGHTS),
        "vit": VIT,
        "deit": DEIT,
        "dinov2": DINOV2,
        "dinov2_with_registers": DINOV2_WITH_REGISTERS,
        "clip_vision_model": CLIP,
        "siglip_vision_model": SIGLIP,
    },
    idle=("weight_init", "fix_init"),
    recipe=Recipe(
        layer_decay=0.75,
        weight_decay=0.05,
        label_smoothing=0.1,
        source="He et al., arXiv:2111.06377, table 9 (fine-tuning), without its mixup and cutmix, "
        "which want its 50 to 100 epochs",
    ),
)
