"""Contenders that take turns in one process, so that a busy machine is as busy for each."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

Samples = dict[str, list[float]]


def in_turns(measures: Mapping[str, Callable[[], float]], rounds: int, warm_up: int = 1) -> Samples:
    """What each contender measures, round by round; every other round runs backwards.

    Args:
        measures: by name; each gives one figure.
        rounds: that count.
        warm_up: rounds before them, which do not.
    """
    samples: Samples = {name: [] for name in measures}
    for turn in range(-warm_up, rounds):
        for name, measure in list(measures.items())[:: 1 if turn % 2 else -1]:
            figure = measure()
            if turn >= 0:
                samples[name].append(figure)
    return samples


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """The median, with the least and the most."""
    least, most = min(values), max(values)
    return f"{statistics.median(values):{form}} ({least:{form}} - {most:{form}})"
