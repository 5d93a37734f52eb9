"""The epochs of a run: fit, validate, keep, and go on from where it was broken off."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from zoo.errors import TrainingError
from zoo.finetuning.checkpoint import Arrays, Row, State, Store
from zoo.finetuning.evaluation import score
from zoo.finetuning.groups import optimizer_for
from zoo.finetuning.optimizer import schedule
from zoo.finetuning.recipe import adapted
from zoo.finetuning.settings import Settings
from zoo.finetuning.strategies import Phase, Trainable, freeze
from zoo.layers.building import named_weights
from zoo.model import Model
from zoo.tasks.graphs import compiled


@dataclass(frozen=True, kw_only=True)
class Course:
    """What `fit` runs in a phase, and on what.

    Attributes:
        network: the model, or the part of it that learns.
        data: makes the batches `(x, y, w)` from an epoch on, up to another.
        steps: batches of an epoch.
        held_out: gives batches `(x, y)` to validate with, the same each time.
    """

    network: keras.Model
    data: Callable[[int, int], Any]
    steps: int
    held_out: Callable[[], Iterable[Any]]


@dataclass(kw_only=True)
class Training:
    """One run.

    Attributes:
        model: whose weights are kept.
        course: makes what `fit` runs in a phase.
        settings: of the run.
        classes: names of the classes, for the metrics.
        store: where checkpoints go.
        allowed: what may learn of the layers; of those that it does not name, all.
        callbacks: the caller's, for `fit`.
    """

    model: Model
    course: Callable[[Phase], Course]
    settings: Settings
    classes: tuple[str, ...]
    store: Store
    allowed: Trainable = field(default_factory=dict)
    callbacks: Sequence[keras.callbacks.Callback] = ()
    state: State = field(default_factory=State)
    at: Course = field(init=False)  # of the phase that runs
    patient_from: int = 0  # first epoch of the last phase, in which patience is counted

    def run(self, phases: Sequence[Phase]) -> State:
        """Train through the phases, or what is left of them; the best weights are the model's then.

        Raises:
            TrainingError: the loss became NaN or infinite.
            DiskError: a checkpoint could not be written.
        """
        arrays: Arrays | None = None
        if (found := self.store.read()) is not None:
            self.state, arrays = found
            restore(self.model, arrays)
        self.patient_from = phases[-1].first
        for phase in phases:
            if self.state.epoch >= phase.end or self.state.stopped:
                continue
            self._fit(phase, arrays if self.state.epoch > phase.first else None)
            arrays = None
        restore(self.model, self.store.best(self.state))
        return self.state

    def _fit(self, phase: Phase, arrays: Arrays | None) -> None:
        """The epochs of a phase that are left; `arrays` has the optimizer's state inside of it."""
        freeze(self.model, phase.layers, self.allowed)
        self.at = at = self.course(phase)
        optimizer = self._optimizer(phase)
        loss = keras.losses.CategoricalCrossentropy(
            from_logits=True,
            label_smoothing=self.settings.label_smoothing,
            dtype=keras.backend.result_type(at.network.compute_dtype, "float32"),
        )
        at.network.compile(
            optimizer, loss, metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")]
        )
        optimizer.build(at.network.trainable_variables)
        if arrays is not None:
            _restore_optimizer(optimizer, arrays)
        first, keeper = self.state.epoch, _Keeper(self)
        at.network.fit(
            at.data(first, phase.end),
            initial_epoch=first,
            epochs=phase.end,
            steps_per_epoch=at.steps,
            shuffle=False,
            callbacks=[keeper, _Progress(self.settings.epochs, at.steps), *self.callbacks],
            verbose=0,
        )
        restore(self.model, keeper.raw)  # `fit` ends with the averages in the weights

    def _optimizer(self, phase: Phase) -> keras.optimizers.Optimizer:
        settings = self.settings
        steps = self.at.steps * (phase.end - phase.first)
        peak, layer_decay = phase.learning_rate, settings.layer_decay
        if settings.adapts and not phase.head:
            best = max(row["val_accuracy"] for row in self.state.history[: phase.first])
            peak, layer_decay = adapted(peak, layer_decay, best, len(self.classes))
        rate = schedule(settings.schedule, peak, steps, int(settings.warmup * steps))
        averages = {} if settings.ema is None else {"use_ema": True, "ema_momentum": settings.ema}
        return optimizer_for(
            self.model,
            rate,
            weight_decay=settings.weight_decay,
            layer_decay=layer_decay,
            **averages,
        )

    # ------------------------------------------------------------ an epoch

    def finish_epoch(self, epoch: int, logs: Mapping[str, float]) -> Row:
        """Validate and keep what an epoch gave. Returns its row of the history."""
        optimizer = self.at.network.optimizer
        arrays = {**weights_of(self.model), **_optimizer_state(optimizer)}
        with self._averaged():
            row = {
                "learning_rate": float(keras.ops.convert_to_numpy(optimizer.learning_rate)),
                "loss": float(logs["loss"]),
                "accuracy": float(logs["accuracy"]),
                **self._validate(),
            }
            history = (*self.state.history, row)
            best = _best(history)
            stopped = self._is_over(epoch, best, history[best]["val_accuracy"])
            self.state = State(epoch=epoch + 1, history=history, best=best, stopped=stopped)
            kept = weights_of(self.model) if best == epoch else None
            self.store.save(self.state, arrays, kept)
        return row

    def _validate(self) -> Row:
        forward = compiled(self.at.network)
        logits, labels = [], []
        for x, y in self.at.held_out():
            given = x if isinstance(x, tuple | list) else (x,)
            logits.append(np.asarray(forward(*given), np.float64))
            labels.append(np.argmax(y, axis=-1))
        values = np.concatenate(logits)
        if not np.isfinite(values).all():
            raise self.error("The model gives NaN or infinity in validation")
        found = score(values, np.concatenate(labels), self.classes)
        return {"val_loss": found.loss, "val_accuracy": found.accuracy}

    def error(self, found: str) -> TrainingError:
        """What to raise where numbers are no numbers any more."""
        state, folder = self.state, self.store.folder
        kept = f"What epoch {state.epoch} gave is kept" if state.epoch else "Nothing was kept"
        where = f" in {folder}" if folder and state.epoch else ""
        return TrainingError(
            f"{found} of epoch {state.epoch + 1}. {kept}{where}. Take another output and a "
            f"learning_rate below {self.settings.learning_rate:.3g} or more warmup, or look for "
            "broken inputs: this run would come to the same again."
        )

    def _is_over(self, epoch: int, best: int, accuracy: float) -> bool:
        if epoch + 1 == self.settings.head_epochs and accuracy == 1:
            return True  # the head alone is always right: no later epoch can be better
        patience = self.settings.early_stopping
        return patience is not None and epoch - max(best, self.patient_from - 1) >= patience

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averages of the weights in their place, where averages are kept."""
        if self.settings.ema is None:
            yield
            return
        variables = self.at.network.trainable_variables
        raw = [np.array(v) for v in variables]
        self.at.network.optimizer.finalize_variable_values(variables)
        try:
            yield
        finally:
            for variable, value in zip(variables, raw, strict=True):
                variable.assign(value)


def _best(history: Sequence[Row]) -> int:
    """The epoch of the best accuracy; of several, that of the least loss."""
    ranks = [(-row["val_accuracy"], row["val_loss"]) for row in history]
    return min(range(len(ranks)), key=ranks.__getitem__)


class _Keeper(keras.callbacks.Callback):
    """Calls the training after each epoch, and stops it where the loss is no number any more."""

    def __init__(self, training: Training) -> None:
        super().__init__()
        self.training = training
        self.raw: Arrays = {}

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if logs and not math.isfinite(loss := float(logs["loss"])):
            raise self.training.error(f"The loss is {loss} in step {batch + 1}")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        row = self.training.finish_epoch(epoch, logs)
        logs.update(row)  # the callbacks after this one see them
        self.raw = weights_of(self.training.model)
        self.model.stop_training |= self.training.state.stopped


class _Progress(keras.callbacks.Callback):
    """A bar for each epoch on a terminal, and a line when it is done."""

    def __init__(self, epochs: int, steps: int) -> None:
        super().__init__()
        self.epochs, self.steps = epochs, steps

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        title = f"epoch {epoch + 1}/{self.epochs}"
        self.bar = tqdm(total=self.steps, desc=title, unit="step", disable=None, leave=False)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.bar.set_postfix({k: f"{v:.4f}" for k, v in (logs or {}).items()}, refresh=False)
        self.bar.update()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.bar.close()
        logs = logs or {}
        figures = "  ".join(f"{k} {logs[k]:.4f}" for k in _SHOWN if k in logs)
        tqdm.write(f"epoch {epoch + 1}/{self.epochs}  {figures}", file=sys.stderr)


_SHOWN = ("loss", "accuracy", "val_loss", "val_accuracy")


# ---------------------------------------------------------------- what is kept


def weights_of(model: Model) -> dict[str, np.ndarray]:
    """Copies of all that a model holds: its weights, and the states of its random generators."""
    return {name: np.array(v) for name, v in _variables(model)}


def restore(model: Model, arrays: Arrays) -> None:
    """Give the variables of a model the values of `weights_of`."""
    for name, variable in _variables(model):
        variable.assign(arrays[name])


def _variables(model: Model) -> Iterable[tuple[str, Any]]:
    weights = named_weights(model)
    held = {id(v) for v in weights.values()}
    rest = [v for v in model.variables if id(v) not in held]
    seeds = {f"seeds.{k:04}": v for k, v in enumerate(rest)}
    return {**{f"weights.{k}": v for k, v in weights.items()}, **seeds}.items()


def _optimizer_state(optimizer: keras.optimizers.Optimizer) -> dict[str, np.ndarray]:
    return {f"optimizer.{k:05}": np.array(v) for k, v in enumerate(optimizer.variables)}


def _restore_optimizer(optimizer: keras.optimizers.Optimizer, arrays: Arrays) -> None:
    for k, variable in enumerate(optimizer.variables):
        variable.assign(arrays[f"optimizer.{k:05}"])
