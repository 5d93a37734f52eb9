"""Write what transformers gives for drawn tokenizer files: `tests/goldens/tokenizers.json.xz`.

    python scripts/make_tokenizer_goldens.py

Folders of `tests/parity/tokenizer_folders.py`, of as many kinds as there are, with the tokens of
texts and pairs of them.
"""

from __future__ import annotations

import json
import lzma
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "parity"))

from reference import torch  # noqa: E402, F401  (transformers needs what it defines)
from test_text_settings import PAIRS, TEXTS, compare, reference  # noqa: E402

GOLDEN = ROOT / "tests" / "goldens" / "tokenizers.json.xz"
EACH = 3  # folders of each class and form of files


def main() -> None:
    cases: list[dict[str, Any]] = []
    kinds: Counter[tuple[str, bool]] = Counter()
    for seed in range(20_000, 20_600):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if compare(seed, folder) != "the same":
                continue
            theirs = reference(folder)
            kind = (type(theirs).__name__, (folder / "tokenizer.json").exists())
            if kinds[kind] == EACH:
                continue
            kinds[kind] += 1
            cases.append(case(folder, theirs))
    data = json.dumps({"texts": TEXTS, "cases": cases}, ensure_ascii=False).encode()
    GOLDEN.write_bytes(lzma.compress(data, preset=9))
    print(f"wrote {GOLDEN.relative_to(ROOT)}: {len(cases)} folders, {GOLDEN.stat().st_size} bytes")
    print(*kinds.items(), sep="\n")


def case(folder: Path, theirs: Any) -> dict[str, Any]:
    """The files of a folder, and what transformers makes of texts with them."""
    files = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.*")}
    firsts, seconds = map(list, zip(*PAIRS, strict=True))
    options = {"truncation": True, "max_length": 11, "return_token_type_ids": True}
    pairs, ids = theirs(firsts, seconds, **options), theirs(TEXTS)["input_ids"]
    return {
        "files": files,
        "ids": ids,
        "pairs": pairs["input_ids"],
        "types": pairs["token_type_ids"] if "token_type_ids" in theirs.model_input_names else None,
        "pad": theirs.pad_token_id,
        "sides": [theirs.padding_side, theirs.truncation_side],
        "texts": [theirs.decode(row, skip_special_tokens=True) for row in ids],
    }


if __name__ == "__main__":
    main()
