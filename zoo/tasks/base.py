"""What a task is: the verbs of a model, its loss, and how it runs its inputs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any, ClassVar, Protocol

import keras
import numpy as np
from tqdm import tqdm

from zoo.errors import TaskError
from zoo.options import count
from zoo.record import Record

AHEAD = 2  # batches that are prepared while the model runs another


class TaskModel(Protocol):
    """What a task asks of its model: what a functional Keras model has, and what it carries."""

    name: str
    inputs: Any
    outputs: Any
    input: Any
    output: Any
    output_shape: Any
    layers: Any
    weights: Any

    @property
    def record(self) -> Record: ...

    @property
    def labels(self) -> tuple[str, ...] | None: ...

    @property
    def preprocess(self) -> Any: ...

    @property
    def feature_info(self) -> Any: ...

    @property
    def embedding_tensor(self) -> Any: ...


class Task:
    """One task of one model. Subclasses are registered by `name` and list their `verbs`."""

    name: ClassVar[str]
    verbs: ClassVar[tuple[str, ...]] = ()
    headless: ClassVar[str | None] = None  # the task of the same network without its head
    headed: ClassVar[str | None] = None  # and with one
    example: ClassVar[str] = "model(x)"  # a call, for the pages of models

    def __init__(self, model: TaskModel) -> None:
        self.model = model

    def __repr__(self) -> str:
        return f"<task {self.name!r}: {', '.join(self.verbs) or 'no verbs'}>"

    @property
    def preprocess(self) -> Any:
        """The model's preprocessing.

        Raises:
            TaskError: its card has none.
        """
        if self.model.preprocess is None:
            raise TaskError(
                f"{self.model.name!r} has no preprocessing on its card; call the model on a batch "
                "that you prepared yourself."
            )
        return self.model.preprocess

    def run(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        """Call a verb by name.

        Raises:
            TaskError: the task does not have it.
        """
        if verb not in self.verbs:
            raise TaskError(
                f"{self.model.name!r} does {self.name}, which has no verb {verb!r}; "
                f"it has {', '.join(self.verbs) or 'none'}."
            )
        return getattr(self, verb)(*args, **kwargs)

    def loss(self) -> keras.losses.Loss | None:
        """The loss that `compile` takes when none is given; None where there is no natural one."""
        return None

    def accuracy(self, name: str) -> keras.metrics.Metric | None:
        """The metric that `accuracy` stands for; None where Keras's choice by the shapes is right.

        Raises:
            OptionError: outputs that are neither right nor wrong.
        """
        return None

    def batches(
        self,
        inputs: Any,
        batch_size: int,
        verb: str,
        prepare: Callable[[Any], Any] | None = None,
    ) -> Iterator[Any]:
        """Cut inputs into batches; long work shows a progress bar on a terminal.

        Args:
            prepare: what is done to each batch, a few of them ahead of the caller, in a thread.
        """
        batch_size = count("batch_size", batch_size)
        starts = range(0, len(inputs), batch_size)
        batches: Generator[Any] = (inputs[start : start + batch_size] for start in starts)
        if prepare is not None and len(starts) == 1:
            batches = (prepare(batch) for batch in batches)  # nothing to be ahead of
        elif prepare is not None:
            batches = _ahead(prepare, batches)
        silent = True if len(starts) < 8 else None  # None: tqdm decides by the terminal
        with closing(batches) as ready:
            yield from tqdm(
                ready, total=len(starts), desc=verb, unit="batch", disable=silent, leave=False
            )


def _ahead(prepare: Callable[[Any], Any], batches: Iterable[Any]) -> Generator[Any]:
    """`prepare(batch)` for one batch after the other, at most `AHEAD` of them before their turn.

    An error comes when it is its batch's turn. Nothing runs any more when the generator has ended,
    for whatever reason.
    """
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(1, "prepare") as thread:
        try:
            for batch in batches:
                waiting.append(thread.submit(prepare, batch))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def binary_accuracy(name: str) -> keras.metrics.Metric:
    """The part of the logits that are on the side of 0 that their targets, 0 or 1, are on."""
    return keras.metrics.BinaryAccuracy(name=name, threshold=0.0)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """A probability for each logit, in float32 from logits of any float type."""
    logits = np.asarray(logits, np.float32)
    return np.exp(-np.logaddexp(np.float32(0), -logits))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities `[n, classes]` in float32 from logits of any float type."""
    logits = np.asarray(logits, np.float32)
    exponents = np.exp(logits - logits.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)
