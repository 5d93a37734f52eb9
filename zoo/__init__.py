"""zoo: the home of safetensors checkpoints on TensorFlow.

`zoo.load("resnet50")` turns a name into a ready Keras model with verified weights, the matching
preprocessing and the labels. Importing this module imports neither TensorFlow nor Keras; each
name below imports what it needs when it is first used.
"""

from typing import TYPE_CHECKING

from zoo import _keras_hook
from zoo._lazy import attach

__version__ = "0.1.0"

if TYPE_CHECKING:
    from zoo import errors as errors
    from zoo.finetuning import FinetuneResult as FinetuneResult
    from zoo.finetuning import evaluate as evaluate
    from zoo.finetuning import finetune as finetune
    from zoo.loading import load as load
    from zoo.loading.locking import lock as lock
    from zoo.loading.pulling import pull as pull
    from zoo.model import Model as Model
    from zoo.publishing import publish as publish
    from zoo.registry.card import ModelCard as ModelCard
    from zoo.registry.registry import info as info
    from zoo.registry.registry import list_architectures as list_architectures
    from zoo.registry.registry import list_models as list_models
    from zoo.saving import save as save
    from zoo.vectors import similarity as similarity

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "errors": "zoo.errors",
        "evaluate": "zoo.finetuning",
        "finetune": "zoo.finetuning",
        "FinetuneResult": "zoo.finetuning",
        "info": "zoo.registry.registry",
        "list_architectures": "zoo.registry.registry",
        "list_models": "zoo.registry.registry",
        "load": "zoo.loading",
        "lock": "zoo.loading.locking",
        "Model": "zoo.model",
        "ModelCard": "zoo.registry.card",
        "publish": "zoo.publishing",
        "pull": "zoo.loading.pulling",
        "save": "zoo.saving",
        "similarity": "zoo.vectors",
    },
)

_keras_hook.install()
