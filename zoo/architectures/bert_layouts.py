"""The names of text encoders' weights in transformers, for each of its model types.

The model's own names are those of `bert`. A checkpoint with a head has its base under a prefix, one
without has not: a `bare` layout. The oldest files call the parameters of norms `gamma` and `beta`:
a `legacy` one. Sentence embeddings are of bare files, with dense layers in files of their own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from zoo.architectures.text_heads import SENTENCE_ROWS, TOKENS
from zoo.weights.mapping import (
    KERNEL,
    SAME,
    Constant,
    Row,
    Rows,
    WeightMap,
    joined_rows,
    linear_rows,
    norm_rows,
)

Norm = Callable[[str, str], Rows]


# ---------------------------------------------------------------- blocks


def _bert_block(layer: str, norm: Norm) -> Rows:
    attention = f"{layer}.attention"
    return (
        *joined_rows("blocks.*.attn.qkv", f"{attention}.self", "query", "key", "value"),
        *linear_rows("blocks.*.attn.proj", f"{attention}.output.dense"),
        *norm("blocks.*.norm1", f"{attention}.output.LayerNorm"),
        *_feed_forward(layer, norm),
    )


def _mpnet_block(layer: str, norm: Norm) -> Rows:
    attention = f"{layer}.attention"
    return (
        *joined_rows("blocks.*.attn.qkv", f"{attention}.attn", "q", "k", "v"),
        *linear_rows("blocks.*.attn.proj", f"{attention}.attn.o"),
        *norm("blocks.*.norm1", f"{attention}.LayerNorm"),
        *_feed_forward(layer, norm),
    )


def _feed_forward(layer: str, norm: Norm) -> Rows:
    return (
        *linear_rows("blocks.*.mlp.fc1", f"{layer}.intermediate.dense"),
        *linear_rows("blocks.*.mlp.fc2", f"{layer}.output.dense"),
        *norm("blocks.*.norm2", f"{layer}.output.LayerNorm"),
    )


def _distilbert_block(layer: str, norm: Norm) -> Rows:
    attention = f"{layer}.attention"
    return (
        *joined_rows("blocks.*.attn.qkv", attention, "q_lin", "k_lin", "v_lin"),
        *linear_rows("blocks.*.attn.proj", f"{attention}.out_lin"),
        *norm("blocks.*.norm1", f"{layer}.sa_layer_norm"),
        *linear_rows("blocks.*.mlp.fc1", f"{layer}.ffn.lin1"),
        *linear_rows("blocks.*.mlp.fc2", f"{layer}.ffn.lin2"),
        *norm("blocks.*.norm2", f"{layer}.output_layer_norm"),
    )


# ---------------------------------------------------------------- heads


def _tied_bias(bias: str, decoder: str) -> Rows:
    """A language model's last map, whose bias stands apart from it as well.

    transformers computes with the map's own; the other one is the same where the two are tied, and
    the one that it writes.
    """
    own = f"{decoder}.bias"
    return (
        Row("vocab.bias", own, aliases=(bias,), written=(bias,)),
        Row("decoder.kernel", f"{decoder}.weight", KERNEL),
        Row("decoder.bias", own, aliases=(bias,)),
    )


def _bert_heads(norm: Norm) -> Rows:
    language = "cls.predictions"
    return (
        *linear_rows("classifier", "classifier"),
        *linear_rows("seq_relationship", "cls.seq_relationship"),
        *linear_rows("transform.dense", f"{language}.transform.dense"),
        *norm("transform.norm", f"{language}.transform.LayerNorm"),
        *_tied_bias(f"{language}.bias", f"{language}.decoder"),
    )


def _roberta_heads(norm: Norm) -> Rows:
    return (
        *linear_rows("pre_classifier", "classifier.dense"),
        *linear_rows("classifier", "classifier.out_proj"),
        *linear_rows("transform.dense", "lm_head.dense"),
        *norm("transform.norm", "lm_head.layer_norm"),
        *_tied_bias("lm_head.bias", "lm_head.decoder"),
    )


def _distilbert_heads(norm: Norm) -> Rows:
    return (
        *linear_rows("pre_classifier", "pre_classifier"),
        *linear_rows("classifier", "classifier"),
        *linear_rows("transform.dense", "vocab_transform"),
        *norm("transform.norm", "vocab_layer_norm"),
        Row("vocab.bias", "vocab_projector.bias"),
        *linear_rows("decoder", "vocab_projector"),
    )


def _electra_heads(norm: Norm) -> Rows:
    return (
        *linear_rows("pre_classifier", "classifier.dense"),
        *linear_rows("classifier", "classifier.out_proj"),
        *linear_rows("transform.dense", "generator_predictions.dense"),
        *norm("transform.norm", "generator_predictions.LayerNorm"),
        Row("vocab.bias", "generator_lm_head.bias"),
        *linear_rows("decoder", "generator_lm_head"),
        *linear_rows("discriminator.dense", "discriminator_predictions.dense"),
        *linear_rows("discriminator.out", "discriminator_predictions.dense_prediction"),
    )


# What heads are called in files: of a file's heads, a network reads its own alone.
_HEADS = (
    *("classifier.*", "pre_classifier.*", "qa_outputs.*", "cls.*", "lm_head.*"),
    *("vocab_transform.*", "vocab_layer_norm.*", "vocab_projector.*", "generator_predictions.*"),
    *("generator_lm_head.*", "discriminator_predictions.*", "sentence_module.*"),
)


# ---------------------------------------------------------------- whole tables


def _table(
    prefix: str,
    layers: str,
    block: Callable[[str, Norm], Rows],
    heads: Callable[[Norm], Rows],
    decoder: str,
    norm: Norm,
    spare: tuple[Constant, ...],
) -> WeightMap:
    front = f"{prefix}embeddings"
    words = f"{front}.word_embeddings.weight"
    tables = {
        "position": f"{front}.position_embeddings",
        "type": f"{front}.token_type_embeddings",
    }
    rows = (
        Row(TOKENS, words, aliases=(f"{decoder}.weight",), written=(words,)),
        *(
            Row(f"embeddings.{ours}_embeddings.embeddings", f"{theirs}.weight")
            for ours, theirs in tables.items()
        ),
        *norm("embeddings.norm", f"{front}.LayerNorm"),
        *linear_rows("embeddings_project", f"{prefix}embeddings_project"),
        Row("relative_bias.table", f"{prefix}encoder.relative_attention_bias.weight", SAME),
        *block(f"{prefix}{layers}.*", norm),
        *linear_rows("pooler.dense", f"{prefix}pooler.dense"),
        *heads(norm),
        *linear_rows("token_classifier", "classifier"),
        *linear_rows("qa_outputs", "qa_outputs"),
        *SENTENCE_ROWS,
    )
    beside = "embeddings.position_embeddings.embeddings"
    return WeightMap(
        rows,
        constants=(Constant(beside, f"{front}.position_ids"), *spare),
        ignore=(*_HEADS, f"{prefix}pooler.*", f"{front}.token_type_ids"),  # zeros of older files
    )


_OLD_NORM = functools.partial(norm_rows, gamma="gamma", beta="beta")
_BERT = ("encoder.layer", _bert_block)
# A bias that is in the file and is read by nothing where the last map has weights of its own.
_SPARE = {
    "bert": (Constant("decoder.bias", "cls.predictions.bias"),),
    **dict.fromkeys(
        ("roberta", "xlm-roberta", "camembert", "mpnet"),
        (Constant("decoder.bias", "lm_head.bias"),),
    ),
}
_ROBERTA = (*_BERT, _roberta_heads, "lm_head.decoder")
_DISTILBERT = ("transformer.layer", _distilbert_block, _distilbert_heads, "vocab_projector")
TYPES: dict[str, tuple[Any, ...]] = {  # prefix, and what a table is made of
    "bert": ("bert.", *_BERT, _bert_heads, "cls.predictions.decoder"),
    "roberta": ("roberta.", *_ROBERTA),
    "xlm-roberta": ("roberta.", *_ROBERTA),
    "camembert": ("roberta.", *_ROBERTA),
    "distilbert": ("distilbert.", *_DISTILBERT),
    "mpnet": ("mpnet.", "encoder.layer", _mpnet_block, _roberta_heads, "lm_head.decoder"),
    "electra": ("electra.", *_BERT, _electra_heads, "generator_lm_head"),
}
LAYOUTS = {
    f"{name}{bare}{legacy}": _table(
        "" if bare else prefix, layers, block, heads, decoder, norm, _SPARE.get(name, ())
    )
    for name, (prefix, layers, block, heads, decoder) in TYPES.items()
    for legacy, norm in (("", norm_rows), (".legacy", _OLD_NORM))
    for bare in ("", ".bare")
}


def own_layout(architecture: str, head: str) -> str:
    """The layout that transformers writes for a network of this type and head."""
    name = architecture if architecture in TYPES else "bert"
    return f"{name}.bare" if head in ("base", "sentence") else name
