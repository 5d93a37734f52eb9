"""The tasks by name, one class each."""

from __future__ import annotations

from zoo.preprocessing.spec import Spec
from zoo.preprocessing.text_spec import TextSpec
from zoo.tasks.answers import FillMask, QuestionAnswering
from zoo.tasks.audio import VoiceActivity
from zoo.tasks.base import Task
from zoo.tasks.generation import TextGeneration
from zoo.tasks.image import ImageClassification, ImageFeatures
from zoo.tasks.language import RecurrentGeneration
from zoo.tasks.sequence import (
    Forecasting,
    SequenceClassification,
    SequenceFeatures,
    SequenceTagging,
)
from zoo.tasks.text import (
    NextSentence,
    ReplacedTokens,
    SentenceSimilarity,
    TextClassification,
    TextFeatures,
    TextTagging,
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

# The tasks of text models. Some names are those of tasks of recurrent networks, too, whose inputs
# are cut into characters or words.
TEXT_TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        TextFeatures,
        SentenceSimilarity,
        TextClassification,
        NextSentence,
        TextTagging,
        ReplacedTokens,
        QuestionAnswering,
        FillMask,
        TextGeneration,
    )
}


def task_type(name: str, spec: Spec | None) -> type[Task]:
    """The class of a task, for models whose inputs are prepared by such a spec."""
    return (TEXT_TASKS if isinstance(spec, TextSpec) else TASKS)[name]
