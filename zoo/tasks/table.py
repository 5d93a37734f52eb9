"""The tasks by name, one class each."""

from __future__ import annotations

from zoo.tasks.audio import VoiceActivity
from zoo.tasks.base import Task
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
