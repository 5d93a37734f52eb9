"""Silero VAD: the probability of speech in each window of a recording, by a spectrum and an LSTM.

Silero Team, "Silero VAD: pre-trained enterprise-grade Voice Activity Detector", 2024,
https://github.com/snakers4/silero-vad. No paper describes it. The reference is the package
silero-vad 6.2: `tinygrad_model.py`, which states the maths, and its ONNX files, whose graphs are
the same. Layers have the names of the published safetensors file.

A window of 512 samples comes after the last 64 of the window before it. Four frames of a
short-time Fourier transform go through four convolutions over time to one vector; an LSTM carries
what it knows from window to window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.architectures.base import Architecture, Graph
from zoo.errors import ConfigError
from zoo.formats.silero_vad import FORMATS
from zoo.layers.activation import Activation
from zoo.layers.base import Layer, Shape, register
from zoo.layers.convolution import Conv1D
from zoo.layers.head import real_input
from zoo.layers.recurrent import LSTM
from zoo.typed import Count, Size


@dataclass(frozen=True, kw_only=True)
class SileroVADConfig:
    """Options of the family, in the terms of `TinySileroVAD`.

    Attributes:
        window, context: samples of a window, and of the one before that go with it.
        n_fft, stride, pad: samples of a frame of the transform, from frame to frame, and mirrored
            at the end of a window.
        channels, strides: of the convolutions, which together leave one step.
        hidden_size: of the LSTM.

    Raises:
        ConfigError: convolutions that leave another number of steps.
    """

    window: Size = 512
    context: Count = 64
    n_fft: Size = 256
    stride: Size = 128
    pad: Count = 64
    channels: tuple[Size, ...] = (128, 64, 64, 128)
    strides: tuple[Size, ...] = (1, 2, 2, 1)
    hidden_size: Size = 128

    def __post_init__(self) -> None:
        steps = (self.context + self.window + self.pad - self.n_fft) // self.stride + 1
        for stride in self.strides:
            steps = (steps - 1) // stride + 1
        if steps != 1 or len(self.channels) != len(self.strides):
            raise ConfigError(
                f"channels={self.channels} and strides={self.strides} leave {steps} steps of a "
                f"window of {self.window} samples; one was expected, of as many layers in both."
            )


# ---------------------------------------------------------------- layers


@register
class SpectralMagnitude(Layer):
    """Short-time Fourier transform as a convolution, `[n, samples] -> [n, frames, bins]`.

    Magnitudes of `n_fft / 2 + 1` bins. The basis is a weight, since checkpoints hold it, but it is
    not trained: `[n_fft, 1, 2 * bins]`, cosines and then sines under a periodic Hann window.

    Args:
        n_fft, stride: samples of a frame, and from frame to frame.
        pad: samples mirrored at the end.
    """

    n_fft: int
    stride: int
    pad: int

    @property
    def bins(self) -> int:
        return self.n_fft // 2 + 1

    def build(self, input_shape: Shape) -> None:
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.n_fft, 1, 2 * self.bins),
            initializer=self._basis,
            trainable=False,
        )

    def _basis(self, shape: Shape, dtype: Any) -> Any:
        angles = 2 * np.pi * np.outer(np.arange(self.n_fft), np.arange(self.bins)) / self.n_fft
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.n_fft) / self.n_fft)
        basis = np.concatenate([np.cos(angles), -np.sin(angles)], axis=1) * window[:, None]
        return ops.convert_to_tensor(basis.reshape(shape).astype(np.float64), dtype)

    def call(self, inputs):
        x = ops.pad(inputs, ((0, 0), (0, self.pad)), mode="reflect")
        x = ops.conv(ops.expand_dims(x, -1), self.kernel, self.stride, "valid")
        real, imaginary = x[..., : self.bins], x[..., self.bins :]
        return ops.sqrt(real * real + imaginary * imaginary)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        frames = (input_shape[1] + self.pad - self.n_fft) // self.stride + 1
        return (input_shape[0], frames, self.bins)


@register
class WindowEncoder(Layer):
    """Each window to one vector, apart from all others: `[n, t, samples] -> [n, t, channels]`.

    Args:
        n_fft, stride, pad: of the transform; see `SpectralMagnitude`.
        channels, strides: of the convolutions.
    """

    n_fft: int
    stride: int
    pad: int
    channels: tuple[int, ...]
    strides: tuple[int, ...]

    def setup(self) -> None:
        self.channels, self.strides = tuple(self.channels), tuple(self.strides)
        self.spectrum = self.child(
            SpectralMagnitude, self.n_fft, self.stride, self.pad, name="stft_conv"
        )
        self.convolutions = [
            self.child(Conv1D, filters, 3, strides=step, pad=1, name=f"conv{i}")
            for i, (filters, step) in enumerate(zip(self.channels, self.strides, strict=True), 1)
        ]

    def build(self, input_shape: Shape) -> None:
        shape = (None, input_shape[-1])
        for layer in (self.spectrum, *self.convolutions):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, inputs):
        n, t = ops.shape(inputs)[:2]
        x = self.spectrum(ops.reshape(inputs, (-1, inputs.shape[-1])))
        for convolution in self.convolutions:
            x = ops.relu(convolution(x))
        return ops.reshape(x, (n, t, x.shape[-1]))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:2], self.channels[-1])


# ---------------------------------------------------------------- network


def build(config: SileroVADConfig, input_size: Any = (None, None)) -> Graph:
    """The network as symbolic tensors: windows `[n, t, context + window]` to logits `[n, t]`."""
    windows = real_input((None, config.context + config.window), "windows")
    x = WindowEncoder(
        config.n_fft, config.stride, config.pad, config.channels, config.strides, name="encoder"
    )(windows)
    x = LSTM(config.hidden_size, name="lstm_cell")(x)
    x = Activation("relu", name="relu")(x)
    x = Conv1D(1, 1, name="final_conv")(x)
    logits = keras.layers.Reshape((-1,), name="logits")(x)
    return Graph(inputs=windows, outputs=logits, features=())


# ---------------------------------------------------------------- registration

FAMILY = Architecture(
    name="silero_vad",
    config=SileroVADConfig,
    build=build,
    formats=FORMATS,
    embedding="lstm_cell",
)
