"""The tasks; a model's verbs belong to its task."""

from __future__ import annotations

from zoo.tasks.base import Task
from zoo.tasks.classification import Prediction
from zoo.tasks.table import TASKS, task_type

__all__ = ["TASKS", "Prediction", "Task", "task_type"]
