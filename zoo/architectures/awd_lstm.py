"""AWD-LSTM: the language model of Merity et al., and of ULMFiT.

Papers: Regularizing and Optimizing LSTM Language Models (arXiv:1708.02182); Universal Language
Model Fine-tuning for Text Classification (arXiv:1801.06146). References: salesforce/awd-lstm-lm
`model.py`, fastai/fastai `fastai/text/models/awdlstm.py`, whose names of the options these are.

Embedding, a chain of LSTMs of which the last is as wide as the embedding, and the embedding's own
matrix as the decoder. All that makes it AWD acts in training: dropout of whole tokens, of recurrent
weights, and of features by one mask for all steps of a sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from zoo.architectures.base import Architecture, Graph, LayerGroups
from zoo.errors import ConfigError
from zoo.formats.awd_lstm import FORMATS
from zoo.layers.embedding import Bias, Embedding
from zoo.layers.head import dense_uniform
from zoo.layers.linear import Dense
from zoo.layers.recurrent import LSTM
from zoo.typed import Count, Depth, Rate, Size


@dataclass(frozen=True, kw_only=True)
class AWDLSTMConfig:
    """Options, in fastai's names; the defaults are those of its published language models.

    Attributes:
        vocab_size: number of tokens.
        emb_sz: width of the embedding, and of the last LSTM where `tie_weights`.
        n_hid: width of the other LSTMs.
        n_layers: number of LSTMs.
        pad_token: the token of padding, whose vector starts at zero; None: there is none.
        embed_p, input_p, weight_p, hidden_p, output_p: dropout rates, of tokens, of the embedded
            input, of recurrent weights, between LSTMs, and before the decoder.
        tie_weights: whether the decoder's matrix is the embedding's.
        out_bias: whether the decoder has a bias.
    """

    vocab_size: Size = 60000
    emb_sz: Size = 400
    n_hid: Size = 1152
    n_layers: Depth = 3
    pad_token: Count | None = 1
    embed_p: Rate = 0.02
    input_p: Rate = 0.25
    weight_p: Rate = 0.2
    hidden_p: Rate = 0.15
    output_p: Rate = 0.1
    tie_weights: bool = True
    out_bias: bool = True

    def __post_init__(self) -> None:
        for name in ("vocab_size", "emb_sz", "n_hid", "n_layers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; at least 1 was expected.")
        if not (self.tie_weights or self.out_bias):
            raise ConfigError("A decoder of its own (tie_weights=False) has a bias: out_bias=True.")


def build(config: AWDLSTMConfig, input_size: Any = (None, None)) -> Graph:
    """The network's graph: tokens `[n, t]`, int32, to logits of the next token `[n, t, vocab]`."""
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    encoder = Embedding(
        config.vocab_size,
        config.emb_sz,
        tied=config.tie_weights,
        padding_idx=config.pad_token,
        dropout=config.embed_p,
        name="encoder",
    )
    x = locked_dropout(encoder(tokens), config.input_p, "input_dp")
    for k in range(config.n_layers):
        last = k == config.n_layers - 1
        width = config.emb_sz if last and config.tie_weights else config.n_hid
        x = LSTM(width, weight_dropout=config.weight_p, name=f"rnns.{k}")(x)
        if not last:
            x = locked_dropout(x, config.hidden_p, f"hidden_dps.{k}")
    x = locked_dropout(x, config.output_p, "output_dp")
    if config.tie_weights:
        x = encoder(x, reverse=True)
        logits = Bias(name="decoder")(x) if config.out_bias else x
    else:
        logits = Dense(config.vocab_size, kernel_initializer=dense_uniform(), name="decoder")(x)
    return Graph(inputs=tokens, outputs=logits)


def locked_dropout(x: Any, rate: float, name: str) -> Any:
    """Dropout of features by one mask for all steps (Gal and Ghahramani, arXiv:1512.05287)."""
    if not rate:
        return x
    return keras.layers.Dropout(rate, noise_shape=(None, 1, x.shape[-1]), name=name)(x)


# ---------------------------------------------------------------- registration

FAMILY = Architecture(
    name="awd_lstm",
    config=AWDLSTMConfig,
    build=build,
    formats=FORMATS,
    hints={
        "encoder.tied_embeddings": "Load a decoder of its own, which is not the embedding's "
        "matrix, with tie_weights=False."
    },
    groups=LayerGroups(patterns=(r"encoder\.", r"rnns\.(\d+)\.")),
)
