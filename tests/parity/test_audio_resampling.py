"""Resampling against torchaudio's formula in torch, and against scipy with the same filter."""

import math

import numpy as np
import pytest
import scipy.signal
import torch

from zoo.preprocessing.audio import resample

RATES = [8_000, 11_025, 12_345, 22_050, 44_100, 48_000, 96_000]
TARGET = 16_000


def torchaudio_resample(samples, rate, target):
    """`torchaudio.functional.resample` with its defaults, from its documented formula."""
    divisor = math.gcd(rate, target)
    old, new = rate // divisor, target // divisor
    cutoff = 0.99 * min(old, new)
    width = math.ceil(6 * old / cutoff)
    places = torch.arange(-width, width + old, dtype=torch.float64) / old
    phases = torch.arange(0, -new, -1, dtype=torch.float64)[:, None] / new
    times = ((phases + places) * cutoff).clamp(-6, 6)
    kernels = torch.sinc(times) * torch.cos(times * math.pi / 12) ** 2 * cutoff / old
    padded = torch.nn.functional.pad(torch.from_numpy(samples), (width, width + old))
    values = torch.nn.functional.conv1d(padded[None, None], kernels.float()[:, None], stride=old)
    return values[0].T.reshape(-1)[: math.ceil(new * len(samples) / old)].numpy()


@pytest.mark.parametrize("rate", RATES)
def test_torchaudio(rate):
    samples = np.random.default_rng(rate).normal(size=rate // 2 + 7).astype(np.float32)
    expected = torchaudio_resample(samples, rate, TARGET)
    result = resample(samples, rate, TARGET)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, atol=2e-6)


@pytest.mark.parametrize("rate", RATES)
def test_scipys_polyphase_with_the_same_filter(rate):
    divisor = math.gcd(rate, TARGET)
    old, new = rate // divisor, TARGET // divisor
    samples = np.random.default_rng(rate).normal(size=rate // 4).astype(np.float32)
    cutoff = 0.99 * min(old, new)
    half = math.ceil(6 * old * new / cutoff)
    times = np.arange(-half, half + 1) * cutoff / (old * new)
    window = np.where(abs(times) < 6, np.cos(np.pi * times / 12) ** 2, 0)
    # scipy scales a filter that it is given by `new`; the sum over one phase has to be 1
    taps = np.sinc(times) * window * cutoff / (old * new)
    expected = scipy.signal.resample_poly(samples.astype(np.float64), new, old, window=taps)
    result = resample(samples, rate, TARGET)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, atol=2e-6)
