"""The tasks, one class each; a model's verbs belong to its task."""

from __future__ import annotations

from zoo.tasks.audio import VoiceActivity
from zoo.tasks.base import Task
from zoo.tasks.classification import Prediction
from zoo.tasks.image import ImageClassification, ImageFeatures
from zoo.tasks.language import RecurrentGeneration
from zoo.tasks.sequence import (
    Forecasting,
    SequenceClassification,
    SequenceFeatures,
    SequenceTagging,
)

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        ImageClassification,
        ImageFeatures,
        SequenceClassification,
        SequenceFeatures,
        SequenceTagging,
        Forecasting,
        RecurrentGeneration,
        VoiceActivity,
    )
}

__all__ = ["TASKS", "Prediction", "Task"]
