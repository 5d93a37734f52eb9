"""Write tests/goldens/sequences.json: outputs of torch's LSTM networks.

As in `make_goldens.py`, weights are not stored: both sides make them from the tensors' names and
shapes (tests/synthetic.py). Needs what `make parity` installs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "parity")]

import synthetic  # noqa: E402
import synthetic_sequences  # noqa: E402
import torch  # noqa: E402
from sequence_models import AWDLSTM, Network  # noqa: E402

from zoo.architectures.lstm import LSTMConfig  # noqa: E402


def module_of(case: synthetic_sequences.Case) -> torch.nn.Module:
    if case.architecture == "awd_lstm":
        return AWDLSTM(**case.options)
    return Network(LSTMConfig(**case.options))


def golden(case: synthetic_sequences.Case) -> dict[str, Any]:
    """Names and shapes of the tensors, and the outputs with the synthetic ones."""
    module = module_of(case).double()
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    tensors = synthetic_sequences.tensors(shapes)
    module.load_state_dict({name: torch.tensor(value) for name, value in tensors.items()})
    x = torch.tensor(case.inputs())
    with torch.no_grad():
        outputs = module(x) if case.architecture == "awd_lstm" else module(x, case.lengths)
    return {"tensors": {k: list(v) for k, v in shapes.items()}, "outputs": outputs.tolist()}


def main() -> None:
    cases = {name: golden(case) for name, case in synthetic_sequences.CASES.items()}
    written = {"reference": f"torch {torch.__version__}", "cases": cases}
    path = synthetic.GOLDENS / "sequences.json"
    path.write_text(json.dumps(written, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
