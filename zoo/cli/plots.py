"""Pictures of results, drawn with matplotlib (the extra `plots`) and no display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import InputError, OptionError
from zoo.weights.disk import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from zoo.tasks.audio import SpeechSegment

_COLUMNS = 2000  # of a waveform: more than a picture has pixels
_WAVE, _LINE, _SPEECH, _THRESHOLD = "#5f6b7a", "#0b5cad", "#ffe3a6", "#b3261e"


def require_matplotlib() -> None:
    """Raise `OptionError` where matplotlib is not installed, before any work is done."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise OptionError(
            'Pictures need matplotlib, which is not installed: pip install "tfzoo[plots]"'
        ) from error


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the file's suffix names.

    Raises:
        InputError: matplotlib knows no such format.
        DiskError: the file cannot be written.
    """
    kinds = figure.canvas.get_supported_filetypes()
    kind = path.suffix.removeprefix(".").lower()
    if kind not in kinds:
        raise InputError(
            f"{path} names no format of a picture; its suffix should be one of "
            f"{', '.join(sorted(kinds))}."
        )
    with replacing(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=120)


def speech_figure(
    samples: np.ndarray,
    probabilities: np.ndarray,
    segments: Sequence[SpeechSegment],
    *,
    sampling_rate: int,
    window: int,
    threshold: float,
    title: str,
) -> Figure:
    """The waveform and the probability of speech over time, with segments shaded.

    Args:
        samples: float32 `[t]`.
        probabilities: `[ceil(t / window)]`.
        segments: in seconds.
        sampling_rate: in Hz.
        window: samples per probability.
        threshold: of speech, drawn as a line.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    wave, speech = figure.subplots(2, 1, sharex=True)
    seconds = len(samples) / sampling_rate
    _draw_waveform(wave, samples, seconds)
    edges = np.arange(len(probabilities) + 1) * window / sampling_rate
    edges[-1] = seconds
    speech.stairs(probabilities, edges, color=_LINE, linewidth=1.2, baseline=None)
    speech.axhline(threshold, color=_THRESHOLD, linewidth=0.9, linestyle="--")
    speech.annotate(
        f"threshold\n{threshold:g}",
        xy=(1.008, threshold),
        xycoords=("axes fraction", "data"),
        va="center",
        color=_THRESHOLD,
        fontsize=8,
        annotation_clip=False,
    )
    speech.set(xlim=(0, seconds), ylim=(-0.02, 1.02), xlabel="seconds", ylabel="probability")
    for axes in (wave, speech):
        for segment in segments:
            axes.axvspan(segment.start, segment.end, color=_SPEECH, linewidth=0, zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
    total = sum(segment.end - segment.start for segment in segments)
    summary = f"{title}: speech in {total:.1f} of {seconds:.1f} seconds (shaded)"
    wave.set_title(summary, loc="left", parse_math=False)  # a file's name may have dollar signs
    return figure


def _draw_waveform(axes: Axes, samples: np.ndarray, seconds: float) -> None:
    """The least and the greatest sample of each column, as one band."""
    columns = min(_COLUMNS, len(samples))
    starts = np.linspace(0, len(samples), columns, endpoint=False).astype(int)
    low, high = np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)
    times = starts * (seconds / len(samples))
    axes.fill_between(times, low, high, color=_WAVE, linewidth=0.3, edgecolor=_WAVE)
    extent: Any = 1.05 * max(float(abs(samples).max()), 1e-3)
    axes.set(ylim=(-extent, extent), ylabel="amplitude")
