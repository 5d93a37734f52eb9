"""Recordings that anyone can make again: what a voice makes physically, and what is no voice.

A voice is a train of pulses at its pitch through three resonances (Fant, "Acoustic Theory of Speech
Production", 1960), in syllables that glide from vowel to vowel. Detectors of speech take it for
speech, so that both answers are there to compare.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

RATE = 16_000
# first three formants in Hz of six vowels (Peterson and Barney, 1952, men)
VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (530, 1840, 2480),
          (570, 840, 2410), (300, 870, 2240), (660, 1720, 2410))  # fmt: skip
BANDWIDTHS = (60, 90, 150)  # Hz


def voice(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Syllables in groups, with pauses of 30 to 300 ms between them. Float64, at most 1."""
    pitch, parts, length = rng.uniform(90, 240), [], 0
    while length < seconds * RATE:
        count = int(rng.integers(2, 8))
        parts += [_syllable(rng, pitch * rng.uniform(0.85, 1.15)) for _ in range(count)]
        parts += [np.zeros(int(rng.choice([0.03, 0.1, 0.3]) * RATE))]
        length = sum(map(len, parts))
    return np.concatenate(parts)[: int(seconds * RATE)]


def _syllable(rng: np.random.Generator, pitch: float) -> np.ndarray:
    time = np.arange(int(rng.uniform(0.12, 0.3) * RATE)) / RATE
    glide = pitch * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(1, 4) * time + rng.uniform(0, 6)))
    pulses = np.diff(np.floor(np.cumsum(glide / RATE)), prepend=0)
    source = pulses + np.cumsum(pulses - pulses.mean()) / 2 + rng.normal(size=len(time)) / 50
    first, last = (_vowel(source, VOWELS[i]) for i in rng.integers(len(VOWELS), size=2))
    shape = np.minimum(1, np.minimum(time / 0.02, (time[-1] - time) / 0.05))
    sound = shape * (first + (last - first) * time / time[-1])
    if rng.random() < 0.4:
        return sound
    hiss = np.diff(rng.normal(size=int(rng.uniform(0.04, 0.1) * RATE)))
    return np.concatenate([hiss * np.hanning(len(hiss)) * rng.uniform(0.05, 0.2), sound])


def _vowel(source: np.ndarray, formants: tuple[int, ...]) -> np.ndarray:
    size = 1 << (2 * len(source)).bit_length()
    spectrum = np.fft.rfft(source, size)
    steps = np.arange(1600)
    for frequency, bandwidth in zip(formants, BANDWIDTHS, strict=True):
        angle, radius = 2 * np.pi * frequency / RATE, np.exp(-np.pi * bandwidth / RATE)
        spectrum *= np.fft.rfft(radius**steps * np.sin((steps + 1) * angle), size)
    sound = np.fft.irfft(spectrum, size)[: len(source)]
    return sound / abs(sound).max()


def silence(rng: np.random.Generator, seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * RATE))


def noise(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """White, or with a falling spectrum."""
    white = rng.normal(size=int(seconds * RATE)) / 4
    if rng.random() < 0.5:
        return white
    spectrum = np.fft.rfft(white)
    return np.fft.irfft(spectrum / np.sqrt(1 + np.arange(len(spectrum)) / 50), len(white))


def tones(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Pure tones of half a second."""
    time = np.arange(int(seconds * RATE)) / RATE
    pitches = rng.uniform(80, 4000, int(2 * seconds) + 1)[(2 * time).astype(int)]
    return np.sin(2 * np.pi * np.cumsum(pitches / RATE)) / 2


def clicks(rng: np.random.Generator, seconds: float) -> np.ndarray:
    return (rng.random(int(seconds * RATE)) < 4 / RATE) * rng.uniform(-1, 1)


def chords(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Plucked chords of four notes with their harmonics, two in a second."""
    sound = np.zeros(int(seconds * RATE))
    for start in range(0, len(sound), RATE // 2):
        time = np.arange(min(RATE, len(sound) - start)) / RATE
        for note in rng.integers(0, 24, 4):
            waves = [np.sin(2 * np.pi * 110 * k * 2 ** (note / 12) * time) / k for k in range(1, 6)]
            sound[start : start + len(time)] += np.exp(-4 * time) * sum(waves) / 16
    return sound


SCENES = (voice, silence, voice, noise, voice, tones, clicks, chords)


def recording(seconds: float, seed: int = 0) -> np.ndarray:
    """Scenes of 2 to 8 seconds, at different volumes, over faint noise. float32, -1 to 1."""
    rng = np.random.default_rng(seed)
    parts, length = [], 0
    while length < seconds * RATE:
        parts += [
            SCENES[scene](rng, rng.uniform(2, 8)) * rng.choice([0.1, 0.3, 0.6])
            for scene in rng.permutation(len(SCENES))
        ]
        length = sum(map(len, parts))
    sound = np.concatenate(parts)[: int(seconds * RATE)]
    return (sound + rng.normal(size=len(sound)) * 1e-3).clip(-1, 1).astype(np.float32)


def windows(samples: int) -> np.ndarray:
    """Noise in place of windows, float64 `[2, 9, samples]`."""
    return np.random.default_rng(7).normal(size=(2, 9, samples)) / 4


def probabilities(rng: np.random.Generator) -> np.ndarray:
    """Some hundred windows in which every rule of segments has something to do. float32."""
    levels = [np.full(rng.integers(1, 30), rng.random()) for _ in range(20)]
    values = np.concatenate(levels)
    values = values + rng.normal(0, 0.1) * rng.normal(size=len(values))
    return values.clip(0, 1).astype(np.float32)


def segment_options(rng: np.random.Generator) -> dict[str, Any]:
    """Fields of `SegmentOptions`, spans in whole milliseconds."""
    options = {
        "threshold": float(rng.choice([0.05, 0.3, 0.5, 0.9])),
        "min_speech": float(rng.choice([0, 0.064, 0.25, 1])),
        "max_speech": float(rng.choice([math.inf, 0.5, 1, 2, 3])),
        "min_silence": float(rng.choice([0, 0.032, 0.1, 0.3, 0.7])),
        "speech_pad": float(rng.choice([0, 0.03, 0.2, 0.4])),
        "min_silence_at_max_speech": float(rng.choice([0, 0.032, 0.098, 0.2])),
        "cut_at_longest_silence": bool(rng.integers(2)),
    }
    if rng.random() < 0.3:
        options["neg_threshold"] = float(rng.random() * options["threshold"])
    return options
