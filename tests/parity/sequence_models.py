"""Sequence models in torch, as their papers and published code have them, under their names."""

from __future__ import annotations

from reference import torch

nn = torch.nn
packed, padded = nn.utils.rnn.pack_padded_sequence, nn.utils.rnn.pad_packed_sequence


class WeightDrop(nn.Module):
    """A module whose recurrent weights are kept apart, to be dropped before they are used.

    `inside`: under the module (salesforce), not beside it (fastai).
    """

    def __init__(self, module: nn.LSTM, inside: bool) -> None:
        super().__init__()
        self.module = module
        owner = module if inside else self
        raw = module.weight_hh_l0
        del module._parameters["weight_hh_l0"]
        owner.register_parameter("weight_hh_l0_raw", nn.Parameter(raw.data))
        self.owner = [owner]  # a list: no module of its own

    def forward(self, x):
        inner = self.module
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        weights = [
            self.owner[0].weight_hh_l0_raw if n == "weight_hh_l0" else getattr(inner, n)
            for n in names
        ]
        zeros = x.new_zeros(1, len(x), inner.hidden_size)
        return torch._VF.lstm(x, (zeros, zeros), weights, True, 1, 0.0, False, False, True)[0]


class AWDLSTM(nn.Module):
    """The language model of arXiv:1708.02182, evaluated."""

    def __init__(self, vocab_size, emb_sz, n_hid, n_layers, tie_weights=True, inside=False):
        super().__init__()
        last = emb_sz if tie_weights else n_hid
        widths = [emb_sz, *[n_hid] * (n_layers - 1), last]
        self.encoder = nn.Embedding(vocab_size, emb_sz)
        self.rnns = nn.ModuleList(
            WeightDrop(nn.LSTM(widths[k], widths[k + 1], batch_first=True), inside)
            for k in range(n_layers)
        )
        self.decoder = nn.Linear(last, vocab_size)
        if tie_weights:
            self.decoder.weight = self.encoder.weight

    def forward(self, tokens):
        x = self.encoder(tokens)
        for rnn in self.rnns:
            x = rnn(x)
        return self.decoder(x)


class Network(nn.Module):
    """`torch.nn.LSTM` or `GRU` with a linear head, over packed sequences."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        width = config.features
        if config.vocab_size is not None:
            width = config.embedding_dim
            self.encoder = nn.Embedding(config.vocab_size, width, padding_idx=config.padding_idx)
        options = {"proj_size": config.proj_size} if config.cell == "lstm" else {}
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[config.cell]
        self.rnn = kind(
            width,
            config.hidden_size,
            config.num_layers,
            bias=config.bias,
            batch_first=True,
            bidirectional=config.bidirectional,
            **options,
        )
        features = (config.proj_size or config.hidden_size) * (2 if config.bidirectional else 1)
        outputs = config.num_classes
        if config.head == "forecaster":
            outputs = config.horizon * len(config.quantiles)
        self.decoder = nn.Linear(features, outputs)

    def forward(self, x, lengths):
        config, total = self.config, x.shape[1]
        if config.vocab_size is not None:
            x = self.encoder(x)
        mask = torch.arange(total)[None, :] < torch.tensor(lengths)[:, None]
        kept, count = mask[..., None].double(), torch.tensor(lengths)[:, None, None].double()
        scaled = config.head == "forecaster" and config.scale
        if scaled:
            mean = (x * kept).sum(1, keepdim=True) / count
            deviation = (((x - mean) * kept).pow(2).sum(1, keepdim=True) / count + 1e-5).sqrt()
            x = (x - mean) / deviation
        run, final = self.rnn(packed(x, lengths, batch_first=True, enforce_sorted=False))
        x, _ = padded(run, batch_first=True, total_length=total)
        if config.head == "tagger":
            return self.decoder(x)
        if config.pool == "last" or config.head == "forecaster":
            h = final if config.cell == "gru" else final[0]
            x = torch.cat([h[-2], h[-1]], -1) if config.bidirectional else h[-1]
        elif config.pool == "mean":
            x = (x * kept).sum(1) / count[:, 0]
        else:
            x = x.masked_fill(~mask[..., None], -torch.inf).max(1).values
        y = self.decoder(x)
        if config.head == "forecaster":
            y = y.reshape(len(y), config.horizon, len(config.quantiles))
            if scaled:
                y = y * deviation[:, :, :1] + mean[:, :, :1]
        return y
