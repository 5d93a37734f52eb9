"""GPT-2: a language model that reads from left to right, and its heads.

Radford et al., "Language Models are Unsupervised Multitask Learners" (2019). The reference is
transformers (`models/gpt2/modeling_gpt2.py`; 5.24.0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from zoo.architectures.base import Architecture, Feature, Graph, LayerGroups
from zoo.architectures.text_heads import (
    check_sentence,
    sentence,
    sentence_inputs,
)
from zoo.errors import ConfigError
from zoo.formats.gpt2 import FORMATS
from zoo.layers.activation import activation
from zoo.layers.attention import Attention
from zoo.layers.base import Shape, build_chain, choose, register, run_chain
from zoo.layers.decoding import Cache, DecodingLayer
from zoo.layers.linear import Dense
from zoo.layers.mlp import Mlp
from zoo.layers.normalization import LayerNorm
from zoo.layers.text import LastToken, TextEmbeddings, text_inputs
from zoo.registry.heads import PROBLEMS, TASKS, task_of
from zoo.typed import Count, Depth, Rate, Size


@dataclass(frozen=True, kw_only=True)
class GPT2Config:
    """Options of the family.

    Attributes:
        vocab_size, max_positions: rows of the tables of tokens and places.
        hidden_size, num_layers, num_heads, intermediate_size: of the blocks.
        act_layer, norm_eps: activation of the MLPs, epsilon of all norms.
        scale_attention: whether logits of attention are divided by the root of a head's width.
        scale_by_layer: whether they are divided by the number of the block, too, from 1.
        head: one of `HEADS`.
        num_classes: of the heads that have classes; 0 else.
        problem_type: as of `BertConfig`.
        padding_idx: the token that pads, which the head of whole texts passes over.
        tied: whether the table of tokens serves as the last map.
        causal: a token sees those before it alone; nothing else is known of this family.
        pooling, modules, include_prompt, truncate_dim: as of `BertConfig`.
        embed_drop_rate, drop_rate, attn_drop_rate, head_drop_rate: dropout of the embeddings, of
            the blocks' branches, of attention, and before the classes of tokens.
    """

    vocab_size: Size = 50257
    max_positions: Size = 1024
    hidden_size: Size = 768
    num_layers: Depth = 12
    num_heads: Size = 12
    intermediate_size: Size = 3072
    act_layer: str = "gelu_tanh"
    norm_eps: float = 1e-5
    scale_attention: bool = True
    scale_by_layer: bool = False
    head: str = "base"
    num_classes: Count = 0
    problem_type: str | None = None
    padding_idx: Count | None = None
    tied: bool = True
    causal: bool = True
    pooling: tuple[str, ...] = ()
    modules: tuple[tuple[Any, ...], ...] = ()
    include_prompt: bool = True
    truncate_dim: Size | None = None
    embed_drop_rate: Rate = 0.1
    drop_rate: Rate = 0.1
    attn_drop_rate: Rate = 0.1
    head_drop_rate: Rate = 0.1

    def __post_init__(self) -> None:
        choose("head", self.head, HEADS)
        choose("problem_type", self.problem_type, dict.fromkeys((None, *PROBLEMS)))
        activation(self.act_layer)
        check_sentence(self)
        if not self.causal:
            raise ConfigError("causal=False is not known of GPT-2.")
        if self.hidden_size % self.num_heads:
            raise ConfigError(
                f"hidden_size={self.hidden_size} is no multiple of num_heads={self.num_heads}."
            )

    def scale(self, number: int) -> float:
        """What the logits of attention in a block are multiplied by; blocks count from 0."""
        width = self.hidden_size // self.num_heads
        scale = width**-0.5 if self.scale_attention else 1.0
        return scale / (number + 1) if self.scale_by_layer else scale


# ---------------------------------------------------------------- blocks


@register
class DecoderBlock(DecodingLayer):
    """Attention to what came before, then an MLP, each of a norm: `[n, t, d] -> [n, t, d]`.

    Args:
        heads, hidden, act: of attention and MLP.
        scale: of the logits of attention.
        norm_eps: epsilon of the norms.
        drop, attn_drop: dropout of the branches and of the attention weights.
    """

    heads: int
    hidden: int
    act: str = "gelu_tanh"
    scale: float | None = None
    norm_eps: float = 1e-5
    drop: float = 0.0
    attn_drop: float = 0.0

    def build(self, input_shape: Shape) -> None:
        self.norm1 = self.child(LayerNorm, epsilon=self.norm_eps, name="norm1")
        self.attn = self.child(
            Attention,
            self.heads,
            causal=True,
            scale=self.scale,
            attn_drop=self.attn_drop,
            proj_drop=self.drop,
            name="attn",
        )
        self.norm2 = self.child(LayerNorm, epsilon=self.norm_eps, name="norm2")
        self.mlp = self.child(Mlp, self.hidden, act=self.act, name="mlp")
        self.mlp_drop = self.drop_layer(self.drop, "mlp_drop")
        build_chain(input_shape, self.norm1, self.attn, self.norm2, self.mlp, self.mlp_drop)
        self.built = True

    def cache_spec(self, n: int | None, length: int | None) -> Cache:
        return self.attn.cache_spec(n, length)

    def call(self, inputs, places=None, mask=None, cache=None, training=None):
        x, cache = self.attn.decode(self.norm1(inputs), places, mask, cache)
        x = inputs + x
        x = x + run_chain(x, self.norm2, self.mlp, self.mlp_drop)
        return x if cache is None else (x, cache)

    def compute_output_shape(self, input_shape: Shape, *_: Any, **__: Any) -> Shape:
        return input_shape


# ---------------------------------------------------------------- network


def build(config: GPT2Config, input_size: Any = None) -> Graph:
    """The network's graph: embeddings, blocks, norm, head."""
    names = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
    inputs = text_inputs((*names, *sentence_inputs(config)))
    ids, mask, types, positions = (inputs[name] for name in names)
    embeddings = TextEmbeddings(
        config.vocab_size,
        config.hidden_size,
        max_positions=config.max_positions,
        type_vocab_size=None,
        drop=config.embed_drop_rate,
        name="embeddings",
    )
    x = embeddings(ids, token_type_ids=types, position_ids=positions)
    features = []
    for k in range(config.num_layers):
        x = _block(config, k)(x, mask=mask)
        feature = Feature(name=f"blocks.{k}", channels=config.hidden_size, reduction=1)
        features.append((feature, x))
    x = LayerNorm(epsilon=config.norm_eps, name="norm")(x)
    outputs = HEADS[config.head](config, embeddings, inputs, x)
    return Graph(inputs=inputs, outputs=outputs, features=tuple(features))


def _block(config: GPT2Config, number: int) -> DecoderBlock:
    return DecoderBlock(
        config.num_heads,
        config.intermediate_size,
        act=config.act_layer,
        scale=config.scale(number),
        norm_eps=config.norm_eps,
        drop=config.drop_rate,
        attn_drop=config.attn_drop_rate,
        name=f"blocks.{number}",
    )


# ---------------------------------------------------------------- heads

Inputs = Mapping[str, Any]
Head = Callable[[GPT2Config, TextEmbeddings, Inputs, Any], Any]


def base(config: GPT2Config, embeddings: TextEmbeddings, inputs: Inputs, x: Any) -> dict[str, Any]:
    """No head: all tokens' vectors."""
    return {"last_hidden_state": x}


def language(config: GPT2Config, embeddings: TextEmbeddings, inputs: Inputs, x: Any) -> Any:
    """Logits of the token after each, `[n, t, vocab_size]`."""
    if config.tied:
        return embeddings(x, reverse=True)
    return Dense(config.vocab_size, use_bias=False, name="decoder")(x)


def sequence(config: GPT2Config, embeddings: TextEmbeddings, inputs: Inputs, x: Any) -> Any:
    """Logits of a whole text, by its last token, `[n, num_classes]`."""
    x = LastToken(config.padding_idx, name="head_drop")(x, inputs["input_ids"])
    return Dense(config.num_classes, use_bias=False, name="classifier")(x)


def tokens(config: GPT2Config, embeddings: TextEmbeddings, inputs: Inputs, x: Any) -> Any:
    """Logits of each token, `[n, t, num_classes]`."""
    x = keras.layers.Dropout(config.head_drop_rate, name="head_drop")(x)
    return Dense(config.num_classes, name="token_classifier")(x)


def answer(config: GPT2Config, embeddings: TextEmbeddings, inputs: Inputs, x: Any) -> Any:
    """Logits of each token for the first and for the last of an answer, `[n, t, 2]`."""
    return Dense(2, name="qa_outputs")(x)


HEADS: dict[str, Head] = {
    "base": base,
    "language": language,
    "sequence": sequence,
    "tokens": tokens,
    "answer": answer,
    "sentence": sentence,
}

# ---------------------------------------------------------------- registration

FAMILY = Architecture(
    name="gpt2",
    config=GPT2Config,
    build=build,
    formats=FORMATS,
    heads=("classifier", "token_classifier"),
    head_parts=("qa_outputs", "decoder"),
    embedding="head_drop",
    task=lambda config: task_of(vars(config)),
    tasks={k: own for k, own in TASKS.items() if own["head"] in HEADS and own.get("causal", True)},
    groups=LayerGroups(patterns=(r"embeddings\.", r"blocks\.(\d+)\."), end=r"norm\."),
)
