"""The names of Vision Transformers' weights in timm and in transformers.

The model's own names are timm's. transformers has other ones for each of its model types, after a
prefix where the network has a head: a type has a layout with the prefix, and a `bare` one without.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

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

TIMM = WeightMap(
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


# ---------------------------------------------------------------- pieces of transformers' tables


def _split_query(arrays: Arrays) -> Arrays:
    """The linear maps of the query, and of key and value, out of one of all three."""
    width = arrays[0].shape[0] // 3
    return [arrays[0][:width].T, arrays[0][width:].T]


SPLIT_QUERY = Operation(
    "split query", _split_query, lambda arrays: [np.concatenate([a.T for a in arrays])]
)
TABLE = Operation("table", lambda arrays: [arrays[0][None]], lambda arrays: [arrays[0][0]])
TOKEN = Operation("token", lambda arrays: [arrays[0][None, None]], lambda arrays: [arrays[0][0, 0]])

# ---------------------------------------------------------------- ViT, DeiT, DINOv2


def _vit_block(layer: str) -> Rows:
    return (
        *norm_rows("blocks.*.norm1", f"{layer}.layernorm_before"),
        *norm_rows("blocks.*.norm2", f"{layer}.layernorm_after"),
        *linear_rows("blocks.*.mlp.fc1", f"{layer}.intermediate.dense"),
        *linear_rows("blocks.*.mlp.fc2", f"{layer}.output.dense"),
    )


def _dino_block(layer: str, first: str = "fc1", second: str = "fc2") -> Rows:
    return (
        *norm_rows("blocks.*.norm1", f"{layer}.norm1"),
        *norm_rows("blocks.*.norm2", f"{layer}.norm2"),
        Row("blocks.*.ls1.scale", f"{layer}.layer_scale1.lambda1"),
        Row("blocks.*.ls2.scale", f"{layer}.layer_scale2.lambda1"),
        *linear_rows("blocks.*.mlp.fc1", f"{layer}.mlp.{first}"),
        *linear_rows("blocks.*.mlp.fc2", f"{layer}.mlp.{second}"),
    )


def _gated_dino_block(layer: str) -> Rows:
    return _dino_block(layer, "weights_in", "weights_out")


_CLASSIFIER = linear_rows("head", "classifier")
_DISTILLED = (
    *linear_rows("head", "cls_classifier"),
    *linear_rows("head_dist", "distillation_classifier"),
)


def _vit(
    prefix: str, block: Callable[[str], Rows] = _vit_block, heads: Rows = _CLASSIFIER
) -> WeightMap:
    front, layer = f"{prefix}embeddings", f"{prefix}encoder.layer.*"
    rows = (
        Row("embeddings.cls_token", f"{front}.cls_token"),
        Row("embeddings.dist_token", f"{front}.distillation_token"),
        Row("embeddings.reg_token", f"{front}.register_tokens"),
        Row("embeddings.pos_embed", f"{front}.position_embeddings"),
        *linear_rows("patch_embed.proj", f"{front}.patch_embeddings.projection"),
        *joined_rows("blocks.*.attn.qkv", f"{layer}.attention.attention", "query", "key", "value"),
        *linear_rows("blocks.*.attn.proj", f"{layer}.attention.output.dense"),
        *block(layer),
        *norm_rows("norm", f"{prefix}layernorm"),
        *linear_rows("pooler.dense", f"{prefix}pooler.dense"),
        *heads,
    )
    # the pooler: some files have one that no classifier reads
    return WeightMap(
        rows,
        constants=(Constant("embeddings.cls_token", f"{front}.mask_token"),),
        ignore=(f"{prefix}pooler.*",),
    )


# ---------------------------------------------------------------- CLIP and SigLIP

# The other half of a whole checkpoint, and the scale between the halves.
TEXT = ("text_model.*", "text_projection.*", "logit_scale", "logit_bias")


def _tower(prefix: str, head: str) -> WeightMap:
    front, layer, pool = f"{prefix}embeddings", f"{prefix}encoder.layers.*", f"{prefix}head"
    rows = (
        Row("embeddings.cls_token", f"{front}.class_embedding", TOKEN),
        Row("embeddings.pos_embed", f"{front}.position_embedding.weight", TABLE),
        *linear_rows("patch_embed.proj", f"{front}.patch_embedding"),
        *norm_rows("norm_pre", f"{prefix}pre_layrnorm"),
        *joined_rows("blocks.*.attn.qkv", f"{layer}.self_attn", "q_proj", "k_proj", "v_proj"),
        *linear_rows("blocks.*.attn.proj", f"{layer}.self_attn.out_proj"),
        *norm_rows("blocks.*.norm1", f"{layer}.layer_norm1"),
        *norm_rows("blocks.*.norm2", f"{layer}.layer_norm2"),
        *linear_rows("blocks.*.mlp.fc1", f"{layer}.mlp.fc1"),
        *linear_rows("blocks.*.mlp.fc2", f"{layer}.mlp.fc2"),
        *norm_rows("norm", f"{prefix}post_layernorm"),
        Row("attn_pool.latent", f"{pool}.probe"),
        *(
            Row(
                (f"attn_pool.q.{ours}", f"attn_pool.kv.{ours}"),
                f"{pool}.attention.in_proj_{theirs}",
                SPLIT_QUERY,
            )
            for ours, theirs in (("kernel", "weight"), ("bias", "bias"))
        ),
        *linear_rows("attn_pool.proj", f"{pool}.attention.out_proj"),
        *norm_rows("attn_pool.norm", f"{pool}.layernorm"),
        *linear_rows("attn_pool.mlp.fc1", f"{pool}.mlp.fc1"),
        *linear_rows("attn_pool.mlp.fc2", f"{pool}.mlp.fc2"),
        *linear_rows("head", head),
    )
    # position_ids: a buffer of older files; the pooling: classifiers of SigLIP read none
    return WeightMap(
        rows,
        constants=(Constant("embeddings.pos_embed", f"{front}.position_ids"),),
        ignore=(*TEXT, f"{prefix}head.*"),
    )


LAYOUTS = {
    "timm": TIMM,
    "vit": _vit("vit."),
    "vit.bare": _vit(""),
    "deit": _vit("deit."),
    "deit.bare": _vit(""),
    "deit.distilled": _vit("deit.", heads=_DISTILLED),
    "dinov2": _vit("dinov2.", _dino_block),
    "dinov2.bare": _vit("", _dino_block),
    "dinov2.swiglu": _vit("dinov2.", _gated_dino_block),
    "dinov2.swiglu.bare": _vit("", _gated_dino_block),
    "dinov2_with_registers": _vit("dinov2_with_registers.", _dino_block),
    "dinov2_with_registers.bare": _vit("", _dino_block),
    "dinov2_with_registers.swiglu": _vit("dinov2_with_registers.", _gated_dino_block),
    "dinov2_with_registers.swiglu.bare": _vit("", _gated_dino_block),
    "clip_vision_model": _tower("vision_model.", "visual_projection"),
    "clip_vision_model.bare": _tower("", "visual_projection"),
    "siglip_vision_model": _tower("vision_model.", "classifier"),
    "siglip_vision_model.bare": _tower("", "classifier"),
}
