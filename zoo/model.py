"""The model object: a Keras model that knows its card, its preprocessing, its labels, its task."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from zoo.architectures.base import Feature
from zoo.compiling import checked_loss, checked_metrics
from zoo.errors import InputError, TaskError, did_you_mean
from zoo.layers.base import register
from zoo.layers.initial import drawn, untrained
from zoo.layers.kernels.gradient import portable
from zoo.record import LoadReport, Record
from zoo.registry.card import ModelCard
from zoo.tasks.base import Task
from zoo.tasks.classification import Prediction
from zoo.tasks.explaining import AttentionMaps, Explanation
from zoo.tasks.table import task_type


@register
class Model(keras.Model):
    """A functional Keras model with a card.

    `compile`, `fit`, `summary`, `save`, `export`, callbacks and functional use are Keras's.
    `card`, `labels`, `preprocess`, `task` and `load_report` are None on a model that came from no
    card, such as a clone.

    Attributes:
        jit_verbs: whether the verbs run under XLA. Each shape of a batch is then compiled once,
            which takes seconds; set it where few shapes come again and again.
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)
        self._record: Record | None = None
        self._drawn = _Drawn()
        self.jit_verbs = False

    # ------------------------------------------------------------ what the card says

    @property
    def record(self) -> Record:
        """All that the model carries besides its graph.

        Raises:
            TaskError: it came from no card.
        """
        if self._record is None:
            raise TaskError(
                f"{self.name!r} has no card (a clone has none), so it has no labels, no "
                "preprocessing and no verbs; call it on a batch."
            )
        return self._record

    def attach(self, record: Record) -> None:
        """Give the model its card and all that goes with it."""
        self._record = record

    @property
    def card(self) -> ModelCard | None:
        """The card, with the options of the load in it."""
        return self._record.card if self._record else None

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Names of the classes, in the order of the logits."""
        return self._record.labels if self._record else None

    @property
    def load_report(self) -> LoadReport | None:
        """Where the weights came from, what was not loaded, and what was never trained."""
        if self._record is None:
            return None
        report, fresh = self._record.report, self.fresh
        return report if fresh == report.fresh else dataclasses.replace(report, fresh=fresh)

    @property
    def fresh(self) -> tuple[str, ...]:
        """Names of the weights that were never trained; see `zoo.layers.initial.untrained`."""
        record, made = self.record, self._drawn.checksums
        names = dict.fromkeys((*record.report.fresh, *made))
        if not names:
            return ()
        sources = (record.initial, made)
        initial = {n: {s[n] for s in sources if n in s} for n in names}
        fresh = untrained(self, initial)
        for name in set(made) - set(fresh):
            del made[name]  # which was given values
        return fresh

    @property
    def feature_info(self) -> tuple[Feature, ...] | None:
        """The maps that a model loaded with `features_only` gives, in order."""
        return self._record.features if self._record else None

    @property
    def preprocess(self) -> Any:
        """Inputs to a batch, exactly as the reference library feeds the model."""
        return self._record.preprocess if self._record else None

    @property
    def embedding_tensor(self) -> Any:
        """The symbolic tensor `[n, dim]` that `embed` computes."""
        if self.record.embedding is None:
            raise TaskError(f"{self.name!r} has no layer whose output is an embedding.")
        output = self.get_layer(self.record.embedding).output
        return output[0] if isinstance(output, list | tuple) else output

    @property
    def task(self) -> Task | None:
        """The task object, whose verbs are this model's."""
        if self._record is None:
            return None
        return task_type(self._record.task, self._record.card.preprocessing)(self)

    # ------------------------------------------------------------ verbs

    def _run(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        record = self.record
        return task_type(record.task, record.card.preprocessing)(self).run(verb, *args, **kwargs)

    def attention_maps(self, images: Any, **options: Any) -> AttentionMaps:
        """The weights of every attention layer; see the task's `attention_maps`."""
        return self._run("attention_maps", images, **options)

    def classify(self, inputs: Any, top: int = 5, **options: Any) -> list[list[Prediction]]:
        """The `top` most probable classes of each input; see the task's `classify`."""
        return self._run("classify", inputs, top, **options)

    def answer(self, question: str, context: str, **options: Any) -> Any:
        """The parts of a text that answer a question; see the task's `answer`."""
        return self._run("answer", question, context, **options)

    def embed(self, inputs: Any, **options: Any) -> np.ndarray:
        """One float32 vector per input, `[n, dim]`; see the task's `embed`."""
        return self._run("embed", inputs, **options)

    def entities(self, inputs: Any, **options: Any) -> Any:
        """Spans of text with a label; see the task's `entities`."""
        return self._run("entities", inputs, **options)

    def explain(
        self, images: Any, method: str | None = None, target: Any = None, **options: Any
    ) -> list[Explanation]:
        """Heat maps of where the network looks; see the task's `explain`."""
        return self._run("explain", images, method, target, **options)

    def fill(self, inputs: Any, top: int = 5, **options: Any) -> Any:
        """The most probable tokens for masked places; see the task's `fill`."""
        return self._run("fill", inputs, top, **options)

    def forecast(self, inputs: Any, **options: Any) -> Any:
        """What follows each series; see the task's `forecast`."""
        return self._run("forecast", inputs, **options)

    def generate(self, prompts: Any, **options: Any) -> Any:
        """What follows each prompt; see the task's `generate`."""
        return self._run("generate", prompts, **options)

    def score(self, inputs: Any, **options: Any) -> Any:
        """Bits per token that the model needs for a text; see the task's `score`."""
        return self._run("score", inputs, **options)

    def speech_probabilities(self, audio: Any, **options: Any) -> Any:
        """The probability of speech in each window; see the task's `speech_probabilities`."""
        return self._run("speech_probabilities", audio, **options)

    def speech_segments(self, audio: Any, **options: Any) -> Any:
        """Where people speak, in seconds; see the task's `speech_segments`."""
        return self._run("speech_segments", audio, **options)

    def stream(self, *args: Any, **options: Any) -> Any:
        """Results piece by piece; see the task's `stream`."""
        return self._run("stream", *args, **options)

    # ------------------------------------------------------------ Keras

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """As Keras's; inputs with names may leave out those that have a default.

        Raises:
            InputError: a name that is none of the model's.
        """
        if isinstance(self.input, dict):
            inputs = _named(inputs, tuple(self.input))
        # not by super(): AutoGraph would look for it in the locals of all callers, and keep these
        return keras.Model.__call__(self, inputs, *args, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "trainable":
            # TensorFlow passes over a value that is there already, but layers inside may differ
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, **kwargs: Any) -> None:
        """As Keras's, but without a loss it takes the task's, and `accuracy` is the task's, too.

        Raises:
            OptionError: a loss or metric that expects probabilities; the model gives logits.
        """
        if (task := self.task) is not None:
            loss = task.loss() if loss is None else checked_loss(loss, task)
            for name in {"metrics", "weighted_metrics"} & set(kwargs):
                if kwargs[name] is not None:
                    kwargs[name] = checked_metrics(kwargs[name], task)
        super().compile(optimizer=optimizer, loss=loss, **kwargs)

    def export(self, *args: Any, **kwargs: Any) -> Any:
        """As Keras's."""
        with portable():
            return super().export(*args, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return config | {"zoo": self._record.to_dict()} if self._record else config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Model:
        config = dict(config)
        record = config.pop("zoo", None)
        model = super().from_config(config, custom_objects=custom_objects)
        if record is not None:
            model.attach(Record.from_dict(record))
            # until the weights of the record are given to it, it has others, which nobody trained
            model._drawn.checksums = drawn(model)
        return model


@dataclass
class _Drawn:
    """What Keras drew for the weights of a model that was made from its config alone."""

    checksums: dict[str, int] = field(default_factory=dict)


def _named(inputs: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Inputs by name, None for those left out; one array alone is the first."""
    given = inputs if isinstance(inputs, Mapping) else {names[0]: inputs}
    if unknown := [name for name in given if name not in names]:
        raise InputError(
            f"{', '.join(unknown)} is no input of this model; it takes {', '.join(names)}."
            f"{did_you_mean(unknown[0], names)}"
        )
    if given.get(names[0]) is None:
        raise InputError(f"The model needs {names[0]}; got {', '.join(given) or 'nothing'}.")
    return {name: given.get(name) for name in names}
