"""LSTM and GRU networks: sequences to classes, to tags, to forecasts.

The encoder is `torch.nn.LSTM` or `GRU` (Hochreiter and Schmidhuber, 1997; Cho et al.,
arXiv:1406.1078) over features or embedded tokens, in one or both directions. What stands on it is
a head: one class for the sequence, one for each step (Huang et al., arXiv:1508.01991, without the
CRF), or quantiles of the next values (Wen et al., arXiv:1711.11053, the direct multi-horizon form).
The files have the names that PyTorch gives to modules called `encoder`, `rnn` and `decoder`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from zoo.architectures.base import Architecture, Graph, LayerGroups
from zoo.errors import ConfigError
from zoo.formats.lstm import FORMATS
from zoo.layers.base import choose
from zoo.layers.embedding import Embedding
from zoo.layers.head import dense_uniform, real_input
from zoo.layers.linear import Dense
from zoo.layers.recurrent import GRU, LSTM, Recurrent
from zoo.layers.sequence import SequencePool, SeriesScale, SeriesUnscale, StepMask
from zoo.preprocessing.spec import SequenceSpec
from zoo.typed import Count, Depth, Rate, Size


@dataclass(frozen=True, kw_only=True)
class LSTMConfig:
    """Options, in PyTorch's names where it has them.

    Attributes:
        head: `classifier` (one class per sequence), `tagger` (one per step), `forecaster`.
        cell: `lstm` or `gru`.
        vocab_size, embedding_dim: number of tokens, and the width that they are embedded in; a
            `vocab_size` of None: steps are numbers.
        features: numbers per step, where steps are numbers.
        padding_idx: the token that is padding; None: there is none.
        padding_value: the number that all places of a padded step have; None: there is no padding.
        hidden_size, num_layers, bidirectional, proj_size, dropout, bias: as of `torch.nn.LSTM`.
        pool: of the classifier: `last`, `mean` or `max` over the steps.
        drop_rate: of dropout before the head.
        num_classes: of the classifier and the tagger; 0 gives the classifier's features.
        horizon: steps that the forecaster looks ahead.
        quantiles: that the forecaster gives for each of them.
        scale: whether the forecaster standardises each series, and scales its forecast back.
    """

    head: str = "classifier"
    cell: str = "lstm"
    vocab_size: Size | None = None
    embedding_dim: Size = 128
    features: Size = 1
    padding_idx: Count | None = None
    padding_value: float | None = None
    hidden_size: Size = 128
    num_layers: Depth = 1
    bidirectional: bool = False
    proj_size: Count = 0
    dropout: Rate = 0.0
    bias: bool = True
    pool: str = "last"
    drop_rate: Rate = 0.0
    num_classes: Count = 2
    horizon: Size = 1
    quantiles: tuple[float, ...] = (0.1, 0.5, 0.9)
    scale: bool = True

    def __post_init__(self) -> None:
        choose("head", self.head, HEADS)
        choose("cell", self.cell, CELLS)
        if self.head == "forecaster" and self.vocab_size is not None:
            raise ConfigError(
                f"A forecaster reads numbers (features=); got vocab_size={self.vocab_size}."
            )
        if not all(0 < q < 1 for q in self.quantiles) or not self.quantiles:
            raise ConfigError(f"quantiles is {self.quantiles}; numbers between 0 and 1 expected.")
        if self.num_classes == 0 and self.head != "classifier":
            raise ConfigError(f"num_classes=0 gives features of a classifier, not of {self.head}.")


CELLS: dict[str, type[Recurrent]] = {"lstm": LSTM, "gru": GRU}


def build(config: LSTMConfig, input_size: Any = (None, None)) -> Graph:
    """The network's graph; what it gives, the head says.

    Inputs are numbers `[n, t, features]`, or tokens `[n, t]`, int32.
    """
    inputs, x, mask = _embedded(config)
    scale = None
    if config.head == "forecaster" and config.scale:
        x, scale = SeriesScale(name="scale")(x, step_mask=mask)
    x = CELLS[config.cell](
        config.hidden_size,
        config.num_layers,
        bias=config.bias,
        bidirectional=config.bidirectional,
        dropout=config.dropout,
        proj_size=config.proj_size,
        name="rnn",
    )(x, mask=mask)
    return Graph(inputs=inputs, outputs=HEADS[config.head](config, x, mask, scale))


def _embedded(config: LSTMConfig) -> tuple[Any, Any, Any]:
    """Inputs, the vectors that the network reads of them, and which steps are no padding."""
    if config.vocab_size is None:
        inputs = real_input((None, config.features), "series")
        return inputs, inputs, _mask(inputs, config.padding_value)
    inputs = keras.Input((None,), dtype="int32", name="tokens")
    encoder = Embedding(
        config.vocab_size,
        config.embedding_dim,
        padding_idx=config.padding_idx,
        initial_range=1.0,
        name="encoder",
    )
    return inputs, encoder(inputs), _mask(inputs, config.padding_idx)


def _mask(inputs: Any, padding: float | None) -> Any:
    return None if padding is None else StepMask(padding, name="mask")(inputs)


# ---------------------------------------------------------------- heads


def _classifier(config: LSTMConfig, x: Any, mask: Any, scale: Any) -> Any:
    """Logits `[n, num_classes]`, or the pooled features `[n, d]`."""
    directions = 2 if config.bidirectional else 1
    x = SequencePool(config.pool, directions, name="pool")(x, step_mask=mask)
    return _decoded(config, x, config.num_classes) if config.num_classes else x


def _tagger(config: LSTMConfig, x: Any, mask: Any, scale: Any) -> Any:
    """Logits `[n, t, num_classes]`."""
    return _decoded(config, x, config.num_classes)


def _forecaster(config: LSTMConfig, x: Any, mask: Any, scale: Any) -> Any:
    """Quantiles `[n, horizon, quantiles]` of the first feature's next values."""
    directions = 2 if config.bidirectional else 1
    x = SequencePool("last", directions, name="pool")(x, step_mask=mask)
    shape = (config.horizon, len(config.quantiles))
    x = keras.layers.Reshape(shape, name="quantiles")(_decoded(config, x, shape[0] * shape[1]))
    return x if scale is None else SeriesUnscale(name="unscale")(x, scale)


def _decoded(config: LSTMConfig, x: Any, outputs: int) -> Any:
    if config.drop_rate:
        x = keras.layers.Dropout(config.drop_rate, name="drop")(x)
    return Dense(outputs, kernel_initializer=dense_uniform(), name="decoder")(x)


HEADS: dict[str, Callable[[LSTMConfig, Any, Any, Any], Any]] = {
    "classifier": _classifier,
    "tagger": _tagger,
    "forecaster": _forecaster,
}

# ---------------------------------------------------------------- registration

TASKS = {
    "classifier": "sequence-classification",
    "tagger": "token-classification",
    "forecaster": "time-series-forecasting",
}


def spec_of(config: LSTMConfig) -> SequenceSpec | None:
    """Series are taken as they are; the vocabulary of tokens is not the network's to know."""
    if config.vocab_size is not None:
        return None
    return SequenceSpec(features=config.features, padding_value=config.padding_value)


FAMILY = Architecture(
    name="lstm",
    config=LSTMConfig,
    build=build,
    formats=FORMATS,
    heads=("decoder",),
    embedding="pool",
    task=lambda config: TASKS[config.head],
    spec=spec_of,
    groups=LayerGroups(patterns=(r"encoder\.", r"rnn\.\w+_l(\d+)")),
)
