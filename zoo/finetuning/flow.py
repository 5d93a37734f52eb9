"""`zoo.finetune`: from a model and examples to a fine-tuned model that can be published."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

import zoo
from zoo.errors import TaskError
from zoo.finetuning import notes, report
from zoo.finetuning.checkpoint import State, Store
from zoo.finetuning.data import Data, read
from zoo.finetuning.evaluation import Evaluation, evaluate
from zoo.finetuning.features import head_of
from zoo.finetuning.groups import stages
from zoo.finetuning.recipe import Facts, untrained
from zoo.finetuning.settings import Settings, settle
from zoo.finetuning.strategies import Phase, freeze, plan, trainable_layers
from zoo.finetuning.training import Course, Training
from zoo.layers.building import named_weights
from zoo.loading.assembling import rebuild
from zoo.model import Model
from zoo.preprocessing.host import host_errors
from zoo.registry import registry
from zoo.registry.heads import SINGLE_LABEL
from zoo.tasks.classification import Classification, Features


@dataclass(frozen=True, kw_only=True)
class FinetuneResult:
    """What a run gave.

    Attributes:
        model: with the weights of the best epoch, ready to predict, to save and to publish.
        history: values per epoch, by name.
        metrics: of the best epoch's model on the validation examples; see `Evaluation`.
        best_epoch: its number, from 1.
        folder: of the run, which `zoo.load` and `zoo.publish` take; None where none was asked for.
    """

    model: Model
    history: Mapping[str, list[float]]
    metrics: Evaluation
    best_epoch: int
    folder: Path | None


def finetune(
    model: Model | str | os.PathLike,
    train: Any,
    validation: Any = None,
    *,
    strategy: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    layer_decay: float | None = None,
    weight_decay: float | None = None,
    warmup: float | None = None,
    schedule: str | None = None,
    label_smoothing: float | None = None,
    mixup: float | None = None,
    cutmix: float | None = None,
    augment: Any = None,
    random_erasing: float | None = None,
    class_weights: Any = None,
    ema: float | None = None,
    dtype: str | None = None,
    early_stopping: int | None = None,
    seed: int = 0,
    output: str | os.PathLike | None = None,
    resume: bool = True,
    distribute: str | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    strict: bool = False,
    input_column: str | None = None,
    label_column: str = "label",
) -> FinetuneResult:
    """Fine-tune a classifier of images or sequences on examples of your own.

    The classes are those of the examples; where the model has others, it gets a fresh head. A run
    that was broken off, also by `kill -9`, goes on from its last epoch when it is called again
    with the same arguments, to the same result bit for bit on the same machine.

    Args:
        model: from `zoo.load`, or what it takes; it stays as it is.
        train: a folder with a folder of files for each class, a CSV or JSONL file, a pair
            `(inputs, labels)`, a list of pairs, or a `tf.data.Dataset` of batches `(x, y)` ready
            for the model, with y the places of the classes in `model.labels`.
        validation: the same; None keeps a fifth of each class for it.
        strategy: `full` trains all layers; `head` the head alone, on features that are computed
            once and kept on the disk; `lp-ft` begins as `head` does, and trains all layers from
            there; `gradual` the head, then one stage more in each epoch. None leaves it to the
            recipe, as the options below: see `zoo.finetuning.recipe`. It is `lp-ft` where there are
            few examples and the layers have been trained before, else `full`.
        epochs: passes over the examples, of `lp-ft` half of them with the head alone; None: as
            many as make 500 steps, or 1000 of layers that have never been trained, but 10 at least;
            those of `lp-ft` twice, once for each part.
        batch_size: examples of a step; None: 8 to 32, by their number.
        learning_rate: its peak, for the head; the default is the family's for the batch size.
        layer_decay: factor of the learning rate from each layer to the one below it.
        weight_decay: of AdamW; none for norms, biases, tokens and positions.
        warmup: part of the steps in which the learning rate rises.
        schedule: `cosine` or `linear` (to 0), or `constant`.
        label_smoothing: part of the probability that goes to all classes alike.
        mixup, cutmix: parameter of the beta distribution by which two images are blended, or one
            is pasted into the other; 0 is none.
        augment: `none`, `crop`, `light` (larger crops, and flips), `strong` (with RandAugment
            besides), or an `Augment`; None is `crop` where all layers learn.
        random_erasing: probability that a random box of an image is erased.
        class_weights: `balanced`, weights by class name, or a sequence of them.
        ema: momentum of an average of the weights, such as 0.999, which is what is validated and
            kept; None: no average.
        dtype: a Keras policy's name, such as `mixed_bfloat16`; None is the model's.
        early_stopping: epochs without a better one after which to stop, once all layers learn.
        seed: of all that is random: a fresh head, order, augmentation, dropout. It is set in
            Python, NumPy and TensorFlow.
        output: folder for the model, its history, pictures and checkpoints, and for TensorBoard's
            logs where the extra `tensorboard` is installed.
        resume: go on with the run in `output`; False begins anew there.
        distribute: `mirrored` trains on all devices at once; batch normalisation then takes the
            statistics of each device's part of the batch.
        callbacks: Keras callbacks, for `fit`.
        strict: an unreadable file is an error, and not left out with a warning.
        input_column, label_column: of CSV and JSONL files.

    Raises:
        InputError: examples that cannot be used.
        OptionError: an option that cannot be, or another run in `output`.
        TaskError: the model is no classifier, or batches are given for one whose classes do not
            exclude each other.
        TrainingError: the loss became NaN; the checkpoint before it is kept.
        DiskError: no room for a checkpoint; the one before it is intact.
    """
    base = model if isinstance(model, Model) else zoo.load(model)
    _check_task(base, train)
    data = read(
        base,
        train,
        validation,
        seed=seed,
        strict=strict,
        input_column=input_column,
        label_column=label_column,
    )
    facts = Facts(
        family=base.record.card.family,
        images=base.record.task.startswith("image"),
        counts=data.counts,
        steps=data.steps,
        untrained=untrained(base, _heads(base)),
    )
    settings, reasons = settle(
        facts,
        classes=data.classes,
        strategy=strategy,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        layer_decay=layer_decay,
        weight_decay=weight_decay,
        warmup=warmup,
        schedule=schedule,
        label_smoothing=label_smoothing,
        mixup=mixup,
        cutmix=cutmix,
        augment=augment,
        random_erasing=random_erasing,
        class_weights=class_weights,
        ema=ema,
        dtype=dtype,
        early_stopping=early_stopping,
        seed=seed,
        distribute=distribute,
    )
    folder = None if output is None else Path(output).expanduser()
    store = Store(folder, _identity(base, data, settings), reasons)
    if folder is not None and store.open(resume):
        return _finished(folder, store)
    said = notes.header(base, data, settings, data.steps(settings.batch_size), reasons)
    tqdm.write(said, file=sys.stderr)
    if folder is not None:
        callbacks = [*callbacks, *report.tensorboard(folder)]
    twin, state = _train(base, data, settings, store, callbacks)
    metrics = evaluate(twin, data.validation, batch_size=settings.batch_size)
    notes.warn_of_chance(metrics, settings)
    best = state.best_epoch
    history = {name: [row[name] for row in state.history] for name in state.history[0]}
    if folder is not None:
        report.write(folder, twin, history, metrics, best)
        store.finish(best)
    return FinetuneResult(
        model=twin, history=history, metrics=metrics, best_epoch=best, folder=folder
    )


def _check_task(model: Model, train: Any) -> None:
    import tensorflow as tf

    problem = getattr(model.task, "problem", SINGLE_LABEL)
    if problem != SINGLE_LABEL and isinstance(train, tf.data.Dataset):
        raise TaskError(
            f"{model.name!r} does {problem}, and zoo.finetune trains for one class of several. "
            "compile() takes the task's loss, and fit() trains; or give examples, for a fresh head."
        )
    if not isinstance(model.task, Classification) and not isinstance(model.task, Features):
        does = model.record.task
        raise TaskError(
            f"{model.name!r} does {does}; zoo.finetune trains classifiers of images and "
            "sequences. Others are Keras models all the same: compile() takes the task's loss, "
            "and fit() trains them."
        )


def _identity(model: Model, data: Data, settings: Settings) -> dict[str, Any]:
    """What makes a run the same run; weights that are fresh are the seed's."""
    record = model.record
    random = set(model.fresh) - set(record.report.marked)
    digest = hashlib.sha256()
    for name, weight in named_weights(model).items():
        if name not in random:
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(weight).tobytes())
    return {
        "model": {"name": record.card.name, "weights": digest.hexdigest()},
        "data": data.fingerprint(),
        "settings": settings.to_dict(),
    }


def _train(
    model: Model,
    data: Data,
    settings: Settings,
    store: Store,
    callbacks: Sequence[keras.callbacks.Callback],
) -> tuple[Model, State]:
    """A copy of the model, trained."""
    keras.utils.set_random_seed(settings.seed)
    # the strategy's scope is for the weights and for the optimizer's moments
    devices = mirrored().scope() if settings.distribute else nullcontext()
    with host_errors(), _deterministic(), devices:
        return _trained(model, data, settings, store, callbacks)


@contextmanager
def _deterministic() -> Iterator[None]:
    """Operations repeat themselves, and are as they were afterwards: under XLA some have no such
    kernel, which is none of a run's business."""
    from tensorflow.python.framework import config  # no public name ends it

    before = config.is_op_determinism_enabled()
    config.enable_op_determinism()
    try:
        yield
    finally:
        if not before:
            config.disable_op_determinism()


@cache
def mirrored() -> Any:
    """The strategy of all devices: one for a process, since TensorFlow numbers what the devices of
    two exchange alike, and takes the one for the other."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy()


def _trained(
    model: Model,
    data: Data,
    settings: Settings,
    store: Store,
    callbacks: Sequence[keras.callbacks.Callback],
) -> tuple[Model, State]:
    options = {"problem_type": None} if "problem_type" in model.record.card.config else {}
    twin = rebuild(model, labels=data.classes, dtype=settings.dtype, **options)
    allowed, heads = trainable_layers(model), _heads(twin)
    training = Training(
        model=twin,
        course=partial(_course, twin, data, settings, heads),
        settings=settings,
        store=store,
        classes=data.names,
        allowed={name: state for name, state in allowed.items() if name not in heads},
        callbacks=callbacks,
    )
    state = training.run(plan(settings, stages(twin), heads))
    freeze(twin, [layer.name for layer in twin.layers], allowed)
    twin.compile(getattr(twin, "optimizer", None) or "adam")
    return twin, state


def _heads(model: Model) -> list[str]:
    """Names of the layers that give the logits."""
    layers = {layer.name for layer in model.layers}
    family = registry.import_family(model.record.card.family)
    return [name for name in family.heads if name in layers]


def _course(
    model: Model, data: Data, settings: Settings, heads: Sequence[str], phase: Phase
) -> Course:
    """What learns in a phase, and from what: the model from examples, or its head from features."""
    source, network = data, model
    if phase.head and (data.has_features or settings.strategy == "head"):
        tensors, network = head_of(model, heads)
        source = data.as_features(model, tensors, settings.batch_size)
    return Course(
        network=network,
        steps=source.steps(settings.batch_size),
        data=partial(source.batches, model, settings),
        held_out=partial(source.held_out, model, settings.batch_size),
    )


def _finished(folder: Path, store: Store) -> FinetuneResult:
    """The result of a run that was done before."""
    history, metrics = report.read(folder)
    return FinetuneResult(
        model=zoo.load(folder.absolute()),
        history=history,
        metrics=metrics,
        best_epoch=store.best_epoch(),
        folder=folder,
    )
