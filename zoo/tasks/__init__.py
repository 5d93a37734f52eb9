"""The tasks, one class each; a model's verbs belong to its task."""

from __future__ import annotations

from zoo.tasks.base import Task
from zoo.tasks.image import ImageClassification, ImageFeatures, Prediction

TASKS: dict[str, type[Task]] = {task.name: task for task in (ImageClassification, ImageFeatures)}

__all__ = ["TASKS", "Prediction", "Task"]
