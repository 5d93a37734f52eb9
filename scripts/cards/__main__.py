"""Write the registry's data files: no figure in them is typed by hand.

    python -m scripts.cards [--results CHECKOUT] [--show MODULE]

The families and what they build of other libraries stand in `tests/kinds.toml`. Published
accuracies are those that the files have; they are read anew from the results tables of timm's
repository, `CHECKOUT` (bare or not). `--show` prints what the cards of a timm module would be, also
of one that no family builds yet.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from . import config_keys, labels, timm_models, transformers_models
from .text import write


def files(results: Path | None = None) -> dict[Path, Callable[[], str]]:
    """The text of every file, by a function; what reads other files of these stands after them."""
    return {
        **timm_models.files(results),
        **transformers_models.files(),
        **labels.files(),
        **config_keys.files(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", type=Path, metavar="CHECKOUT", help="of timm's repository")
    parser.add_argument("--show", metavar="MODULE", help="of timm.models, such as vgg")
    options = parser.parse_args()
    if options.show:
        print(timm_models.module_text(options.show, options.show, options.results), end="")
        return
    transformers_models.begin()
    for path, text in files(options.results).items():
        write(path, text())


if __name__ == "__main__":
    main()
