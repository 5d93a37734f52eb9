"""How others write AWD-LSTMs: the names of weights of the authors, of fastai, and plain ones."""

from __future__ import annotations

from zoo.registry.dialect import Dialect, Formats
from zoo.weights.mapping import KERNEL, Row, WeightMap


def _dialect(library: str, encoder: str, decoder: str, raw: str, *copies: str) -> Dialect:
    """The names of one library.

    Args:
        encoder, decoder: what stands before the names of the two halves.
        raw: the recurrent weights before their dropout, of LSTM `*`.
        copies: other names of the embedding's matrix.
    """
    rnn, matrix = f"{encoder}rnns.*.module", f"{encoder}encoder.weight"
    last, dropped = f"{decoder}decoder.weight", f"{rnn}.weight_hh_l0"
    inputs = (matrix, *copies)
    rows = (
        Row("encoder.tied_embeddings", matrix, aliases=(*copies, last), written=(*inputs, last)),
        Row("encoder.embeddings", matrix, aliases=copies, written=inputs),
        Row("rnns.*.weight_hh_l0", raw, aliases=(dropped,), written=(raw,)),
        Row("rnns.*.weight_ih_l0", f"{rnn}.weight_ih_l0"),
        Row("rnns.*.bias_*", f"{rnn}.bias_*"),
        Row("decoder.kernel", f"{decoder}decoder.weight", KERNEL),
        Row("decoder.bias", f"{decoder}decoder.bias"),
    )
    # what some versions save beside the raw weights: the same after one draw of dropout
    return Dialect(library=library, weights=WeightMap(rows, ignore=(dropped,)))


FORMATS = Formats(
    dialects={
        "awd_lstm": _dialect("zoo", "", "", "rnns.*.weight_hh_l0_raw"),
        "salesforce": _dialect("awd-lstm-lm", "", "", "rnns.*.module.weight_hh_l0_raw"),
        "fastai": _dialect(
            "fastai 2", "0.", "1.", "0.rnns.*.weight_hh_l0_raw", "0.encoder_dp.emb.weight"
        ),
    }
)
