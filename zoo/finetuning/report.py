"""The folder of a run: the model, its history and metrics, and pictures of them."""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from zoo.errors import OptionError
from zoo.extras import missing
from zoo.figures import require_matplotlib, save_figure
from zoo.finetuning.checkpoint import LOGS
from zoo.finetuning.evaluation import Evaluation
from zoo.model import Model
from zoo.saving import save
from zoo.saving.readme import Facts, readme
from zoo.weights.disk import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HISTORY, METRICS = "history.csv", "metrics.json"
_TRAINING, _VALIDATION, _BEST = "#8a94a3", "#0b5cad", "#b3261e"
_MOST_NUMBERS = 25  # classes up to which a confusion matrix shows its counts

History = Mapping[str, Sequence[float]]


def write(folder: Path, model: Model, history: History, metrics: Evaluation, best: int) -> None:
    """Write all that a run leaves behind; the model's files come last.

    Args:
        best: number of the best epoch, from 1.
    """
    write_history(folder, history)
    _write_text(folder / METRICS, json.dumps(metrics.to_dict(), indent=1) + "\n")
    try:
        require_matplotlib()
    except OptionError as error:
        warnings.warn(f"No pictures were drawn. {error}", UserWarning, stacklevel=4)
    else:
        save_figure(curves(history, best), folder / "curves.png")
        save_figure(confusion_figure(metrics), folder / "confusion.png")
    save(model, folder)
    figures = {k: v for k, v in metrics.to_dict().items() if isinstance(v, float)}
    facts = Facts(metrics={"validation": figures}, history=history)
    _write_text(folder / "README.md", readme(model, f"./{folder.resolve().name}", facts))


def write_history(folder: Path, history: History) -> None:
    """`history.csv`: a line for each epoch."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["epoch", *history])
    lines.writerows([k, *row] for k, row in enumerate(zip(*history.values(), strict=True), 1))
    _write_text(folder / HISTORY, text.getvalue())


def tensorboard(folder: Path) -> list[keras.callbacks.Callback]:
    """What writes TensorBoard's logs of a run, where the extra `tensorboard` is installed."""
    if missing("tensorboard"):
        return []
    return [keras.callbacks.TensorBoard(folder / LOGS, write_graph=False)]


def read(folder: Path) -> tuple[dict[str, list[float]], Evaluation]:
    """History and metrics of a run that is finished."""
    with (folder / HISTORY).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    history = {name: [float(row[name]) for row in rows] for name in rows[0] if name != "epoch"}
    metrics = json.loads((folder / METRICS).read_text("utf-8"))
    return history, Evaluation.from_dict(metrics)


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")


# ---------------------------------------------------------------- pictures


def curves(history: History, best: int) -> Figure:
    """Loss, accuracy and learning rate by epoch; the best epoch is marked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    panels = figure.subplots(1, 3)
    for axes, name in zip(panels, ("loss", "accuracy", "learning_rate"), strict=True):
        _draw_course(axes, history, name, best)
    return figure


def _draw_course(axes: Axes, history: History, name: str, best: int) -> None:
    epochs = np.arange(1, len(history[name]) + 1)
    marker = "o" if len(epochs) < 30 else None
    style: dict[str, Any] = {"marker": marker, "markersize": 3.5}
    validated = f"val_{name}" in history
    axes.plot(epochs, history[name], color=_TRAINING, label="training", **style)
    if validated:
        values = history[f"val_{name}"]
        axes.plot(epochs, values, color=_VALIDATION, label="validation", **style)
        axes.plot(best, values[best - 1], "o", color=_BEST, markersize=7, label=f"epoch {best}")
        axes.legend(frameon=False, fontsize=9)
    axes.set_title(name.replace("_", " "), loc="left")
    axes.set_xlabel("epoch")
    axes.locator_params(axis="x", integer=True)
    axes.spines[["top", "right"]].set_visible(False)


def confusion_figure(metrics: Evaluation) -> Figure:
    """True classes in rows, predicted ones in columns, each row's shares as shades."""
    from matplotlib.figure import Figure

    counts = np.asarray(metrics.confusion)
    labels = [entry.label for entry in metrics.per_class]
    edge = float(np.clip(0.45 * len(labels) + 2.5, 4.5, 14))
    figure = Figure(figsize=(edge + 1, edge), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.75, label="share of the true class")
    few = len(labels) <= 4 * _MOST_NUMBERS
    ticks = range(len(labels)) if few else []
    short = [label if len(label) <= 24 else f"{label[:23]}\u2026" for label in labels]
    axes.set_xticks(ticks, short if few else [], rotation=90 if max(map(len, short)) > 2 else 0)
    axes.set_yticks(ticks, short if few else [])
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(f"{metrics.accuracy:.1%} of {metrics.examples} right", loc="left")
    if len(labels) <= _MOST_NUMBERS:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour)
    return figure
