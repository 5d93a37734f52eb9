"""Pictures of results, drawn with matplotlib (the extra `plots`) and no display."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from zoo.tasks.audio import SpeechSegment

_COLUMNS = 2000  # of a waveform: more than a picture has pixels
_WIDE = 90  # characters of a line of a title
_HEAT = "plasma"
_OPACITY, _PALE = 0.55, 0.6  # of heat over a picture, and of white over what was not seen
_WAVE, _LINE, _SPEECH, _THRESHOLD = "#5f6b7a", "#0b5cad", "#ffe3a6", "#b3261e"


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


# ---------------------------------------------------------------- where a network looks


@dataclass(frozen=True, kw_only=True, eq=False)
class HeatRow:
    """A picture and what a network looks at in it.

    Attributes:
        pixels: the picture from 0 to 1, `[h, w, 3]`, perhaps reduced.
        size: its width and height, in pixels.
        box: left, top, right and bottom of the part that the network saw, in pixels.
        heatmap: heat of that part from 0 to 1, of any size.
        title: what is said above.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    box: tuple[float, float, float, float]
    heatmap: np.ndarray
    title: str


def heat_figure(rows: Sequence[HeatRow]) -> Figure:
    """Each picture, and beside it the same in grey under its heat; what was not seen is pale."""
    from matplotlib.figure import Figure

    heights = [_row_height(row) for row in rows]
    figure = Figure(figsize=(9, sum(heights)), layout="constrained")
    panels = figure.subfigures(len(rows), 1, squeeze=False, height_ratios=heights)
    for row, panel in zip(rows, panels[:, 0], strict=True):
        left, right = panel.subplots(1, 2)
        _draw_picture(left, row, row.pixels)
        _draw_heat(right, row)
        title = textwrap.fill(row.title, _WIDE)
        panel.suptitle(title, x=0.01, ha="left", fontsize=11, parse_math=False)
    return figure


def _row_height(row: HeatRow) -> float:
    """In inches, of a figure 9 wide."""
    width, height = row.size
    lines = len(textwrap.wrap(row.title, _WIDE))
    return float(np.clip(4.1 * height / width, 1.2, 4.1)) + 0.25 + 0.2 * lines


def _draw_picture(axes: Axes, row: HeatRow, pixels: np.ndarray) -> None:
    width, height = row.size
    axes.imshow(pixels, extent=(0, width, height, 0), vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _draw_heat(axes: Axes, row: HeatRow) -> None:
    """The picture in grey, heat over the part that was seen, and a colour bar."""
    from matplotlib import colormaps

    width, height = row.size
    left, top, right, bottom = row.box
    grey = 0.25 + 0.7 * np.repeat(row.pixels.mean(-1, keepdims=True), 3, axis=-1)
    _draw_picture(axes, row, grey + (1 - grey) * _unseen(row)[..., None])
    colours = colormaps[_HEAT](row.heatmap)
    colours[..., 3] = _OPACITY
    axes.imshow(colours, extent=(left, right, bottom, top), interpolation="bilinear")
    axes.set(xlim=(0, width), ylim=(height, 0))
    bar = axes.inset_axes((1.03, 0, 0.04, 1), facecolor="0.6")  # as a picture's middle grey
    scale: Any = colormaps[_HEAT](np.linspace(0, 1, 256)[:, None])
    scale[..., 3] = _OPACITY
    bar.imshow(scale, extent=(0, 1, 0, 1), origin="lower", aspect="auto")
    bar.set(xticks=[], yticks=[0, 0.5, 1], ylabel="heat")
    bar.yaxis.tick_right()
    bar.yaxis.set_label_position("right")
    bar.spines[:].set_visible(False)


def _unseen(row: HeatRow) -> np.ndarray:
    """How pale each pixel of a row's picture is made, `[h, w]`."""
    height, width = row.pixels.shape[:2]
    down, across = height / row.size[1], width / row.size[0]
    pale = np.full((height, width), _PALE, np.float32)
    left, top, right, bottom = (max(edge, 0) for edge in row.box)
    rows = slice(round(top * down), round(bottom * down))
    pale[rows, round(left * across) : round(right * across)] = 0
    return pale
