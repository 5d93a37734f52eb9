"""How others write Silero's voice detector: the names of its own safetensors files."""

from __future__ import annotations

from zoo.registry.dialect import Dialect, Formats
from zoo.weights.mapping import KERNEL, Row, WeightMap, linear_rows

WEIGHTS = WeightMap(
    (
        Row("encoder.*.kernel", "*.weight", KERNEL),
        Row("encoder.*.bias", "*.bias"),
        Row("lstm_cell.*_l0", "lstm_cell.*"),
        *linear_rows("final_conv", "final_conv"),
    )
)
FORMATS = Formats(dialects={"torch": Dialect(library="silero-vad 6.2", weights=WEIGHTS)})
