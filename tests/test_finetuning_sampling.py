"""Which example comes when: reproducible from the seed and the epoch, and fair to every example."""

import numpy as np
import pytest

from zoo.errors import InputError, OptionError
from zoo.finetuning.sampling import WINDOW, Sampler, stream

SHAPES = [(10, 4), (10, 3), (7, 7), (1, 1), (97, 16), (5, 8), (1, 4), (2000, 2)]  # count, batch


def lengths_of(count):
    return np.random.default_rng(count).geometric(0.02, count)


@pytest.mark.parametrize("count", [1, 2, 9, 100])
def test_the_stream_is_permutations_one_after_another(count):
    passes = stream(count, 3, 0, 5 * count).reshape(5, count)
    assert passes.dtype == np.int64
    for row in passes:
        assert sorted(row) == list(range(count))
    if count == 100:
        assert len({tuple(row) for row in passes}) == 5


def test_any_stretch_of_the_stream_is_the_same_places():
    whole = stream(11, 5, 0, 100)
    for first in range(0, 60, 7):
        for number in (0, 1, 10, 11, 12, 40):
            assert np.array_equal(stream(11, 5, first, number), whole[first : first + number])


def test_seeds_give_other_streams():
    streams = {tuple(stream(30, seed, 0, 30)) for seed in (0, 1, 2, 2**32, 2**32 + 1, 2**70)}
    assert len(streams) == 6
    # a pass of one seed is no pass of its neighbour
    assert not np.array_equal(stream(30, 0, 30, 30), stream(30, 1, 0, 30))


@pytest.mark.parametrize("by_length", [False, True])
@pytest.mark.parametrize(("count", "batch"), SHAPES)
def test_an_epoch_follows_from_seed_and_epoch_alone(count, batch, by_length):
    lengths = lengths_of(count) if by_length else None
    in_order = [Sampler(count, batch, 8, lengths).batches(epoch) for epoch in range(4)]
    once = Sampler(count, batch, 8, lengths)
    for epoch in (3, 1, 0, 2, 1):  # no state is left by what was asked for before
        assert np.array_equal(once.batches(epoch), in_order[epoch])
        assert in_order[epoch].shape == (once.steps, batch)
        assert in_order[epoch].dtype == np.int64
    assert once.steps == max(1, count // batch)
    if count == 97:
        other = Sampler(count, batch, 9, lengths).batches(0)
        assert not np.array_equal(other, in_order[0])
        assert not np.array_equal(in_order[1], in_order[0])


@pytest.mark.parametrize("by_length", [False, True])
@pytest.mark.parametrize(("count", "batch"), SHAPES)
def test_every_example_comes_equally_often_but_for_one(count, batch, by_length):
    sampler = Sampler(count, batch, 1, lengths_of(count) if by_length else None)
    seen = np.zeros(count, int)
    for epoch in range(12):
        seen += np.bincount(sampler.batches(epoch).ravel(), minlength=count)
        assert seen.max() - seen.min() <= 1
    assert seen.sum() == 12 * sampler.steps * batch


def test_with_lengths_an_epoch_has_the_same_examples():
    plain, sorted_ = Sampler(97, 16, 4), Sampler(97, 16, 4, lengths_of(97))
    for epoch in range(3):
        one, other = plain.batches(epoch), sorted_.batches(epoch)
        assert sorted(one.ravel()) == sorted(other.ravel())
        assert not np.array_equal(one, other)


def padding(batches, lengths):
    """Part of the places of the batches that only fills up."""
    held = lengths[batches]
    return 1 - held.sum() / (held.max(1, keepdims=True) * np.ones_like(held)).sum()


@pytest.mark.parametrize("count", [200, 2000])
def test_batches_of_similar_length_have_less_padding(count):
    lengths = lengths_of(count)
    plain = padding(Sampler(count, 16, 0).batches(0), lengths)
    alike = padding(Sampler(count, 16, 0, lengths).batches(0), lengths)
    assert alike < plain / 2


def test_batches_of_similar_length_come_in_random_order():
    count = 16 * WINDOW * 2
    lengths = lengths_of(count)
    longest = lengths[Sampler(count, 16, 0, lengths).batches(0)].max(1)
    rising = np.mean(np.diff(longest) > 0)
    assert 0.3 < rising < 0.7  # sorted batches would rise almost always
    first, second = (Sampler(count, 16, 0, lengths).batches(epoch) for epoch in (0, 1))
    companions = [set(map(frozenset, batches.tolist())) for batches in (first, second)]
    assert not companions[0] & companions[1]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 4, 0), InputError, "0 examples"),
        ((4, 0, 0), OptionError, "batch_size must be at least 1; got 0"),
        ((4, 4, -1), OptionError, "seed is -1"),
        ((4, 4, 0, np.ones(3)), InputError, r"shape \[3\].*4 examples"),
    ],
)
def test_what_cannot_be_sampled_is_an_error(arguments, error, message):
    with pytest.raises(error, match=message):
        Sampler(*arguments)
