"""The registry's data files, from the metadata of the libraries that the models come from."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "parity")]  # `kinds` and `reference`
