"""The tasks; a model's verbs belong to its task."""

from __future__ import annotations

# First of all: whoever imports Keras first sets off the import of zoo.model, which needs this
# package's modules. None of them may be half imported then.
import keras  # noqa: F401

from zoo.tasks.base import Task
from zoo.tasks.classification import Prediction
from zoo.tasks.table import TASKS, task_type

__all__ = ["TASKS", "Prediction", "Task", "task_type"]
