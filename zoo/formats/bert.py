"""How others write BERT and its kin: the config keys, classes and names of weights of transformers,
for each of its model types. The model's own names are those of `bert`."""

from __future__ import annotations

from zoo.formats.text import (
    CAUSAL,
    LANGUAGE,
    SENTENCE,
    SENTENCE_ROWS,
    SUMMARY,
    TOKENS,
    classes,
)
from zoo.registry.config_keys import PROBLEM, Codec, Key, activation_key, one_value, same_as
from zoo.registry.dialect import TRANSFORMERS, Dialect, Formats, ModelClass, Recipe, ToldByFile
from zoo.registry.tokenizer_classes import CLASSES, TokenizerClass
from zoo.weights.mapping import (
    KERNEL,
    Constant,
    Row,
    Rows,
    WeightMap,
    joined_rows,
    linear_rows,
    norm_rows,
)

# ---------------------------------------------------------------- blocks


def _feed_forward(layer: str) -> Rows:
    return (
        *linear_rows("blocks.*.mlp.fc1", f"{layer}.intermediate.dense"),
        *linear_rows("blocks.*.mlp.fc2", f"{layer}.output.dense"),
        *norm_rows("blocks.*.norm2", f"{layer}.output.LayerNorm"),
    )


_LAYER = "encoder.layer.*"
_BERT_BLOCK = (
    *joined_rows("blocks.*.attn.qkv", f"{_LAYER}.attention.self", "query", "key", "value"),
    *linear_rows("blocks.*.attn.proj", f"{_LAYER}.attention.output.dense"),
    *norm_rows("blocks.*.norm1", f"{_LAYER}.attention.output.LayerNorm"),
    *_feed_forward(_LAYER),
)
_MPNET_BLOCK = (
    *joined_rows("blocks.*.attn.qkv", f"{_LAYER}.attention.attn", "q", "k", "v"),
    *linear_rows("blocks.*.attn.proj", f"{_LAYER}.attention.attn.o"),
    *norm_rows("blocks.*.norm1", f"{_LAYER}.attention.LayerNorm"),
    *_feed_forward(_LAYER),
)
_LAYER = "encoder.albert_layer_groups.*.albert_layers.*"
_ALBERT_BLOCK = (
    *joined_rows("blocks.*.*.attn.qkv", f"{_LAYER}.attention", "query", "key", "value"),
    *linear_rows("blocks.*.*.attn.proj", f"{_LAYER}.attention.dense"),
    *norm_rows("blocks.*.*.norm1", f"{_LAYER}.attention.LayerNorm"),
    *linear_rows("blocks.*.*.mlp.fc1", f"{_LAYER}.ffn"),
    *linear_rows("blocks.*.*.mlp.fc2", f"{_LAYER}.ffn_output"),
    *norm_rows("blocks.*.*.norm2", f"{_LAYER}.full_layer_layer_norm"),
)
_LAYER = "transformer.layer.*"
_DISTILBERT_BLOCK = (
    *joined_rows("blocks.*.attn.qkv", f"{_LAYER}.attention", "q_lin", "k_lin", "v_lin"),
    *linear_rows("blocks.*.attn.proj", f"{_LAYER}.attention.out_lin"),
    *norm_rows("blocks.*.norm1", f"{_LAYER}.sa_layer_norm"),
    *linear_rows("blocks.*.mlp.fc1", f"{_LAYER}.ffn.lin1"),
    *linear_rows("blocks.*.mlp.fc2", f"{_LAYER}.ffn.lin2"),
    *norm_rows("blocks.*.norm2", f"{_LAYER}.output_layer_norm"),
)

# ---------------------------------------------------------------- heads


def _language(transform: str, norm: str) -> Rows:
    return (*linear_rows("transform.dense", transform), *norm_rows("transform.norm", norm))


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


def _own_bias(decoder: str) -> Rows:
    return Row("vocab.bias", f"{decoder}.bias"), *linear_rows("decoder", decoder)


_CLASSES_IN_TWO = (
    *linear_rows("pre_classifier", "classifier.dense"),
    *linear_rows("classifier", "classifier.out_proj"),
)
_PREDICTIONS = "cls.predictions"
_BERT_HEADS = (
    *linear_rows("classifier", "classifier"),
    *linear_rows("seq_relationship", "cls.seq_relationship"),
    *_language(f"{_PREDICTIONS}.transform.dense", f"{_PREDICTIONS}.transform.LayerNorm"),
    *_tied_bias(f"{_PREDICTIONS}.bias", f"{_PREDICTIONS}.decoder"),
)
_ROBERTA_HEADS = (
    *_CLASSES_IN_TWO,
    *_language("lm_head.dense", "lm_head.layer_norm"),
    *_tied_bias("lm_head.bias", "lm_head.decoder"),
)
_DISTILBERT_HEADS = (
    *linear_rows("pre_classifier", "pre_classifier"),
    *linear_rows("classifier", "classifier"),
    *_language("vocab_transform", "vocab_layer_norm"),
    *_own_bias("vocab_projector"),
)
_GENERATOR, _DISCRIMINATOR = "generator_predictions", "discriminator_predictions"
_ELECTRA_HEADS = (
    *_CLASSES_IN_TWO,
    *_language(f"{_GENERATOR}.dense", f"{_GENERATOR}.LayerNorm"),
    *_own_bias("generator_lm_head"),
    *linear_rows("discriminator.dense", f"{_DISCRIMINATOR}.dense"),
    *linear_rows("discriminator.out", f"{_DISCRIMINATOR}.dense_prediction"),
)

_ALBERT_HEADS = (
    *linear_rows("classifier", "classifier"),
    *_language("predictions.dense", "predictions.LayerNorm"),
    *_tied_bias("predictions.bias", "predictions.decoder"),
)

# What stands beside the bare network: of a file's heads, a network reads its own alone.
_HEADS = (
    *("classifier", "pre_classifier", "qa_outputs", "cls", "lm_head", "generator_lm_head"),
    *("vocab_transform", "vocab_layer_norm", "vocab_projector"),
    *(_GENERATOR, _DISCRIMINATOR, "predictions", "sop_classifier", SENTENCE),
)


def _weights(
    block: Rows,
    heads: Rows,
    decoder: str,
    *,
    spare_bias: str | None = None,
    projection: str = "embeddings_project",
    pooler: str = "pooler.dense",
) -> WeightMap:
    """The table of a type.

    Args:
        projection, pooler: of the embeddings, and of the first token.
        decoder: a language model's last map, whose weights may be those of the table of tokens.
        spare_bias: one that nothing reads where that map has weights of its own.
    """
    words, places = "embeddings.word_embeddings.weight", "embeddings.position_embeddings"
    rows = (
        Row(TOKENS, words, aliases=(f"{decoder}.weight",), written=(words,)),
        Row(f"{places}.embeddings", f"{places}.weight"),
        Row("embeddings.type_embeddings.embeddings", "embeddings.token_type_embeddings.weight"),
        *norm_rows("embeddings.norm", "embeddings.LayerNorm"),
        *linear_rows("embeddings_project", projection),
        Row("relative_bias.table", "encoder.relative_attention_bias.weight"),
        *block,
        *linear_rows("pooler.dense", pooler),
        *heads,
        *linear_rows("token_classifier", "classifier"),
        *linear_rows("qa_outputs", "qa_outputs"),
        *SENTENCE_ROWS,
    )
    spare = (Constant("decoder.bias", spare_bias),) if spare_bias else ()
    return WeightMap(
        rows,
        constants=(Constant(f"{places}.embeddings", "embeddings.position_ids"), *spare),
        ignore=("pooler.*", "embeddings.token_type_ids"),  # zeros of older files
        heads=_HEADS,
    )


# ---------------------------------------------------------------- types

_HEAD_DROP = Key(
    "classifier_dropout",
    ("head_drop_rate", "dense_drop_rate"),
    same_as("hidden_dropout_prob"),
    sparse=True,
)
_ACTIVATION = activation_key("hidden_act", "act_layer", "gelu")
_PARTS = (Key("type_vocab_size", "type_vocab_size", 2), Key("is_decoder", "causal", False))
_IDLE = {"embedding_size": "lets widths through that the heads do not divide, and then fails"}

_ENCODER = Dialect(
    library=TRANSFORMERS,
    legacy=True,
    weights=_weights(
        _BERT_BLOCK, _BERT_HEADS, f"{_PREDICTIONS}.decoder", spare_bias=f"{_PREDICTIONS}.bias"
    ),
    keys=(
        Key("vocab_size", "vocab_size", 30522),
        Key("max_position_embeddings", "max_positions", 512),
        Key("hidden_size", "hidden_size", 768),
        Key("num_hidden_layers", "num_layers", 12),
        Key("num_attention_heads", "num_heads", 12),
        Key("intermediate_size", "intermediate_size", 3072),
        Key("layer_norm_eps", "norm_eps", 1e-12),
        Key("pad_token_id", "padding_idx", 0),
        Key("tie_word_embeddings", "tied", True),
        Key("hidden_dropout_prob", "drop_rate", 0.1),
        Key("attention_probs_dropout_prob", "attn_drop_rate", 0.1),
        PROBLEM,
    ),
    told=(ToldByFile("pooler", "pooler.dense.weight", False, among={"head": "base"}),),
    tied=(TOKENS, "tied"),
)
BERT = _ENCODER.but(
    prefix="bert.",
    keys=(
        *_PARTS,
        _HEAD_DROP,
        activation_key("hidden_act", ("act_layer", "transform_act"), "gelu"),
    ),
    classes=classes(
        "Bert",
        ForMaskedLM=LANGUAGE,
        LMHeadModel=CAUSAL,
        ForPreTraining=LANGUAGE,  # with the other head left out
        ForNextSentencePrediction=ModelClass(fields={"head": "next_sentence"}, classes=0),
    ),
    idle=_IDLE,
    tokenizer=CLASSES["BertTokenizer"],
)
_AFTER_PADDING = {"positions": "after_padding", "transform_act": "gelu", "dense_act": "tanh"}
ROBERTA = BERT.but(
    prefix="roberta.",
    weights=_weights(_BERT_BLOCK, _ROBERTA_HEADS, "lm_head.decoder", spare_bias="lm_head.bias"),
    keys=(
        Key("pad_token_id", "padding_idx", 1),
        Key("vocab_size", "vocab_size", 50265),
        _ACTIVATION,
    ),
    fields=_AFTER_PADDING,
    classes=classes("Roberta", ForMaskedLM=LANGUAGE, ForCausalLM=CAUSAL),
    tokenizer=CLASSES["RobertaTokenizer"],
    stop_id=2,
)
XLM_ROBERTA = ROBERTA.but(
    keys=(Key("vocab_size", "vocab_size", 30522),),
    classes=classes("XLMRoberta", ForMaskedLM=LANGUAGE, ForCausalLM=CAUSAL),
    tokenizer=CLASSES["XLMRobertaTokenizer"],
)
CAMEMBERT = XLM_ROBERTA.but(
    classes=classes("Camembert", ForMaskedLM=LANGUAGE, ForCausalLM=CAUSAL),
    tokenizer=CLASSES["CamembertTokenizer"],
)
DISTILBERT = Dialect(
    library=TRANSFORMERS,
    prefix="distilbert.",
    legacy=True,
    weights=_weights(_DISTILBERT_BLOCK, _DISTILBERT_HEADS, "vocab_projector"),
    keys=(
        Key("vocab_size", "vocab_size", 30522),
        Key("max_position_embeddings", "max_positions", 512),
        Key("n_layers", "num_layers", 6),
        Key("n_heads", "num_heads", 12),
        Key("dim", "hidden_size", 768),
        Key("hidden_dim", "intermediate_size", 3072),
        Key("dropout", "drop_rate", 0.1),
        Key("attention_dropout", "attn_drop_rate", 0.1),
        Key("seq_classif_dropout", "head_drop_rate", 0.2),
        Key("pad_token_id", "padding_idx", 0),
        Key("tie_word_embeddings", "tied", True),
        activation_key("activation", ("act_layer", "transform_act"), "gelu"),
        PROBLEM,
    ),
    fields={
        "type_vocab_size": 0,
        "takes_types": False,
        "pooler": False,
        "norm_eps": 1e-12,
        "dense_act": "relu",
        "dense_drop_rate": 0.0,
    },
    classes=classes("DistilBert", ForMaskedLM=LANGUAGE),
    idle={
        "sinusoidal_pos_embds": "says how positions start; they are in the file all the same",
        "qa_dropout": "of training",
    },
    tied=(TOKENS, "tied"),
    tokenizer=CLASSES["BertTokenizer"],
)
MPNET = _ENCODER.but(
    prefix="mpnet.",
    weights=_weights(_MPNET_BLOCK, _ROBERTA_HEADS, "lm_head.decoder", spare_bias="lm_head.bias"),
    keys=(
        Key("vocab_size", "vocab_size", 30527),
        # whatever it says
        Key("pad_token_id", "padding_idx", 1, Codec(read=lambda value, keys: 1)),
        _ACTIVATION,
        _HEAD_DROP,
        Key(
            "relative_attention_num_buckets",
            "relative_buckets",
            32,
            one_value(32, "transformers counts 32 whatever it says, and so does zoo"),
        ),
    ),
    fields={"type_vocab_size": 0, "takes_types": False, **_AFTER_PADDING},
    classes=classes("MPNet", ForMaskedLM=LANGUAGE),
    idle=_IDLE,
    tokenizer=CLASSES["MPNetTokenizer"],
    stop_id=2,
)
ELECTRA = BERT.but(
    prefix="electra.",
    weights=_weights(_BERT_BLOCK, _ELECTRA_HEADS, "generator_lm_head"),
    keys=(
        Key(
            "embedding_size",
            "embedding_size",
            128,
            Codec(write=lambda size, fields: size or fields["hidden_size"]),
        ),
        Key("hidden_size", "hidden_size", 256),
        Key("num_attention_heads", "num_heads", 4),
        Key("intermediate_size", "intermediate_size", 1024),
        _ACTIVATION,
    ),
    fields={"transform_act": "gelu", "dense_act": "gelu", "pooler": False},
    classes=classes(
        "Electra",
        ForMaskedLM=LANGUAGE,
        ForCausalLM=CAUSAL,
        ForPreTraining=ModelClass(fields={"head": "replaced"}, classes=0),
    ),
    idle=SUMMARY,
)

ALBERT = _ENCODER.but(
    prefix="albert.",
    weights=_weights(
        _ALBERT_BLOCK,
        _ALBERT_HEADS,
        "predictions.decoder",
        spare_bias="predictions.bias",
        projection="encoder.embedding_hidden_mapping_in",
        pooler="pooler",
    ),
    keys=(
        Key("vocab_size", "vocab_size", 30000),
        Key("hidden_size", "hidden_size", 4096),
        Key("num_attention_heads", "num_heads", 64),
        Key("intermediate_size", "intermediate_size", 16384),
        Key("hidden_dropout_prob", "drop_rate", 0.0),
        Key("attention_probs_dropout_prob", "attn_drop_rate", 0.0),
        Key("type_vocab_size", "type_vocab_size", 2),
        Key("embedding_size", "embedding_size", 128),
        Key("num_hidden_groups", "num_groups", 1),
        Key("inner_group_num", "inner_layers", 1),
        activation_key("hidden_act", ("act_layer", "transform_act"), "gelu_new"),
        Key("classifier_dropout_prob", "head_drop_rate", 0.1),
    ),
    fields={"embed_project": True},
    classes=classes("Albert", ForMaskedLM=LANGUAGE, ForPreTraining=LANGUAGE),
    told=(ToldByFile("pooler", "pooler.weight", False, among={"head": "base"}),),
    tokenizer=TokenizerClass(
        name="AlbertTokenizer",
        model="Unigram",
        files=("spiece.model",),
        special={
            **CLASSES["BertTokenizer"].special,
            "bos_token": "[CLS]",
            "eos_token": "[SEP]",
            "unk_token": "<unk>",
            "pad_token": "<pad>",
        },
        unk_id=1,
        options={"do_lower_case": True, "keep_accents": False, "add_prefix_space": True},
        frame="bert",
        frame_first=True,
    ),
    stop_id=3,
)

FORMATS = Formats(
    dialects={
        "bert": BERT,
        "roberta": ROBERTA,
        "xlm-roberta": XLM_ROBERTA,
        "camembert": CAMEMBERT,
        "distilbert": DISTILBERT,
        "mpnet": MPNET,
        "electra": ELECTRA,
        "albert": ALBERT,
    },
    recipe=Recipe(
        learning_rate=1.4e-4,
        schedule="linear",
        source="Devlin et al., arXiv:1810.04805, appendix A.3: 5e-5 at batch 32, weight decay "
        "0.01, linear after a tenth of the steps",
    ),
)
