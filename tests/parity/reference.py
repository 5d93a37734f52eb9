"""The reference libraries, imported the way a CPU-only machine needs, and run in float64.

timm imports torchvision, whose wheel has no CPU build: its Python side imports once the two
operators that it registers fakes for are defined.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

if not hasattr(torch.ops.torchvision, "nms"):
    _library = torch.library.Library("torchvision", "DEF")
    _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm

__all__ = [
    *("Call", "Widened", "assert_same_bits", "call_of", "outputs", "relative_error", "timm"),
    "torch",
]


@dataclasses.dataclass(frozen=True)
class Call:
    """How an entry point of timm makes its model.

    Attributes:
        model: the class.
        arguments: what it is called with.
        factory: what is for the function that calls it, such as `pretrained_filter_fn`.
    """

    model: type
    arguments: dict[str, Any]
    factory: dict[str, Any]


def call_of(name: str) -> Call:
    """How timm makes the model of that name."""
    entry = timm.models.model_entrypoint(name)
    with mock.patch.object(sys.modules[entry.__module__], "build_model_with_cfg") as build:
        entry()
    (model, *_), given = build.call_args
    own = {*inspect.signature(timm.models.build_model_with_cfg).parameters, "pruned"}
    factory = {k: v for k, v in given.items() if k in own}
    arguments = {k: v for k, v in given.items() if k not in own}
    described = factory.get("model_cfg")
    if described is not None:
        arguments = {"cfg": described, **arguments}
    return Call(model, arguments, factory)


class Widened(TorchFunctionMode):
    """Reads every float32 request of the reference's own code as float64."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.float:
            return args[0].double()
        swap = {torch.float32: torch.float64}
        args = tuple(swap.get(a, a) if isinstance(a, torch.dtype) else a for a in args)
        if isinstance(kwargs.get("dtype"), torch.dtype):
            kwargs["dtype"] = swap.get(kwargs["dtype"], kwargs["dtype"])
        return func(*args, **kwargs)


def relative_error(ours, theirs) -> float:
    """Norm of the difference over the norm of the reference, in float64."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, f"shape {ours.shape} is not the reference's {theirs.shape}"
    return float(np.linalg.norm(ours - theirs) / max(np.linalg.norm(theirs), 1e-300))


def outputs(reference, x) -> np.ndarray:
    """What a reference gives in float64 for images `[batch, H, W, channels]`.

    In float32 a reference does not repeat itself: how its sums are cut depends on the number of
    threads and on where the memory lies. The reference is widened in place.
    """
    x = torch.tensor(np.asarray(x, np.float64)).permute(0, 3, 1, 2)
    with torch.no_grad(), Widened():
        return reference.double()(x).numpy()


def assert_same_bits(state: dict, other: dict) -> None:
    """Two states of a reference have the same names, dtypes, shapes and bits."""
    assert set(state) == set(other)
    for name, tensor in other.items():
        assert state[name].dtype == tensor.dtype, name
        assert state[name].numpy().tobytes() == tensor.numpy().tobytes(), name
