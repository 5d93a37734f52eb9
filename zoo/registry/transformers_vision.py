"""The vision towers among transformers' model types; see `transformers_types`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from zoo.errors import ConfigError
from zoo.registry.transformers_types import Fields, ModelType, activation, problem, their_activation
from zoo.typed import Size, fits


def _pair(size: Any) -> tuple[int, int]:
    if not fits(size, tuple[Size, Size]):
        raise ConfigError(f"image_size is {size!r:.100}; an edge, or height and width, expected.")
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def _edge(pair: Any) -> Any:
    height, width = pair
    return height if height == width else [height, width]


def _ratio(hidden: int, width: int) -> float:
    """The multiple of `width` whose whole part is `hidden`, which dividing may miss by a bit."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


_BACKBONE = dict.fromkeys(
    ("apply_layernorm", "reshape_hidden_states", "out_features", "out_indices"),
    "of backbones, which give maps of their own",
)
_MASKED = {"encoder_stride": "of masked images"}
_PROJECTION = {"projection_dim": "of the classes that have a projection, which use it"}

_VISION = {
    "hidden_size": "embed_dim",
    "num_hidden_layers": "depth",
    "num_attention_heads": "num_heads",
    "patch_size": "patch_size",
    "num_channels": "in_chans",
    "layer_norm_eps": "norm_eps",
}
_SIZES = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 16,
}
_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def _vision(keys: Mapping[str, Any]) -> Fields:
    width = keys["hidden_size"]
    dropout = keys.get("hidden_dropout_prob", 0.0)
    attention = keys.get("attention_probs_dropout_prob", keys.get("attention_dropout", 0.0))
    return {
        "img_size": _pair(keys["image_size"]),
        "act_layer": activation(keys["hidden_act"]),
        "mlp_ratio": _ratio(keys["intermediate_size"], width)
        if "intermediate_size" in keys
        else float(keys["mlp_ratio"]),
        "pos_drop_rate": dropout,
        "proj_drop_rate": dropout,
        "attn_drop_rate": attention,
    } | ({"problem_type": stated} if (stated := problem(keys)) else {})


def _from_vision(fields: Mapping[str, Any]) -> dict[str, Any]:
    stated = fields["problem_type"]
    return ({} if stated is None else {"problem_type": stated}) | {
        "image_size": _edge(fields["img_size"]),
        "hidden_act": their_activation(fields["act_layer"]),
        "intermediate_size": int(fields["embed_dim"] * fields["mlp_ratio"]),
    }


def _vit(keys: Mapping[str, Any]) -> Fields:
    if keys.get("pooler_output_size") not in (None, keys["hidden_size"]):
        raise ConfigError(f"pooler_output_size={keys['pooler_output_size']} is not the width.")
    return _vision(keys) | {"pooler_act": activation(keys["pooler_act"])}


def _from_vit(fields: Mapping[str, Any]) -> dict[str, Any]:
    pooler = fields["pooler_act"] or "tanh"
    return _from_vision(fields) | _from_dropout(fields) | {"pooler_act": their_activation(pooler)}


def _from_dropout(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "hidden_dropout_prob": fields["proj_drop_rate"],
        "attention_probs_dropout_prob": fields["attn_drop_rate"],
    }


def _dinov2(keys: Mapping[str, Any]) -> Fields:
    fields = _vision(keys)
    if keys["use_swiglu_ffn"]:
        width = keys["hidden_size"]
        packed = {"mlp_layer": "swiglu_packed", "act_layer": "silu"}
        hidden = 2 * _gated(int(width * keys["mlp_ratio"]))  # gate and values
        fields |= packed | {"mlp_ratio": _ratio(hidden, width)}
    return fields


def _from_dinov2(fields: Mapping[str, Any]) -> dict[str, Any]:
    keys = _from_vision(fields) | _from_dropout(fields)
    hidden, width = keys.pop("intermediate_size"), fields["embed_dim"]
    keys["use_swiglu_ffn"] = fields["mlp_layer"] == "swiglu_packed"
    if keys["use_swiglu_ffn"]:
        keys["hidden_act"] = "gelu"  # which is not read
        widths = ((ratio, 2 * _gated(width * ratio)) for ratio in range(1, 33))
    else:
        widths = ((ratio, width * ratio) for ratio in range(1, 33))
    keys["mlp_ratio"] = next((ratio for ratio, w in widths if w == hidden), None)
    if keys["mlp_ratio"] is None:
        raise ConfigError(f"transformers' DINOv2 has whole ratios alone: {hidden} of {width}.")
    return keys


def _gated(hidden: int) -> int:
    """Two thirds of the width, to a multiple of 8."""
    return (int(hidden * 2 / 3) + 7) // 8 * 8


def _siglip(keys: Mapping[str, Any]) -> Fields:
    # without the head there is nothing after the last norm; one vector is the tokens' average
    pooling = {"global_pool": "map"} if keys["vision_use_head"] else _AVERAGE
    return _vision(keys) | pooling


def _from_tower(fields: Mapping[str, Any]) -> dict[str, Any]:
    return _from_vision(fields) | {"attention_dropout": fields["attn_drop_rate"]}


_AVERAGE: Fields = {"global_pool": "avg", "fc_norm": False}
_CLS_SLOT = {"pos_resample": "bicubic"}
_DINO_DEFAULTS = (
    _SIZES
    | _DROPOUT
    | {
        "mlp_ratio": 4,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "qkv_bias": True,
        "layerscale_value": 1.0,
        "drop_path_rate": 0.0,
        "use_swiglu_ffn": False,
    }
)
_VIT_DEFAULTS = (
    _SIZES
    | _DROPOUT
    | {
        "intermediate_size": 3072,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "qkv_bias": True,
        "pooler_act": "tanh",
        "pooler_output_size": None,
    }
)
_DINO_SAME = _VISION | {
    "qkv_bias": "qkv_bias",
    "layerscale_value": "init_values",
    "drop_path_rate": "drop_path_rate",
}
_CLASSIFIER: Fields = {"pooler_act": None}
PROJECTION: Fields = {"head_bias": False}

VISION: dict[str, ModelType] = {
    "vit": ModelType(
        defaults=_VIT_DEFAULTS,
        same=_VISION | {"qkv_bias": "qkv_bias"},
        fields=_CLS_SLOT,
        derive=_vit,
        revert=_from_vit,
        heads={"ViTModel": {}, "ViTForImageClassification": _CLASSIFIER},
        idle=_MASKED,
    ),
    "deit": ModelType(
        defaults=_VIT_DEFAULTS,
        same=_VISION | {"qkv_bias": "qkv_bias"},
        fields=_CLS_SLOT | {"dist_token": True},
        derive=_vit,
        revert=_from_vit,
        heads={
            "DeiTModel": {},
            "DeiTForImageClassification": _CLASSIFIER,
            "DeiTForImageClassificationWithTeacher": _CLASSIFIER | {"dist_head": True},
        },
        idle=_MASKED,
    ),
    "dinov2": ModelType(
        defaults=_DINO_DEFAULTS | {"patch_size": 14},
        same=_DINO_SAME,
        fields={"pos_resample": "bicubic", "dynamic_img_size": True, "whole_patches": False},
        derive=_dinov2,
        revert=_from_dinov2,
        heads={
            "Dinov2Model": {},
            "Dinov2ForImageClassification": {"global_pool": "cat_token_avg"},
        },
        idle=_BACKBONE | {"use_mask_token": "of masked images"},
    ),
    "dinov2_with_registers": ModelType(
        defaults=_DINO_DEFAULTS | {"num_register_tokens": 4},
        same=_DINO_SAME | {"num_register_tokens": "reg_tokens"},
        fields={"dynamic_img_size": True, "whole_patches": False, "no_embed_reg": True},
        derive=_dinov2,
        revert=_from_dinov2,
        heads={
            "Dinov2WithRegistersModel": {},
            "Dinov2WithRegistersForImageClassification": {"global_pool": "cat_token_avg"},
        },
        idle=_BACKBONE,
    ),
    "clip_vision_model": ModelType(
        defaults=_SIZES
        | {
            "patch_size": 32,
            "intermediate_size": 3072,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
            "attention_dropout": 0.0,
            "projection_dim": 512,
        },
        same=_VISION,
        fields=_CLS_SLOT | {"pre_norm": True},
        derive=_vision,
        revert=_from_tower,
        heads={"CLIPVisionModel": {}, "CLIPVisionModelWithProjection": PROJECTION},
        idle=_PROJECTION,
    ),
    "siglip_vision_model": ModelType(
        defaults=_SIZES
        | {
            "intermediate_size": 3072,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6,
            "attention_dropout": 0.0,
            "vision_use_head": True,
        },
        same=_VISION,
        fields=_CLS_SLOT | {"class_token": False},
        derive=_siglip,
        revert=lambda fields: (
            _from_tower(fields) | {"vision_use_head": fields["global_pool"] == "map"}
        ),
        heads={
            "SiglipVisionModel": {},
            "SiglipForImageClassification": _AVERAGE,
        },
    ),
}
