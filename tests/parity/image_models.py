"""One architecture of timm against ours: outputs, features, gradients, on random shaken weights."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from reference import Widened, relative_error, timm, torch

from zoo.layers.building import build_uninitialized, dtype_scope, initialize, named_weights
from zoo.registry import registry

SIZE = (97, 131)  # odd and rectangular: every border rule shows
EVEN_SIZE = (96, 160)  # for networks that halve by pooling: the reference takes no other


@dataclasses.dataclass(frozen=True)
class Pair:
    """A reference in float64 with random weights, and our model of the same name."""

    name: str
    reference: Any
    family: Any
    config: Any
    state: dict[str, np.ndarray]

    def ours(self, dtype: str, features: bool = False) -> keras.Model:
        def build() -> keras.Model:
            graph = self.family.build(self.config)
            maps = [tensor for _, tensor in graph.features]
            return keras.Model(graph.inputs, maps if features else graph.outputs)

        with dtype_scope(keras.DTypePolicy(dtype)):
            model = build_uninitialized(build)
        initialize(model, self.resolve(model, self.state, features).values)
        return model

    def resolve(self, model: keras.Model, tensors: dict, features: bool = False):
        shapes = {k: tuple(v.shape) for k, v in named_weights(model).items()}
        table = self.family.layouts["timm"]
        return table.resolve(tensors, shapes, spare=("*",) if features else ())


def make_pair(name: str, seed: int = 0, **reduced: Any) -> Pair:
    """The reference of that name and what ours needs to be its twin.

    Args:
        reduced: options that shrink both, such as `layers`.
    """
    torch.manual_seed(seed)
    reference = timm.create_model(name, **reduced).double().eval()
    shake(reference)
    family_name, config = registry.architecture_config(name)
    family = registry.import_family(family_name)
    config = family.change_config(family.read_config(config, origin=name), reduced)
    state = {k: v.detach().numpy() for k, v in reference.state_dict().items()}
    return Pair(name, reference, family, config, state)


@torch.no_grad()
def shake(reference: torch.nn.Module) -> None:
    """Random statistics and scales: at their defaults many mistakes would not show."""
    for module in reference.modules():
        for key, low, high in (
            ("running_mean", -0.2, 0.2),
            ("running_var", 0.6, 1.4),
            ("v", 0.6, 1.4),
            ("tau", -0.3, 0.3),
        ):
            if isinstance(value := getattr(module, key, None), torch.Tensor):
                value.uniform_(low, high)
        is_norm = "Norm" in type(module).__name__
        if is_norm and isinstance(getattr(module, "weight", None), torch.Tensor):
            module.weight.uniform_(0.5, 1.0)
            module.bias.uniform_(-0.2, 0.2)


def size_for(pair: Pair) -> tuple[int, int]:
    return EVEN_SIZE if getattr(pair.config, "aa_layer", None) == "avg" else SIZE


def images(size: tuple[int, int], seed: int = 1) -> np.ndarray:
    """Two channels-last images of noise."""
    return np.random.default_rng(seed).normal(size=(2, *size, 3))


def run_reference(reference: torch.nn.Module, x: np.ndarray) -> Any:
    """The reference on channels-last images; maps come back channels last."""
    with torch.no_grad(), Widened():
        y = reference(torch.tensor(x).permute(0, 3, 1, 2))
    return y.numpy()


def float64_error(pair: Pair) -> float:
    x = images(size_for(pair))
    return relative_error(pair.ours("float64")(tf.constant(x)), run_reference(pair.reference, x))


def float32_errors(pair: Pair) -> tuple[float, float]:
    """Our float32 error and the reference's own, both against the reference in float64."""
    x = images(size_for(pair)).astype(np.float32)
    exact = run_reference(pair.reference, x.astype(np.float64))
    ours = relative_error(pair.ours("float32")(tf.constant(x)), exact)
    single = pair.reference.float()
    with torch.no_grad():
        theirs = single(torch.tensor(x).permute(0, 3, 1, 2)).numpy()
    pair.reference.double().load_state_dict({k: torch.tensor(v) for k, v in pair.state.items()})
    return ours, relative_error(theirs, exact)


def feature_errors(pair: Pair) -> dict[str, float]:
    """Relative error of every map that `features_only` gives, by the reference's module name."""
    x = images(size_for(pair))
    seen: dict[str, np.ndarray] = {}

    def keep(name: str):
        def hook(module, args, output):
            seen[name] = output.permute(0, 2, 3, 1).numpy().copy()

        return hook

    names = [info["module"] for info in pair.reference.feature_info]
    hooks = [pair.reference.get_submodule(n).register_forward_hook(keep(n)) for n in names]
    run_reference(pair.reference, x)
    for hook in hooks:
        hook.remove()
    ours = pair.ours("float64", features=True)(tf.constant(x))
    return {n: relative_error(y, seen[n]) for n, y in zip(names, ours, strict=True)}


def gradient_error(pair: Pair) -> float:
    """Worst relative error, over all weights, of the gradient of a random scalar of the output."""
    x = images(size_for(pair))
    direction = np.random.default_rng(2).normal(size=(x.shape[0], pair.config.num_classes))
    with Widened():
        loss = (pair.reference(torch.tensor(x).permute(0, 3, 1, 2)) * torch.tensor(direction)).sum()
        loss.backward()
    theirs = {k: p.grad.numpy() for k, p in pair.reference.named_parameters()}
    buffers = {k: np.zeros_like(v) for k, v in pair.state.items() if k not in theirs}
    model = pair.ours("float64")
    weights = {k: v for k, v in named_weights(model).items() if v.trainable}
    with tf.GradientTape() as tape:
        ours_loss = tf.reduce_sum(model(tf.constant(x), training=False) * direction)
    ours = tape.gradient(ours_loss, [v.value for v in weights.values()])
    expected = pair.resolve(model, theirs | buffers).values
    return max(
        relative_error(g, expected[k]) for (k, _), g in zip(weights.items(), ours, strict=True)
    )
