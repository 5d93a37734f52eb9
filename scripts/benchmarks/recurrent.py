"""Two LSTM layers beside those of torch and Keras, and the load of a language model.

Every function imports its library when it is called, and gives the call that the clock measures.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

WIDTH, LAYERS, STEPS, BATCHES = 512, 2, 256, (1, 32)
VOCABULARY = 10_000  # of the language model, in the published sizes of AWD-LSTM

Run = Callable[[], Any]


def sequences(batch: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, STEPS, WIDTH), dtype=np.float32)


def _torch_lstm() -> Any:
    import torch

    torch.manual_seed(0)
    return torch.nn.LSTM(WIDTH, WIDTH, LAYERS, batch_first=True).eval()


def _zoo_lstm() -> Any:
    from zoo.layers.recurrent import LSTM

    layer = LSTM(WIDTH, LAYERS)
    layer.build((None, None, WIDTH))
    return layer


def _keras_lstm() -> Any:
    import keras

    layers = [keras.layers.LSTM(WIDTH, return_sequences=True) for _ in range(LAYERS)]
    return keras.Sequential([keras.Input((None, WIDTH)), *layers])


# ---------------------------------------------------------------- inference


def _graph_runner(make: Callable[[], Any]) -> Callable[[int], Run]:
    import tensorflow as tf

    layer = make()
    run = tf.function(lambda x: layer(x, training=False))

    def bind(batch: int) -> Run:
        x = tf.constant(sequences(batch))
        return lambda: run(x).numpy()

    return bind


def _torch_runner() -> Callable[[int], Run]:
    import torch

    module = _torch_lstm()

    def bind(batch: int) -> Run:
        x = torch.from_numpy(sequences(batch))

        def run() -> Any:
            with torch.inference_mode():
                return module(x)[0].numpy()

        return run

    return bind


RUNNERS: dict[str, Callable[[], Callable[[int], Run]]] = {
    "zoo": lambda: _graph_runner(_zoo_lstm),
    "torch": _torch_runner,
    "keras.layers.LSTM": lambda: _graph_runner(_keras_lstm),
}

# ---------------------------------------------------------------- training


def _graph_trainer(make: Callable[[], Any]) -> Callable[[int], Run]:
    import tensorflow as tf

    layer = make()

    @tf.function
    def gradients(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(layer(x, training=True) ** 2)
        return tape.gradient(loss, [v.value for v in layer.trainable_variables])

    def bind(batch: int) -> Run:
        x = tf.constant(sequences(batch))
        return lambda: [np.asarray(g) for g in gradients(x)]

    return bind


def _torch_trainer() -> Callable[[int], Run]:
    import torch

    module = _torch_lstm().train()

    def bind(batch: int) -> Run:
        x = torch.from_numpy(sequences(batch))

        def run() -> Any:
            module.zero_grad()
            (module(x)[0] ** 2).mean().backward()
            return [p.grad.numpy() for p in module.parameters()]

        return run

    return bind


TRAINERS: dict[str, Callable[[], Callable[[int], Run]]] = {
    "zoo": lambda: _graph_trainer(_zoo_lstm),
    "torch": _torch_trainer,
    "keras.layers.LSTM": lambda: _graph_trainer(_keras_lstm),
}

# ---------------------------------------------------------------- loading


def write_language_model(folder: Path) -> None:
    """Write an AWD-LSTM in its published sizes to `folder`: fresh weights, and a config."""
    import zoo

    zoo.save(zoo.load("awd_lstm", pretrained=False, vocab_size=VOCABULARY), folder)


def _zoo_load(folder: Path) -> Run:
    import zoo
    import zoo.loading.assembling

    return lambda: zoo.load(folder)


def _keras_load(folder: Path) -> Run:
    """The same network in Keras's layers, which are initialised before they are given values."""
    import keras
    from safetensors.numpy import load_file

    def load() -> Any:
        tensors = load_file(folder / "model.safetensors")
        model = keras.Sequential([keras.Input((None,), dtype="int32")])
        model.add(keras.layers.Embedding(VOCABULARY, 400))
        for width in (1152, 1152, 400):
            model.add(keras.layers.LSTM(width, return_sequences=True))
        model.layers[0].set_weights([tensors["encoder.weight"]])
        for k, layer in enumerate(model.layers[1:]):
            part = f"rnns.{k}.module"
            bias = tensors[f"{part}.bias_ih_l0"] + tensors[f"{part}.bias_hh_l0"]
            state = tensors[f"rnns.{k}.weight_hh_l0_raw"]
            layer.set_weights([tensors[f"{part}.weight_ih_l0"].T, state.T, bias])
        return model

    return load


LOADERS: dict[str, Callable[[Path], Run]] = {"zoo": _zoo_load, "keras layers": _keras_load}
