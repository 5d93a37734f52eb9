"""Text encoders, BERT and its kin: RoBERTa, XLM-R, CamemBERT, DistilBERT, MPNet, ELECTRA, ALBERT.

Devlin et al., "BERT", arXiv:1810.04805; RoBERTa, arXiv:1907.11692; XLM-R, arXiv:1911.02116;
CamemBERT, arXiv:1911.03894; DistilBERT, arXiv:1910.01108; MPNet, arXiv:2004.09297; ELECTRA,
arXiv:2003.10555; ALBERT, arXiv:1909.11942; sentence embeddings over them, arXiv:1908.10084. The
reference is transformers (`models/<type>/modeling_<type>.py`; 5.24.0): one network with a few
options, whose names in each type `zoo.formats.bert` has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from zoo.architectures.base import Architecture, Feature, Graph, LayerGroups
from zoo.architectures.text_heads import check_sentence, sentence, sentence_inputs
from zoo.errors import ConfigError
from zoo.formats.bert import FORMATS
from zoo.layers.activation import Activation, activation
from zoo.layers.attention import Attention
from zoo.layers.base import Layer, Shape, build_chain, choose, register, run_chain
from zoo.layers.decoding import Cache, DecodingLayer
from zoo.layers.embedding import Bias
from zoo.layers.linear import Dense
from zoo.layers.mlp import Mlp
from zoo.layers.normalization import LayerNorm
from zoo.layers.text import (
    FirstToken,
    RelativeBias,
    TextEmbeddings,
    text_inputs,
)
from zoo.registry.heads import PROBLEMS, TASKS, task_of
from zoo.typed import Count, Depth, Rate, Size


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """Options of the family.

    Attributes:
        vocab_size, max_positions, type_vocab_size: rows of the tables of tokens, places and parts;
            0 parts is no such table.
        hidden_size, num_layers, num_heads, intermediate_size: of the blocks.
        embedding_size: of the tables, if it is not `hidden_size`.
        embed_project: whether the tables' sum goes through a dense layer even if it has that size.
        num_groups, inner_layers: how many groups of how many blocks each there are, if each of
            `num_layers` steps is not a block of its own but goes through a whole group again; 0: it
            is (ALBERT, section 3.1).
        act_layer, norm_eps: activation of the MLPs, epsilon of all norms.
        positions, padding_idx: see `TextEmbeddings`.
        relative_buckets: see `RelativeBias`; 0 is none.
        causal: each token sees those before it alone.
        takes_types: whether the network takes `token_type_ids`.
        head: one of `HEADS`.
        num_classes: of the heads that have classes; 0 else.
        problem_type: what classes are: `single_label_classification`, exactly one of them;
            `multi_label_classification`, any of them; `regression`, numbers. None: one of them,
            where there are several.
        pooler: whether the first token goes through one more dense layer and a tanh.
        dense_act: activation of the dense layer before the classes; None: no such layer.
        transform_act: activation of the dense layer before the tokens of a language model's head.
        tied: whether the table of tokens serves as a language model's last map.
        pooling: kinds of `TextPool` for one vector of a text.
        modules: what is done to it, in order: the name and the options of each of
            `text_heads.MODULES`.
        include_prompt: whether the tokens of a prompt are pooled as well.
        truncate_dim: how many of its first values the vector has; None: all.
        drop_rate, attn_drop_rate: dropout of the blocks' branches, and of attention.
        head_drop_rate, dense_drop_rate: before the classes, and before the dense layer there.
    """

    vocab_size: Size = 30522
    max_positions: Size = 512
    type_vocab_size: Count = 2
    hidden_size: Size = 768
    num_layers: Depth = 12
    num_heads: Size = 12
    intermediate_size: Size = 3072
    embedding_size: Size | None = None
    embed_project: bool = False
    num_groups: Count = 0
    inner_layers: Size = 1
    act_layer: str = "gelu"
    norm_eps: float = 1e-12
    positions: str = "absolute"
    padding_idx: Count | None = 0
    relative_buckets: Count = 0
    causal: bool = False
    takes_types: bool = True
    head: str = "base"
    num_classes: Count = 0
    problem_type: str | None = None
    pooler: bool = True
    dense_act: str | None = None
    transform_act: str = "gelu"
    tied: bool = True
    pooling: tuple[str, ...] = ()
    modules: tuple[tuple[Any, ...], ...] = ()
    include_prompt: bool = True
    truncate_dim: Size | None = None
    drop_rate: Rate = 0.1
    attn_drop_rate: Rate = 0.1
    head_drop_rate: Rate = 0.1
    dense_drop_rate: Rate = 0.1

    def __post_init__(self) -> None:
        choose("head", self.head, HEADS)
        choose("problem_type", self.problem_type, dict.fromkeys((None, *PROBLEMS)))
        activation(self.act_layer)
        if self.hidden_size % self.num_heads:
            raise ConfigError(
                f"hidden_size={self.hidden_size} is no multiple of num_heads={self.num_heads}."
            )
        if self.num_groups > self.num_layers:
            raise ConfigError(
                f"num_groups={self.num_groups} is more than {self.num_layers} layers."
            )
        if self.positions == "after_padding" and self.padding_idx is None:
            raise ConfigError("positions='after_padding' needs padding_idx.")
        check_sentence(self)


# ---------------------------------------------------------------- blocks


@register
class EncoderBlock(DecodingLayer):
    """Attention, then an MLP, each with a norm of the sum: `[n, t, d] -> [n, t, d]`.

    Args:
        heads, hidden, act: of attention and MLP.
        norm_eps: epsilon of the norms.
        causal: whether a token sees those before it alone.
        drop, attn_drop: dropout of the branches and of the attention weights.
    """

    heads: int
    hidden: int
    act: str = "gelu"
    norm_eps: float = 1e-12
    causal: bool = False
    drop: float = 0.0
    attn_drop: float = 0.0

    def build(self, input_shape: Shape) -> None:
        self.attn = self.child(
            Attention,
            self.heads,
            causal=self.causal,
            attn_drop=self.attn_drop,
            proj_drop=self.drop,
            name="attn",
        )
        self.norm1 = self.child(LayerNorm, epsilon=self.norm_eps, name="norm1")
        self.mlp = self.child(Mlp, self.hidden, act=self.act, name="mlp")
        self.mlp_drop = self.drop_layer(self.drop, "mlp_drop")
        self.norm2 = self.child(LayerNorm, epsilon=self.norm_eps, name="norm2")
        build_chain(input_shape, self.attn, self.norm1, self.mlp, self.mlp_drop, self.norm2)
        self.built = True

    def cache_spec(self, n: int | None, length: int | None) -> Cache:
        return self.attn.cache_spec(n, length)

    def call(self, inputs, places=None, mask=None, cache=None, bias=None, training=None):
        x, cache = self.attn.decode(inputs, places, mask, cache, bias=bias)
        x = self.norm1(inputs + x)
        x = self.norm2(x + run_chain(x, self.mlp, self.mlp_drop))
        return x if cache is None else (x, cache)

    def compute_output_shape(self, input_shape: Shape, *_: Any, **__: Any) -> Shape:
        return input_shape


# ---------------------------------------------------------------- network


def build(config: BertConfig, input_size: Any = None) -> Graph:
    """The network's graph: embeddings, blocks, head."""
    inputs = text_inputs((*_input_names(config), *sentence_inputs(config)))
    ids, mask, *others = inputs.values()
    embeddings = _embeddings(config)
    x = embeddings(ids, **{t.name: t for t in others if t.name != "pooling_mask"})
    if config.embed_project or config.embedding_size not in (None, config.hidden_size):
        x = Dense(config.hidden_size, name="embeddings_project")(x)
    bias = None
    if config.relative_buckets:
        bias = RelativeBias(config.relative_buckets, config.num_heads, name="relative_bias")(x)
    features = []
    for k, blocks in enumerate(_steps(config)):
        for block in blocks:
            x = block(x, mask=mask, bias=bias)
        feature = Feature(name=f"blocks.{k}", channels=config.hidden_size, reduction=1)
        features.append((feature, x))
    outputs = HEADS[config.head](config, embeddings, inputs, x)
    return Graph(inputs=inputs, outputs=outputs, features=tuple(features))


def _input_names(config: BertConfig) -> tuple[str, ...]:
    types = ("token_type_ids",) if config.takes_types else ()
    return ("input_ids", "attention_mask", *types, "position_ids")


def _embeddings(config: BertConfig) -> TextEmbeddings:
    return TextEmbeddings(
        config.vocab_size,
        config.embedding_size or config.hidden_size,
        max_positions=config.max_positions,
        type_vocab_size=config.type_vocab_size,
        positions=config.positions,
        padding_idx=config.padding_idx,
        norm_eps=config.norm_eps,
        drop=config.drop_rate,
        name="embeddings",
    )


def _steps(config: BertConfig) -> list[list[EncoderBlock]]:
    """The blocks of each step: one of its own, or those of a group that several steps share."""
    if not config.num_groups:
        return [[_block(config, str(k))] for k in range(config.num_layers)]
    groups = [
        [_block(config, f"{g}.{k}") for k in range(config.inner_layers)]
        for g in range(config.num_groups)
    ]
    share = config.num_layers / config.num_groups
    return [groups[int(k / share)] for k in range(config.num_layers)]


def _block(config: BertConfig, number: str) -> EncoderBlock:
    return EncoderBlock(
        config.num_heads,
        config.intermediate_size,
        act=config.act_layer,
        norm_eps=config.norm_eps,
        causal=config.causal,
        drop=config.drop_rate,
        attn_drop=config.attn_drop_rate,
        name=f"blocks.{number}",
    )


# ---------------------------------------------------------------- heads

Inputs = Mapping[str, Any]
Head = Callable[[BertConfig, TextEmbeddings, Inputs, Any], Any]


def _pooled(config: BertConfig, x: Any) -> Any:
    """The first token, through the pooler: `[n, t, d] -> [n, d]`."""
    x = FirstToken(name="first")(x)
    x = Dense(config.hidden_size, name="pooler.dense")(x)
    return Activation("tanh", name="pooler.act")(x)


def base(config: BertConfig, embeddings: TextEmbeddings, inputs: Inputs, x: Any) -> dict[str, Any]:
    """No head: all tokens' vectors, and the pooled one where there is a pooler."""
    pooled = {"pooler_output": _pooled(config, x)} if config.pooler else {}
    return {"last_hidden_state": x} | pooled


def sequence(config: BertConfig, embeddings: TextEmbeddings, inputs: Inputs, x: Any) -> Any:
    """Logits of a whole text, `[n, num_classes]`."""
    if config.dense_act is None:
        x = _pooled(config, x)
    else:
        x = FirstToken(name="first")(x)
        x = keras.layers.Dropout(config.dense_drop_rate, name="first_drop")(x)
        x = Dense(config.hidden_size, name="pre_classifier")(x)
        x = Activation(config.dense_act, name="pre_classifier.act")(x)
    x = keras.layers.Dropout(config.head_drop_rate, name="head_drop")(x)
    return Dense(config.num_classes, name="classifier")(x)


def next_sentence(config: BertConfig, embeddings: TextEmbeddings, inputs: Inputs, x: Any) -> Any:
    """Logits `[n, 2]`: whether the second text follows on the first, or not."""
    x = keras.layers.Dropout(0.0, name="head_drop")(_pooled(config, x))
    return Dense(2, name="seq_relationship")(x)


def tokens(config: BertConfig, embeddings: TextEmbeddings, inputs: Inputs, x: Any) -> Any:
    """Logits of each token, `[n, t, num_classes]`."""
    x = keras.layers.Dropout(config.head_drop_rate, name="head_drop")(x)
    return Dense(config.num_classes, name="token_classifier")(x)


def answer(config: BertConfig, embeddings: TextEmbeddings, inputs: Inputs, x: Any) -> Any:
    """Logits of each token for the first and for the last of an answer, `[n, t, 2]`."""
    return Dense(2, name="qa_outputs")(x)


def language(config: BertConfig, embeddings: TextEmbeddings, inputs: Inputs, x: Any) -> Any:
    """Logits of all tokens of the vocabulary at each place, `[n, t, vocab_size]`."""
    x = Dense(config.embedding_size or config.hidden_size, name="transform.dense")(x)
    x = Activation(config.transform_act, name="transform.act")(x)
    x = LayerNorm(epsilon=config.norm_eps, name="transform.norm")(x)
    if config.tied:
        return Bias(name="vocab")(embeddings(x, reverse=True))
    return Dense(config.vocab_size, name="decoder")(x)


def replaced(config: BertConfig, embeddings: TextEmbeddings, inputs: Inputs, x: Any) -> Any:
    """Logits of each token that a generator put it there, `[n, t]`."""
    x = Dense(config.hidden_size, name="discriminator.dense")(x)
    x = Activation(config.act_layer, name="discriminator.act")(x)
    return Flat(name="flat")(Dense(1, name="discriminator.out")(x))


@register
class Flat(Layer):
    """Takes off a last axis of one place: `[..., 1] -> [...]`."""

    def call(self, inputs):
        return ops.squeeze(inputs, axis=-1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape[:-1]


HEADS: dict[str, Head] = {
    "base": base,
    "sequence": sequence,
    "next_sentence": next_sentence,
    "tokens": tokens,
    "answer": answer,
    "language": language,
    "replaced": replaced,
    "sentence": sentence,
}

# ---------------------------------------------------------------- registration

FAMILY = Architecture(
    name="bert",
    config=BertConfig,
    build=build,
    formats=FORMATS,
    heads=("classifier", "token_classifier"),
    head_parts=(
        *("pre_classifier", "pooler.dense", "qa_outputs", "seq_relationship", "transform"),
        *("vocab", "decoder", "discriminator"),
    ),
    embedding="head_drop",
    task=lambda config: task_of(vars(config)),
    tasks=TASKS,
    groups=LayerGroups(
        patterns=(r"embeddings\.|embeddings_project\.|relative_bias\.", r"blocks\.(\d+)\."),
    ),
)
