"""The registry's data files, from the metadata of the libraries that the models come from."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# of `kinds`, `reference` and `build_index`
sys.path[:0] = [str(ROOT / name) for name in ("tests", "tests/parity", "scripts")]
