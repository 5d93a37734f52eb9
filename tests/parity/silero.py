"""The reference of silero-vad: the package's ONNX graph, its segments, and a twin in torch.

The package's ONNX files hold other weights than its safetensors file, from another training of the
same network. So the ONNX graph for whole sequences runs here with the weights of the safetensors
file in their place.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import silero_vad
import torch
from safetensors.numpy import load_file

DATA = Path(silero_vad.__file__).parent / "data"
WEIGHTS = DATA / "silero_vad_16k.safetensors"
WINDOW, CONTEXT, HIDDEN = 512, 64, 128


@functools.cache
def tensors() -> dict[str, np.ndarray]:
    return load_file(WEIGHTS)


def frames(audio: np.ndarray) -> np.ndarray:
    """Windows with their context `[t, 576]` of samples, as the package's `audio_forward`."""
    audio = np.pad(audio, (CONTEXT, -len(audio) % WINDOW))
    starts = range(0, len(audio) - CONTEXT, WINDOW)
    return np.stack([audio[i : i + CONTEXT + WINDOW] for i in starts])


class OnnxTwin:
    """The package's `silero_vad_16k_sequence.onnx` with the weights of its safetensors file.

    Called with one window and a rate, it is what `get_speech_timestamps` takes for a model.
    """

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        self._weights = {name: onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(v))
                         for name, v in _initializers(tensors()).items()}  # fmt: skip
        for name, value in self._weights.items():
            options.add_initializer(name, value)
        path = str(DATA / "silero_vad_16k_sequence.onnx")
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        self.reset_states()

    def reset_states(self) -> None:
        self._state = [np.zeros((1, 1, HIDDEN), np.float32)] * 2
        self._context = np.zeros(CONTEXT, np.float32)

    def run(self, windows: np.ndarray) -> np.ndarray:
        """Probabilities `[t]` of windows `[t, 576]`, after those before."""
        h, c = self._state
        feeds = {"input": windows.astype(np.float32), "h": h, "c": c}
        outputs = self._session.run(["speech_probs", "hn", "cn"], feeds)
        self._state = outputs[1:]
        return outputs[0].reshape(-1)

    def __call__(self, window: torch.Tensor, sampling_rate: int) -> torch.Tensor:
        assert (sampling_rate, window.shape) == (16_000, (WINDOW,))
        whole = np.concatenate([self._context, window.numpy()])
        self._context = whole[-CONTEXT:]
        return torch.from_numpy(self.run(whole[None]))


def _initializers(t: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors of the safetensors file by the names of the ONNX graph."""

    def reordered(name: str) -> np.ndarray:
        i, f, g, o = np.split(t[f"lstm_cell.{name}"], 4)
        return np.concatenate([i, o, f, g])  # the order of ONNX's LSTM

    named = {
        "stft.forward_basis_buffer": t["stft_conv.weight"],
        "output.weight": t["final_conv.weight"],
        "output.bias": t["final_conv.bias"],
        "onnx::LSTM_209": reordered("weight_ih")[None],
        "onnx::LSTM_210": reordered("weight_hh")[None],
        "onnx::LSTM_211": np.concatenate([reordered("bias_ih"), reordered("bias_hh")])[None],
    }
    for i in range(4):
        for part in ("weight", "bias"):
            named[f"encoder.{i}.{part}"] = t[f"conv{i + 1}.{part}"]
    return named


def package_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `get_speech_timestamps` for fields of zoo's `SegmentOptions`."""
    names = {
        "threshold": "threshold",
        "neg_threshold": "neg_threshold",
        "max_speech": "max_speech_duration_s",
        "cut_at_longest_silence": "use_max_poss_sil_at_max_speech",
    }
    spans = {
        "min_speech": "min_speech_duration_ms",
        "min_silence": "min_silence_duration_ms",
        "speech_pad": "speech_pad_ms",
        "min_silence_at_max_speech": "min_silence_at_max_speech",
    }
    values = {names[k]: v for k, v in options.items() if k in names}
    return values | {spans[k]: round(1000 * v) for k, v in options.items() if k in spans}


def torch_logits(
    t: Mapping[str, torch.Tensor],
    windows: torch.Tensor,
    *,
    stride: int = 128,
    pad: int = 64,
    strides: tuple[int, ...] = (1, 2, 2, 1),
) -> torch.Tensor:
    """The maths of the package's `TinySileroVAD` in torch: `[n, t, samples]` to logits `[n, t]`."""
    functional = torch.nn.functional
    n, steps, samples = windows.shape
    x = functional.pad(windows.reshape(n * steps, 1, samples), (0, pad), mode="reflect")
    x = functional.conv1d(x, t["stft_conv.weight"], stride=stride)
    bins = x.shape[1] // 2
    x = (x[:, :bins] ** 2 + x[:, bins:] ** 2).sqrt()
    for i, step in enumerate(strides, 1):
        weight, bias = t[f"conv{i}.weight"], t[f"conv{i}.bias"]
        x = functional.conv1d(x, weight, bias, stride=step, padding=1).relu()
    x = x.reshape(n, steps, -1)
    cell = [t[f"lstm_cell.{k}"] for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    state = [torch.zeros(n, cell[1].shape[1], dtype=x.dtype)] * 2
    logits = []
    for i in range(steps):
        state = torch.lstm_cell(x[:, i], state, *cell)
        logits.append(state[0].relu() @ t["final_conv.weight"][0, :, 0] + t["final_conv.bias"])
    return torch.stack(logits, 1)
