"""The text models among transformers' model types; see `transformers_types`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.errors import ConfigError
from zoo.registry.transformers_types import Fields, ModelType, activation, problem, their_activation

Keys = Mapping[str, Any]

# What a network of these fields is for.
TASKS: dict[str, Fields] = {
    "feature-extraction": {"head": "base"},
    "text-classification": {"head": "sequence"},
    "next-sentence-prediction": {"head": "next_sentence"},
    "token-classification": {"head": "tokens"},
    "question-answering": {"head": "answer"},
    "fill-mask": {"head": "language", "causal": False},
    "text-generation": {"head": "language", "causal": True},
    "replaced-token-detection": {"head": "replaced"},
    "sentence-similarity": {"head": "sentence"},
}


def task_of(fields: Keys) -> str:
    """The task that a network of these fields is for."""
    fits = (all(fields.get(k, False) == v for k, v in own.items()) for own in TASKS.values())
    return next(name for name, fit in zip(TASKS, fits, strict=True) if fit)


def max_length(fields: Keys) -> int:
    """Tokens of the longest text that a network of these fields takes."""
    spent = fields["padding_idx"] + 1 if fields.get("positions") == "after_padding" else 0
    return fields["max_positions"] - spent


def _given(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


# ---------------------------------------------------------------- encoders

_SAME = {
    "vocab_size": "vocab_size",
    "max_position_embeddings": "max_positions",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "intermediate_size": "intermediate_size",
    "layer_norm_eps": "norm_eps",
    "pad_token_id": "padding_idx",
    "tie_word_embeddings": "tied",
    "hidden_dropout_prob": "drop_rate",
    "attention_probs_dropout_prob": "attn_drop_rate",
}
_DEFAULTS = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "tie_word_embeddings": True,
}
_TYPED = {"type_vocab_size": 2, "is_decoder": False, "classifier_dropout": None}
_TYPED_SAME = {"type_vocab_size": "type_vocab_size", "is_decoder": "causal"}
_SUMMARY = dict.fromkeys(
    ("summary_type", "summary_use_proj", "summary_activation", "summary_first_dropout")
    + ("summary_last_dropout", "summary_proj_to_labels"),
    "of classes for multiple choice",
)
_TABLES = {"embedding_size": "lets widths through that the heads do not divide, and then fails"}


def _encoder(keys: Keys) -> Fields:
    head_drop = _given(keys.get("classifier_dropout"), keys["hidden_dropout_prob"])
    return {
        "act_layer": activation(keys["hidden_act"]),
        "head_drop_rate": head_drop,
        "dense_drop_rate": head_drop,
        "problem_type": problem(keys),
    }


def _from_encoder(fields: Mapping[str, Any]) -> dict[str, Any]:
    keys: dict[str, Any] = {"hidden_act": their_activation(fields["act_layer"])}
    if fields["head_drop_rate"] != fields["drop_rate"]:
        keys["classifier_dropout"] = fields["head_drop_rate"]
    if fields["problem_type"] is not None:
        keys["problem_type"] = fields["problem_type"]
    return keys


def _bert(keys: Keys) -> Fields:
    act = activation(keys["hidden_act"])
    return _encoder(keys) | {"transform_act": act}


def _electra(keys: Keys) -> Fields:
    return _encoder(keys) | {"embedding_size": keys["embedding_size"]}


def _from_electra(fields: Mapping[str, Any]) -> dict[str, Any]:
    size = _given(fields["embedding_size"], fields["hidden_size"])
    return _from_encoder(fields) | {"embedding_size": size}


def _mpnet(keys: Keys) -> Fields:
    if keys["relative_attention_num_buckets"] != 32:
        raise ConfigError(
            f"relative_attention_num_buckets is {keys['relative_attention_num_buckets']}; "
            "transformers counts 32 whatever it says, and so does zoo."
        )
    # whatever pad_token_id says
    return _encoder(keys) | {"relative_buckets": 32, "padding_idx": 1}


def _from_mpnet(fields: Mapping[str, Any]) -> dict[str, Any]:
    return _from_encoder(fields) | {"relative_attention_num_buckets": 32}


def _distilbert(keys: Keys) -> Fields:
    act = activation(keys["activation"])
    return {"act_layer": act, "transform_act": act, "problem_type": problem(keys)}


def _from_distilbert(fields: Mapping[str, Any]) -> dict[str, Any]:
    keys: dict[str, Any] = {"activation": their_activation(fields["act_layer"])}
    if fields["problem_type"] is not None:
        keys["problem_type"] = fields["problem_type"]
    return keys


# ---------------------------------------------------------------- their classes

_BASE: Fields = {"head": "base"}
_NO_CLASSES: Fields = {"num_classes": 0}
_QUESTION: Fields = {"head": "answer"} | _NO_CLASSES
_LANGUAGE: Fields = {"head": "language"} | _NO_CLASSES
_CAUSAL: Fields = _LANGUAGE | {"causal": True}


def _classes(prefix: str, *, causal: str | None = "ForCausalLM") -> dict[str, Fields]:
    """The classes that most types have, after the type's name in them."""
    classes = {
        "Model": _BASE,
        "ForSequenceClassification": {"head": "sequence"},
        "ForTokenClassification": {"head": "tokens"},
        "ForQuestionAnswering": _QUESTION,
        "ForMaskedLM": _LANGUAGE,
    }
    if causal is not None:
        classes[causal] = _CAUSAL
    return {f"{prefix}{name}": fields for name, fields in classes.items()}


def _roberta(prefix: str) -> ModelType:
    vocabulary = {"vocab_size": 50265} if prefix == "Roberta" else {}
    return ModelType(
        defaults=_DEFAULTS | _TYPED | {"pad_token_id": 1} | vocabulary,
        same=_SAME | _TYPED_SAME,
        fields={"positions": "after_padding", "transform_act": "gelu", "dense_act": "tanh"},
        derive=_encoder,
        revert=_from_encoder,
        heads=_classes(prefix),
        idle=_TABLES,
    )


_BERT = _classes("Bert", causal="LMHeadModel") | {
    "BertForPreTraining": _LANGUAGE,  # with the other head left out
    "BertForNextSentencePrediction": {"head": "next_sentence"} | _NO_CLASSES,
}
_ELECTRA = _classes("Electra") | {"ElectraForPreTraining": {"head": "replaced"} | _NO_CLASSES}

# ---------------------------------------------------------------- GPT-2


def _gpt2(keys: Keys) -> Fields:
    width = keys["n_embd"]
    return {
        "act_layer": activation(keys["activation_function"]),
        "intermediate_size": _given(keys["n_inner"], 4 * width),
        "problem_type": problem(keys),
        "head_drop_rate": _given(keys.get("classifier_dropout"), 0.1),
    }


def _from_gpt2(fields: Mapping[str, Any]) -> dict[str, Any]:
    width = fields["hidden_size"]
    inner = fields["intermediate_size"]
    keys: dict[str, Any] = {
        "activation_function": their_activation(fields["act_layer"]),
        "n_inner": None if inner == 4 * width else inner,
    }
    if fields["problem_type"] is not None:
        keys["problem_type"] = fields["problem_type"]
    return keys


TEXT: dict[str, ModelType] = {
    "gpt2": ModelType(
        defaults={
            "vocab_size": 50257,
            "n_positions": 1024,
            "n_embd": 768,
            "n_layer": 12,
            "n_head": 12,
            "n_inner": None,
            "activation_function": "gelu_new",
            "resid_pdrop": 0.1,
            "embd_pdrop": 0.1,
            "attn_pdrop": 0.1,
            "layer_norm_epsilon": 1e-5,
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
            "pad_token_id": None,
            "tie_word_embeddings": True,
        },
        same={
            "vocab_size": "vocab_size",
            "n_positions": "max_positions",
            "n_embd": "hidden_size",
            "n_layer": "num_layers",
            "n_head": "num_heads",
            "resid_pdrop": "drop_rate",
            "embd_pdrop": "embed_drop_rate",
            "attn_pdrop": "attn_drop_rate",
            "layer_norm_epsilon": "norm_eps",
            "scale_attn_weights": "scale_attention",
            "scale_attn_by_inverse_layer_idx": "scale_by_layer",
            "pad_token_id": "padding_idx",
            "tie_word_embeddings": "tied",
        },
        fields={"causal": True},
        derive=_gpt2,
        revert=_from_gpt2,
        heads={
            "GPT2Model": _BASE,
            "GPT2LMHeadModel": _LANGUAGE,
            "GPT2ForSequenceClassification": {"head": "sequence"},
            "GPT2ForTokenClassification": {"head": "tokens"},
            "GPT2ForQuestionAnswering": _QUESTION,
        },
        idle=_SUMMARY
        | {
            "reorder_and_upcast_attn": "computes the same in another order and precision",
            "classifier_dropout": "read, where it is stated",
            "hidden_dropout": "of training a classifier of tokens",
        },
    ),
    "bert": ModelType(
        defaults=_DEFAULTS | _TYPED,
        same=_SAME | _TYPED_SAME,
        fields={},
        derive=_bert,
        revert=_from_encoder,
        heads=_BERT,
        idle=_TABLES,
    ),
    "roberta": _roberta("Roberta"),
    "xlm-roberta": _roberta("XLMRoberta"),
    "camembert": _roberta("Camembert"),
    "distilbert": ModelType(
        defaults={
            "vocab_size": 30522,
            "max_position_embeddings": 512,
            "n_layers": 6,
            "n_heads": 12,
            "dim": 768,
            "hidden_dim": 3072,
            "dropout": 0.1,
            "attention_dropout": 0.1,
            "activation": "gelu",
            "seq_classif_dropout": 0.2,
            "pad_token_id": 0,
            "tie_word_embeddings": True,
        },
        same={
            "vocab_size": "vocab_size",
            "max_position_embeddings": "max_positions",
            "n_layers": "num_layers",
            "n_heads": "num_heads",
            "dim": "hidden_size",
            "hidden_dim": "intermediate_size",
            "dropout": "drop_rate",
            "attention_dropout": "attn_drop_rate",
            "seq_classif_dropout": "head_drop_rate",
            "pad_token_id": "padding_idx",
            "tie_word_embeddings": "tied",
        },
        fields={
            "type_vocab_size": 0,
            "takes_types": False,
            "pooler": False,
            "norm_eps": 1e-12,
            "dense_act": "relu",
            "dense_drop_rate": 0.0,
        },
        derive=_distilbert,
        revert=_from_distilbert,
        heads=_classes("DistilBert", causal=None),
        idle={
            "sinusoidal_pos_embds": "says how positions start; they are in the file all the same",
            "qa_dropout": "of training",
        },
    ),
    "mpnet": ModelType(
        defaults=_DEFAULTS
        | {"vocab_size": 30527, "pad_token_id": 1, "relative_attention_num_buckets": 32},
        same=_SAME,
        fields={
            "type_vocab_size": 0,
            "takes_types": False,
            "positions": "after_padding",
            "transform_act": "gelu",
            "dense_act": "tanh",
        },
        derive=_mpnet,
        revert=_from_mpnet,
        heads=_classes("MPNet", causal=None),
        idle=_TABLES,
    ),
    "electra": ModelType(
        defaults=_DEFAULTS
        | _TYPED
        | {
            "embedding_size": 128,
            "hidden_size": 256,
            "num_attention_heads": 4,
            "intermediate_size": 1024,
        },
        same=_SAME | _TYPED_SAME,
        fields={"transform_act": "gelu", "dense_act": "gelu", "pooler": False},
        derive=_electra,
        revert=_from_electra,
        heads=_ELECTRA,
        idle=_SUMMARY,
    ),
}
