"""Fine-tuning: examples in, a model out that can be published; and how good a model is."""

from typing import TYPE_CHECKING

from zoo._lazy import attach

if TYPE_CHECKING:
    from zoo.finetuning.evaluation import Evaluation as Evaluation
    from zoo.finetuning.evaluation import evaluate as evaluate
    from zoo.finetuning.flow import FinetuneResult as FinetuneResult
    from zoo.finetuning.flow import finetune as finetune
    from zoo.finetuning.groups import optimizer_for as optimizer_for
    from zoo.finetuning.optimizer import AdamW as AdamW
    from zoo.finetuning.pipeline import Augment as Augment

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "AdamW": "zoo.finetuning.optimizer",
        "Augment": "zoo.finetuning.pipeline",
        "Evaluation": "zoo.finetuning.evaluation",
        "FinetuneResult": "zoo.finetuning.flow",
        "evaluate": "zoo.finetuning.evaluation",
        "finetune": "zoo.finetuning.flow",
        "optimizer_for": "zoo.finetuning.groups",
    },
)
