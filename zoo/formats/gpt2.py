"""How others write GPT-2: transformers' config keys, classes and names of weights."""

from __future__ import annotations

from zoo.formats.text import (
    LANGUAGE,
    SENTENCE,
    SENTENCE_ROWS,
    SUMMARY,
    TOKENS,
    classes,
)
from zoo.registry.config_keys import PROBLEM, Codec, Key, activation_key
from zoo.registry.dialect import TRANSFORMERS, Dialect, Formats, Recipe
from zoo.registry.tokenizer_classes import CLASSES
from zoo.weights.mapping import Row, Rows, WeightMap, linear_rows, norm_rows


def _map(name: str, source: str) -> Rows:
    """A linear map, which this type keeps as `[inputs, outputs]`."""
    return Row(f"{name}.kernel", f"{source}.weight"), Row(f"{name}.bias", f"{source}.bias")


WEIGHTS = WeightMap(
    (
        Row(TOKENS, "wte.weight", aliases=("lm_head.weight",), written=("wte.weight",)),
        Row("embeddings.position_embeddings.embeddings", "wpe.weight"),
        *norm_rows("blocks.*.norm1", "h.*.ln_1"),
        *_map("blocks.*.attn.qkv", "h.*.attn.c_attn"),
        *_map("blocks.*.attn.proj", "h.*.attn.c_proj"),
        *norm_rows("blocks.*.norm2", "h.*.ln_2"),
        *_map("blocks.*.mlp.fc1", "h.*.mlp.c_fc"),
        *_map("blocks.*.mlp.fc2", "h.*.mlp.c_proj"),
        *norm_rows("norm", "ln_f"),
        *linear_rows("decoder", "lm_head"),
        *linear_rows("classifier", "score"),
        *linear_rows("token_classifier", "classifier"),
        *linear_rows("qa_outputs", "qa_outputs"),
        *SENTENCE_ROWS,
    ),
    ignore=("h.*.attn.bias", "h.*.attn.masked_bias"),  # the masks of older files
    heads=("lm_head", "score", "classifier", "qa_outputs", SENTENCE),
)


_INNER = Codec(write=lambda n, fields: None if n == 4 * fields["hidden_size"] else n)


GPT2 = Dialect(
    library=TRANSFORMERS,
    prefix="transformer.",
    weights=WEIGHTS,
    keys=(
        Key("vocab_size", "vocab_size", 50257),
        Key("n_positions", "max_positions", 1024),
        Key("n_embd", "hidden_size", 768),
        Key("n_layer", "num_layers", 12),
        Key("n_head", "num_heads", 12),
        Key("n_inner", "intermediate_size", lambda keys: 4 * keys["n_embd"], _INNER),
        activation_key("activation_function", "act_layer", "gelu_new"),
        Key("resid_pdrop", "drop_rate", 0.1),
        Key("embd_pdrop", "embed_drop_rate", 0.1),
        Key("attn_pdrop", "attn_drop_rate", 0.1),
        Key("layer_norm_epsilon", "norm_eps", 1e-5),
        Key("scale_attn_weights", "scale_attention", True),
        Key("scale_attn_by_inverse_layer_idx", "scale_by_layer", False),
        Key("pad_token_id", "padding_idx", None),
        Key("tie_word_embeddings", "tied", True),
        Key("classifier_dropout", "head_drop_rate", lambda keys: 0.1, sparse=True),
        PROBLEM,
    ),
    fields={"causal": True},
    classes=classes("GPT2", LMHeadModel=LANGUAGE),
    idle=SUMMARY
    | {
        "reorder_and_upcast_attn": "computes the same in another order and precision",
        "hidden_dropout": "of training a classifier of tokens",
    },
    tied=(TOKENS, "tied"),
    tokenizer=CLASSES["GPT2Tokenizer"],
    stop_id=50256,
)

FORMATS = Formats(
    dialects={"gpt2": GPT2},
    recipe=Recipe(
        learning_rate=1.8e-4,
        schedule="linear",
        source="Radford et al., Improving Language Understanding by Generative Pre-Training "
        "(2018), section 4.1: 6.25e-5 at batch 32, weight decay 0.01, linear",
    ),
)
