"""The libraries that are compared: how each loads a model, and how each runs it.

Every function imports its library when it is called, and gives the call that the clock measures.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]

Images = np.ndarray
Logits = np.ndarray


def reference() -> Any:
    """The module with timm and torch, imported as the parity tests do."""
    sys.path.insert(0, str(ROOT / "tests" / "parity"))
    import reference

    return reference


# ---------------------------------------------------------------- folders


def write_timm(model: str, folder: Path) -> None:
    """Write random weights to `folder/timm` as timm publishes them: safetensors and a config."""
    timm, torch = reference().timm, reference().torch
    torch.manual_seed(0)
    timm.models.save_for_hf(timm.create_model(model), str(folder / "timm"), safe_serialization=True)


def write_keras_hub(model: str, folder: Path) -> None:
    """Write the weights of `folder/timm` to `folder/keras_hub` as a preset of its own: HDF5.

    Raises:
        ValueError: keras-hub does not have the model.
    """
    import keras_hub

    classifier = keras_hub.models.ImageClassifier.from_preset(str(folder / "timm"))
    classifier.save_to_preset(str(folder / "keras_hub"))


# ---------------------------------------------------------------- loading


@dataclass(frozen=True)
class Loader:
    """One way to load a model.

    Attributes:
        reads: the folder that it reads, `timm` or `keras_hub`.
        prepare: imports the library, and gives a call that loads the model from a folder.
        logits: of a loaded model, for images `[n, h, w, c]`.
    """

    reads: str
    prepare: Callable[[Path], Callable[[], Any]]
    logits: Callable[[Any, Images], Logits]


def _zoo(folder: Path) -> Callable[[], Any]:
    import zoo
    import zoo.loading.assembling

    return lambda: zoo.load(folder)


def _timm(folder: Path) -> Callable[[], Any]:
    timm = reference().timm
    return lambda: timm.create_model(f"local-dir:{folder}", pretrained=True)


def _keras_hub(folder: Path) -> Callable[[], Any]:
    import keras_hub

    return lambda: keras_hub.models.ImageClassifier.from_preset(str(folder))


def _keras_logits(model: Any, images: Images) -> Logits:
    return np.asarray(model(images, training=False))


def _torch_logits(model: Any, images: Images) -> Logits:
    torch = reference().torch
    with torch.inference_mode():
        return model.eval()(_channels_first(images)).numpy()


def _channels_first(images: Images) -> Any:
    return reference().torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


LOADERS = {
    "zoo": Loader("timm", _zoo, _keras_logits),
    "timm": Loader("timm", _timm, _torch_logits),
    "keras-hub, safetensors": Loader("timm", _keras_hub, _keras_logits),
    "keras-hub, own h5": Loader("keras_hub", _keras_hub, _keras_logits),
}


# ---------------------------------------------------------------- inference

# folder -> images -> call that runs the model on them
Runner = Callable[[Path], Callable[[Images], Callable[[], Logits]]]


def _zoo_compiled(folder: Path) -> Callable[[Images], Callable[[], Logits]]:
    import tensorflow as tf

    import zoo
    from zoo.tasks.graphs import compiled

    model = zoo.load(folder)

    def bind(images: Images) -> Callable[[], Logits]:
        tensor = tf.constant(images)
        return lambda: compiled(model)(tensor).numpy()

    return bind


def _torch_runner(compile_it: bool) -> Runner:
    def prepare(folder: Path) -> Callable[[Images], Callable[[], Logits]]:
        torch = reference().torch
        model = _timm(folder)().eval()
        if compile_it:
            model = torch.compile(model, dynamic=False, options={"freezing": True})

        def bind(images: Images) -> Callable[[], Logits]:
            tensor = _channels_first(images)

            def run() -> Logits:
                with torch.no_grad():
                    return model(tensor).numpy()

            return run

        return bind

    return prepare


RUNNERS: dict[str, Runner] = {
    "zoo, compiled": _zoo_compiled,
    "torch, eager": _torch_runner(compile_it=False),
    "torch.compile, frozen": _torch_runner(compile_it=True),
}
