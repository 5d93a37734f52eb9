"""Write tests/goldens/silero_vad.json: logits of the reference's maths in torch, and its segments.

As in `make_goldens.py`, weights are not stored: both sides make them from the tensors' names and
shapes (tests/synthetic.py). Needs what `make parity` installs.
"""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "parity")]

import numpy as np  # noqa: E402
import silero  # noqa: E402
import synthetic  # noqa: E402
import synthetic_audio  # noqa: E402
import torch  # noqa: E402
from silero_vad.utils_vad import get_speech_timestamps_from_probs  # noqa: E402

# the published network, and the one that the package's ONNX file has for 8 kHz
CONFIGS: dict[str, dict[str, Any]] = {
    "16 kHz": {},
    "8 kHz": {"window": 256, "context": 32, "n_fft": 128, "stride": 64, "pad": 32},
}
SEGMENT_CASES = 60
PUBLISHED = {"window": 512, "context": 64, "n_fft": 256, "stride": 128, "pad": 64}


def shapes(n_fft: int) -> dict[str, tuple[int, ...]]:
    """Tensors of the published file, for a transform of `n_fft` samples."""
    bins = n_fft // 2 + 1
    published = {name: tuple(tensor.shape) for name, tensor in silero.tensors().items()}
    return published | {"stft_conv.weight": (2 * bins, 1, n_fft), "conv1.weight": (128, bins, 3)}


def logits(config: dict[str, Any]) -> list[list[float]]:
    """Outputs `[2, 9]` on the synthetic weights and windows."""
    options = PUBLISHED | config
    tensors = synthetic.state(shapes(options["n_fft"]))
    windows = synthetic_audio.windows(options["context"] + options["window"])
    outputs = silero.torch_logits(
        {name: torch.tensor(tensor) for name, tensor in tensors.items()},
        torch.tensor(windows),
        stride=options["stride"],
        pad=options["pad"],
    )
    return outputs.tolist()


def segments(seed: int) -> list[list[int]]:
    """The package's segments, in samples, of the probabilities that `seed` gives."""
    rng = np.random.default_rng(seed)
    values, options = synthetic_audio.probabilities(rng), synthetic_audio.segment_options(rng)
    found = get_speech_timestamps_from_probs(values.tolist(), **silero.package_options(options))
    return [[segment["start"], segment["end"]] for segment in found]


def main() -> None:
    cases = {name: {"config": c, "logits": logits(c)} for name, c in CONFIGS.items()}
    names = {name: list(shape) for name, shape in shapes(PUBLISHED["n_fft"]).items()}
    reference = f"torch {torch.__version__}, silero-vad {metadata.version('silero-vad')}"
    golden = {
        "reference": reference,
        "tensors": names,
        "cases": cases,
        "segments": [segments(seed) for seed in range(SEGMENT_CASES)],
    }
    path = synthetic.GOLDENS / "silero_vad.json"
    path.write_text(json.dumps(golden, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
