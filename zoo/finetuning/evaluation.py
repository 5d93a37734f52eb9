"""How good a classifier is on labelled examples: accuracy, F1, calibration, confusions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from zoo.errors import AccessError, InputError, NotFoundError, TaskError, ZooError
from zoo.finetuning.examples import Examples, read_examples, without
from zoo.finetuning.sources import as_places, kind_of, short
from zoo.model import Model
from zoo.registry.heads import REGRESSION, SINGLE_LABEL
from zoo.tasks.classification import Classification
from zoo.tasks.graphs import compiled

BINS = 15  # of the calibration error
TOP = 5

_SHOWN_CLASSES, _SHOWN_CONFUSIONS = 20, 5
_UNREADABLE = (InputError, NotFoundError, AccessError)


@dataclass(frozen=True, kw_only=True)
class ClassMetrics:
    """How well one class is told from the others; a figure that would divide by 0 is 0.

    Attributes:
        label: its name.
        precision: part of the predictions of this class that are right.
        recall: part of its examples that are predicted as it.
        f1: harmonic mean of these two.
        support: its examples.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """What a model makes of labelled examples.

    Attributes:
        examples: how many there were.
        loss: mean cross-entropy, in nats.
        accuracy: part of them whose class has the highest logit.
        top5: part of them whose class is among the 5 highest; None below 6 classes.
        macro_f1: mean F1 of the classes that occur in the examples or in the predictions.
        calibration_error: mean distance of confidence from accuracy, over 15 bins of equal width
            of the highest probability, weighted by their examples (Guo et al., arXiv:1706.04599).
        per_class: in the order of the logits, also of classes without examples.
        confusion: int64 `[classes, classes]`, examples by true class (rows) and predicted class.
        skipped: name and reason of the examples that could not be read.
    """

    examples: int
    loss: float
    accuracy: float
    top5: float | None
    macro_f1: float
    calibration_error: float
    per_class: tuple[ClassMetrics, ...]
    confusion: np.ndarray
    skipped: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data, which `from_dict` takes back."""
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        return data | {
            "per_class": [dataclasses.asdict(entry) for entry in self.per_class],
            "confusion": self.confusion.tolist(),
            "skipped": [list(pair) for pair in self.skipped],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Evaluation:
        """The inverse of `to_dict`."""
        values = {
            "per_class": tuple(ClassMetrics(**entry) for entry in data["per_class"]),
            "confusion": np.array(data["confusion"], np.int64),
            "skipped": tuple((name, reason) for name, reason in data["skipped"]),
        }
        return cls(**{**data, **values})

    def __str__(self) -> str:
        """Tables for people: all together, the classes, what is taken for what."""
        return "\n".join([*self._facts(), "", *self._classes(), *self._confusions()])

    def _facts(self) -> Iterator[str]:
        facts: list[tuple[str, str | None]] = [
            ("examples", f"{self.examples:,}"),
            ("skipped", f"{len(self.skipped):,}" if self.skipped else None),
            ("accuracy", f"{100 * self.accuracy:.2f} %"),
            ("top-5 accuracy", None if self.top5 is None else f"{100 * self.top5:.2f} %"),
            ("macro F1", f"{self.macro_f1:.4f}"),
            ("loss", f"{self.loss:.4f}"),
            ("calibration error", f"{self.calibration_error:.4f}"),
        ]
        return (f"{name:<18} {value}" for name, value in facts if value is not None)

    def _classes(self) -> Iterator[str]:
        held = [entry for entry in self.per_class if entry.support]
        shown = held
        if len(held) > _SHOWN_CLASSES:
            shown = sorted(held, key=lambda entry: entry.f1)[:_SHOWN_CLASSES]
            yield f"The {_SHOWN_CLASSES} of {len(held):,} classes with the lowest F1:"
        width = min(40, max(len("class"), *(len(entry.label) for entry in shown)))
        yield f"{'class':<{width}}  precision  recall      F1  examples"
        for entry in shown:
            yield (
                f"{_cut(entry.label, width):<{width}}  {entry.precision:9.4f}  {entry.recall:6.4f}"
                f"  {entry.f1:6.4f}  {entry.support:8,}"
            )

    def _confusions(self) -> Iterator[str]:
        pairs = np.argwhere(self.confusion).tolist()
        wrong = sorted((-self.confusion[t, p], t, p) for t, p in pairs if t != p)
        if wrong:
            yield ""
            yield "most frequent confusions"
        for count, true, found in wrong[:_SHOWN_CONFUSIONS]:
            names = [_cut(self.per_class[k].label, 40) for k in (true, found)]
            yield f"{-count:8,}  {names[0]} taken for {names[1]}"


def _cut(label: str, width: int) -> str:
    return label if len(label) <= width else f"{label[: width - 3]}..."


# ---------------------------------------------------------------- figures


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """What the figures need of each example: arrays `[n]`, far less than its logits.

    Attributes:
        truth, predicted: classes.
        rank: classes that score higher than the true one.
        loss: cross-entropy.
        confidence: highest probability.
    """

    truth: np.ndarray
    predicted: np.ndarray
    rank: np.ndarray
    loss: np.ndarray
    confidence: np.ndarray


def score(logits: np.ndarray, labels: np.ndarray, names: Sequence[str] | None = None) -> Evaluation:
    """The figures of a classification.

    Args:
        logits: `[n, classes]`, of any float type.
        labels: int `[n]`, the true classes.
        names: of the classes; None: their numbers.

    Raises:
        InputError: no examples, shapes that do not fit, a label out of range, logits of NaN.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    return _summed([_judged(logits, labels)], logits.shape[1], names)


def _judged(logits: np.ndarray, labels: np.ndarray) -> _Judged:
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise InputError(
            f"Logits {list(logits.shape)} and labels {list(labels.shape)} do not fit: [n, classes] "
            "and [n] were expected."
        )
    classes = logits.shape[1]
    if labels.dtype.kind not in "iu" or ((labels < 0) | (labels >= classes)).any():
        raise InputError(
            f"The labels are {short(labels)}, values {labels.min()} to {labels.max()}; whole "
            f"numbers from 0 to {classes - 1} were expected, for {classes} classes."
        )
    logits = logits.astype(np.float64)
    wrong = np.isnan(logits).any(1) | (logits.max(1, initial=-np.inf) == np.inf)
    if wrong.any():
        raise InputError(
            f"The model gives NaN or infinity for {wrong.sum()} of {len(wrong)} examples of a "
            "batch, so that nothing can be said of it. Its weights, or its inputs, are no numbers."
        )
    own = np.take_along_axis(logits, labels[:, None].astype(np.intp), 1)
    ahead = (logits > own) | ((logits == own) & (np.arange(classes) < labels[:, None]))
    highest = logits.max(1, keepdims=True)
    total = np.exp(logits - highest).sum(1)
    return _Judged(
        truth=labels.astype(np.intp),
        predicted=logits.argmax(1),
        rank=ahead.sum(1),
        loss=np.log(total) + (highest - own)[:, 0],
        confidence=1 / total,
    )


def _summed(parts: Sequence[_Judged], classes: int, names: Sequence[str] | None) -> Evaluation:
    if not sum(len(part.truth) for part in parts):
        raise InputError("There are no examples; at least one was expected.")
    rows = _Judged(
        **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(_Judged)}
    )
    right = rows.predicted == rows.truth
    support, guesses, hits = (
        np.bincount(held, minlength=classes)
        for held in (rows.truth, rows.predicted, rows.truth[right])
    )
    f1 = 2 * hits / np.maximum(support + guesses, 1)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (rows.truth, rows.predicted), 1)
    figures = zip(
        names if names is not None else map(str, range(classes)),
        (hits / np.maximum(guesses, 1)).tolist(),
        (hits / np.maximum(support, 1)).tolist(),
        f1.tolist(),
        support.tolist(),
        strict=True,
    )
    kinds = [field.name for field in fields(ClassMetrics)]
    return Evaluation(
        examples=len(right),
        loss=float(rows.loss.mean()),
        accuracy=float(right.mean()),
        top5=float((rows.rank < TOP).mean()) if classes > TOP else None,
        macro_f1=float(f1[(support > 0) | (guesses > 0)].mean()),
        calibration_error=_calibration_error(rows.confidence, right),
        per_class=tuple(ClassMetrics(**dict(zip(kinds, row, strict=True))) for row in figures),
        confusion=confusion,
    )


def _calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Equation 3 of the paper; bin m holds confidences above (m - 1) / 15 and up to m / 15."""
    bins = np.digitize(confidence, np.arange(1, BINS) / BINS, right=True)
    gaps = np.bincount(bins, right - confidence, minlength=BINS)  # already times their examples
    return float(np.abs(gaps).sum() / len(right))


# ---------------------------------------------------------------- a model's figures


def evaluate(
    model: Model,
    data: Any,
    *,
    batch_size: int = 32,
    strict: bool = False,
    input_column: str | None = None,
    label_column: str = "label",
) -> Evaluation:
    """How good a classifier is on labelled examples, which go the way that `classify` goes.

    Args:
        model: of images or of sequences.
        data: as `finetune` takes it, or `Examples`, or a `tf.data.Dataset` of batches `(x, y)`
            ready for the model, y being places of classes or one-hot rows. Names of classes are
            matched with `model.labels`, and not all of these must occur; a model without labels
            takes int labels. A model of one class is measured on its name, or 1, and on `not` with
            its name, or 0.
        batch_size: examples per pass.
        strict: an example that cannot be read is an error; else it is left out with a warning.
        input_column, label_column: of CSV and JSONL files.

    Raises:
        TaskError: the model is no classifier, gives numbers, or classes that do not exclude each
            other, or has no preprocessing.
        InputError: data that cannot be used, a class that the model does not have.
        NotFoundError, AccessError: a path that is not there, or not for this user.
    """
    import tensorflow as tf

    task = model.task if isinstance(model, Model) else None
    if not isinstance(task, Classification):
        does = task.name if task else "nothing that zoo knows"
        name = getattr(model, "name", type(model).__name__)
        raise TaskError(f"{name!r} does {does}; only classifiers can be evaluated.")
    names = _class_names(task)
    classes = len(names)
    if isinstance(data, tf.data.Dataset):
        return _summed(list(_of_batches(model, data, classes)), classes, names)
    columns = {"input_column": input_column, "label_column": label_column}
    examples = _examples(task, data, names, strict, columns)
    errors: dict[int, ZooError] = {}
    parts = list(_of_examples(task, examples, batch_size, errors, strict))
    skipped = without(examples, errors, strict).skipped
    return replace(_summed(parts, classes, names), skipped=skipped)


def _class_names(task: Classification) -> tuple[str, ...]:
    """The names of the classes that examples have.

    Raises:
        TaskError: outputs that do not tell one class from the others.
    """
    width, labels = int(task.model.output_shape[-1]), task.model.labels
    if task.problem == SINGLE_LABEL:
        return labels or tuple(map(str, range(width)))
    if task.problem == REGRESSION or width > 1:
        raise TaskError(
            f"{task.model.name!r} does {task.problem}: examples with one class each do not say how "
            "good it is. It is a Keras model: compile(metrics=[...]) and evaluate(x, y) do."
        )
    return ("0", "1") if labels is None else (f"not {labels[0]}", labels[0])


def _logits(outputs: Any) -> np.ndarray:
    """Logits of all classes, `[n, classes]`: one alone is that of the class against its absence."""
    logits = np.asarray(outputs)
    if logits.ndim == 2 and logits.shape[1] == 1:
        return np.concatenate([np.zeros_like(logits), logits], axis=1)
    return logits


def _examples(
    task: Classification,
    data: Any,
    names: Sequence[str],
    strict: bool,
    columns: Mapping[str, Any],
) -> Examples:
    """The data with labels that are places of the model's classes."""
    if isinstance(data, Examples):
        if not len(data):
            raise InputError("There are no examples; at least one was expected.")
        used = np.flatnonzero(data.counts())
        places = np.zeros(len(data.classes), np.int32)
        titles = [f"{data.counts()[k]:,} examples" for k in used]
        places[used], _ = as_places([data.classes[k] for k in used], titles, names)
        return replace(data, labels=places[data.labels], classes=tuple(names))
    kind, text = kind_of(task.preprocess.spec)
    return read_examples(data, kind=kind, classes=names, text=text, strict=strict, **columns)


def _of_examples(
    task: Classification,
    examples: Examples,
    batch_size: int,
    errors: dict[int, ZooError],
    strict: bool,
) -> Iterator[_Judged]:
    """Each pass judged; what cannot be read goes into `errors`, by row."""
    preprocess, forward = task.preprocess, compiled(task.model)

    def prepared(rows: Sequence[int]) -> list[tuple[Sequence[int], np.ndarray]]:
        try:
            return [(rows, preprocess([examples.inputs[row] for row in rows]))]
        except _UNREADABLE as error:
            if len(rows) > 1:  # one of them, or sequences of different lengths
                return [part for row in rows for part in prepared([row])]
            errors[rows[0]] = error
            without(examples, errors if strict else {}, strict)
            return []

    for parts in task.batches(range(len(examples)), batch_size, "evaluate", prepared):
        for rows, x in parts:
            yield _judged(_logits(forward(x)), examples.labels[rows])


def _of_batches(model: Model, data: Any, classes: int) -> Iterator[_Judged]:
    """Each batch of a `tf.data.Dataset` judged."""
    spec = data.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2:
        raise InputError(f"The data set gives {spec}; pairs (x, y) of batches were expected.")
    rank, expected = getattr(getattr(spec[0], "shape", None), "rank", None), model.input_shape
    if isinstance(expected, tuple) and rank not in (None, len(expected)):
        raise InputError(
            f"The data set gives inputs {list(spec[0].shape)}; {model.name!r} takes batches "
            f"{list(expected)}. Preprocess them (model.preprocess.graph), and batch them."
        )
    forward, known = compiled(model), int(data.cardinality())
    silent = True if 0 <= known < 8 else None  # None: tqdm decides by the terminal
    total = known if known >= 0 else None
    for x, y in tqdm(data, total=total, desc="evaluate", unit="batch", disable=silent, leave=False):
        labels = np.asarray(y)
        if labels.ndim == 2 and labels.shape[1] in (1, classes):
            labels = labels[:, 0] if labels.shape[1] == 1 else labels.argmax(1)
        inputs = x if isinstance(x, (tuple, list)) else (x,)
        if model.output_shape[-1] == 1 and np.isin(labels, (0, 1)).all():
            labels = labels.astype(np.int32)  # of binary cross-entropy, which takes any type
        yield _judged(_logits(forward(*inputs)), labels)
