"""Which example comes when: a function of the seed and the place alone, so that a run can go on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zoo.errors import InputError, OptionError

WINDOW = 32  # batches among which examples are sorted by length

_PERMUTATIONS, _BATCHES = range(2)  # what random numbers are for: each has its own


def stream(count: int, seed: int, first: int, number: int) -> np.ndarray:
    """A stretch of the endless sequence of permutations of `range(count)`.

    Permutation k follows from `(seed, k)` alone, so that any stretch costs only the permutations
    that it touches.

    Args:
        first: place of the sequence that the stretch begins at.
        number: its length.

    Returns:
        int64 `[number]`, values from 0 to `count - 1`.
    """
    passes = range(first // count, -(-(first + number) // count))
    held = [_rng(seed, _PERMUTATIONS, k).permutation(count) for k in passes]
    places = np.concatenate([np.empty(0, np.int64), *held])
    return places[first % count :][:number]


@dataclass(frozen=True, eq=False)
class Sampler:
    """The batches of each epoch, all of one size.

    Without lengths they are consecutive places of `stream`: what an epoch leaves over opens the
    next one. With lengths the examples of an epoch are the very same, in other batches: of every
    `WINDOW` batches they are sorted by length, examples of one length in random order, and the
    batches come in random order. So in both cases, after any number of epochs, every example has
    come equally often, or once more or less.

    Args:
        count: examples.
        batch_size: examples of a batch. More than there are come in one batch several times.
        seed: not negative.
        lengths: steps of each example `[count]`, to batch sequences of similar length; None for
            inputs of one size.

    Raises:
        OptionError: `batch_size` below 1, or a negative seed.
        InputError: no examples, or other than `count` lengths.
    """

    count: int
    batch_size: int
    seed: int
    lengths: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"There are {self.count} examples; at least one was expected.")
        if self.batch_size < 1:
            raise OptionError(f"batch_size must be at least 1; got {self.batch_size}.")
        if self.seed < 0:
            raise OptionError(f"seed is {self.seed}; 0 or more was expected.")
        if self.lengths is not None and np.shape(self.lengths) != (self.count,):
            raise InputError(
                f"lengths has the shape {list(np.shape(self.lengths))}; one for each of the "
                f"{self.count} examples was expected."
            )

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return max(1, self.count // self.batch_size)

    def batches(self, epoch: int) -> np.ndarray:
        """The examples of an epoch, int64 `[steps, batch_size]`; they follow from its number alone.

        Args:
            epoch: counted from 0.
        """
        number = self.steps * self.batch_size
        places = stream(self.count, self.seed, epoch * number, number)
        if self.lengths is not None:
            places = self._by_length(places, epoch)
        return places.reshape(self.steps, self.batch_size)

    def _by_length(self, places: np.ndarray, epoch: int) -> np.ndarray:
        size = WINDOW * self.batch_size
        windows = [places[start : start + size] for start in range(0, len(places), size)]
        lengths = np.asarray(self.lengths)
        alike = np.concatenate([w[np.argsort(lengths[w], kind="stable")] for w in windows])
        order = _rng(self.seed, _BATCHES, epoch).permutation(self.steps)
        return alike.reshape(self.steps, self.batch_size)[order]


def _rng(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
