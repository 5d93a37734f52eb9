"""One architecture of timm against ours: outputs, features, gradients, on random shaken weights."""

from __future__ import annotations

import dataclasses
import functools
import sys
from contextlib import nullcontext
from typing import Any
from unittest import mock

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
    stated: Any = None  # the config that the weights are of, if it is another

    @functools.cached_property
    def wide(self) -> keras.Model:
        """Our model in float64."""
        return self.ours("float64")

    def ours(self, dtype: str) -> keras.Model:
        """Our model; it gives the feature maps and, last, the logits."""

        def build() -> keras.Model:
            graph = self.family.build(self.config)
            return keras.Model(graph.inputs, [*graph.maps(), graph.outputs])

        with dtype_scope(keras.DTypePolicy(dtype)):
            model = build_uninitialized(build)
        initialize(model, self.resolve(model, self.state).values)
        return model

    def resolve(self, model: keras.Model, tensors: dict):
        shapes = {k: tuple(v.shape) for k, v in named_weights(model).items()}
        adapt = self.family.resize(self.config, self.stated) if self.stated else {}
        return self.family.layouts["timm"].resolve(tensors, shapes, adapt=adapt)


def make_pair(name: str, seed: int = 0, **reduced: Any) -> Pair:
    """The reference of that name and what ours needs to be its twin.

    Args:
        reduced: options that shrink both, such as `layers`.
    """
    torch.manual_seed(seed)
    reference = make_reference(name, **reduced).double().eval()
    shake(reference)
    family_name, config = registry.architecture_config(name)
    family = registry.import_family(family_name)
    config = family.change_config(family.read_config(config, origin=name), reduced)
    state = {k: v.numpy().copy() for k, v in reference.state_dict().items()}
    return Pair(name, reference, family, config, state)


# What timm's entry points hand to the function that builds a model, not to the model.
OF_THE_FACTORY = {"feature_cfg", "pretrained_filter_fn", "pretrained_strict"}


def make_reference(name: str, **options: Any) -> torch.nn.Module:
    """timm's model of that name with random weights and options of its class in place of its own.

    Some entry points of timm refuse an option that they set themselves, so the class is called.
    """
    if not options or name.endswith("_pruned"):
        return timm.create_model(name, **{"num_classes": 1000, **options})  # some default to none
    made = handed_over(name)
    taken = {k: v for k, v in made.kwargs.items() if k not in OF_THE_FACTORY}
    about = timm.models.get_pretrained_cfg(name)
    if about.fixed_input_size:  # then the factory sets it
        taken.setdefault("img_size", about.input_size[1:])
    return made.args[0](**taken | options)


def handed_over(name: str) -> Any:
    """The call by which timm's entry point of that name builds its model."""
    entry = timm.models.model_entrypoint(name)
    with mock.patch.object(sys.modules[entry.__module__], "build_model_with_cfg") as build:
        entry()
    return build.call_args


@torch.no_grad()
def shake(reference: torch.nn.Module) -> None:
    """Random statistics and scales: at their defaults many mistakes would not show.

    The scales of networks with more than 100 blocks are smaller. At the others' scales such a
    network is chaotic: at 139 blocks the reference's own output moves by 1e-7 when its weights
    move in the last bit of float64, and no comparison could tell anything.
    """
    if hasattr(reference, "pos_embed"):
        _shake_transformer(reference)
    blocks = sum(hasattr(module, "downsample") for module in reference.modules())
    calm = min(1.0, 50 / blocks) if blocks > 100 else 1.0
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
            module.weight.uniform_(0.5 * calm, calm)
            if isinstance(getattr(module, "bias", None), torch.Tensor):
                module.bias.uniform_(-0.2, 0.2)


def _shake_transformer(reference: torch.nn.Module) -> None:
    """Tokens, positions, biases and scales start at zero, or nearly so."""
    for name, parameter in reference.named_parameters():
        if name.endswith("gamma"):
            parameter.uniform_(0.3, 0.8)
        elif parameter.ndim < 2 or any(k in name for k in ("token", "pos_embed", "latent")):
            parameter.add_(0.2 * torch.randn_like(parameter))


def size_for(pair: Pair) -> tuple[int, int]:
    if hasattr(pair.config, "img_size"):
        return pair.config.img_size
    return EVEN_SIZE if getattr(pair.config, "aa_layer", None) == "avg" else SIZE


def images(size: tuple[int, int], seed: int = 1) -> np.ndarray:
    """Channels-last images of noise, in float64, that float32 holds exactly."""
    count = 1 if min(size) > 160 else 2  # large ones take long
    noise = np.random.default_rng(seed).normal(size=(count, *size, 3))
    return noise.astype(np.float32).astype(np.float64)


def run_reference(pair: Pair, x: np.ndarray) -> list[np.ndarray]:
    """The reference's feature maps, channels last, and last its logits."""
    seen: dict[str, np.ndarray] = {}

    def keep(name: str):
        def hook(module, args, output):
            seen[name] = as_map(pair, output, x.shape[1:3])

        return hook

    names = [info["module"] for info in pair.reference.feature_info]
    hooks = [pair.reference.get_submodule(n).register_forward_hook(keep(n)) for n in names]
    with torch.no_grad(), Widened() if x.dtype == np.float64 else nullcontext():
        logits = pair.reference(torch.tensor(x).permute(0, 3, 1, 2)).numpy()
    for hook in hooks:
        hook.remove()
    return [*(seen[name] for name in names), logits]


def as_map(pair: Pair, output: torch.Tensor, size: tuple[int, ...]) -> np.ndarray:
    """A block's output, channels last: a map, or tokens of which the learned ones are left out."""
    if output.ndim == 4:
        return output.permute(0, 2, 3, 1).numpy().copy()
    tokens = output[:, pair.reference.num_prefix_tokens :].numpy()
    edges = (edge // pair.config.patch_size for edge in size)
    return tokens.reshape(len(tokens), *edges, -1).copy()


def resized(pair: Pair, size: tuple[int, int]) -> Pair:
    """The pair for images of another size: timm's own way, with its weights resampled by timm.

    `ours` then loads the file's weights, and resamples them itself.
    """
    names = ("depth", "embed_dim", "num_heads", "num_classes")
    kept = {name: getattr(pair.config, name) for name in names}
    reference = make_reference(pair.name, img_size=size, **kept).double().eval()
    fit = handed_over(pair.name).kwargs["pretrained_filter_fn"]
    with Widened():
        state = {k: torch.tensor(v) for k, v in pair.state.items()}
        reference.load_state_dict(fit(state, reference))
    config = dataclasses.replace(pair.config, img_size=size)
    return dataclasses.replace(pair, reference=reference, config=config, stated=pair.config)


def figures(pair: Pair) -> dict[str, float]:
    """Relative errors against the reference in float64.

    `float64` is the output's, `maps` the worst feature map's, both in float64; `float32` is our
    output's in float32, and `reference float32` that of the reference itself.
    """
    x = images(size_for(pair))
    exact = run_reference(pair, x)
    errors = [relative_error(a, b) for a, b in zip(pair.wide(tf.constant(x)), exact, strict=True)]
    single = pair.ours("float32")(tf.constant(x.astype(np.float32)))[-1]
    pair.reference.float()
    theirs = run_reference(pair, x.astype(np.float32))[-1]
    pair.reference.double()
    return {
        "float64": errors[-1],
        "maps": max(errors[:-1]),
        "float32": relative_error(single, exact[-1]),
        "reference float32": relative_error(theirs, exact[-1]),
    }


def exact_error(pair: Pair) -> float:
    """Relative error of the output in float64."""
    x = images(size_for(pair))
    return relative_error(pair.wide(tf.constant(x))[-1], run_reference(pair, x)[-1])


def gradient_error(pair: Pair) -> float:
    """Worst relative error, over all weights, of the gradient of a random scalar of the output."""
    pair.reference.load_state_dict({k: torch.tensor(v) for k, v in pair.state.items()})
    x = images(size_for(pair))
    direction = np.random.default_rng(2).normal(size=(len(x), pair.config.num_classes))
    with Widened():
        loss = (pair.reference(torch.tensor(x).permute(0, 3, 1, 2)) * torch.tensor(direction)).sum()
        loss.backward()
    theirs = {k: p.grad.numpy() for k, p in pair.reference.named_parameters()}
    buffers = {k: np.zeros_like(v) for k, v in pair.state.items() if k not in theirs}
    model = pair.wide
    weights = {k: v for k, v in named_weights(model).items() if v.trainable}
    with tf.GradientTape() as tape:
        ours_loss = tf.reduce_sum(model(tf.constant(x), training=False)[-1] * direction)
    ours = tape.gradient(ours_loss, [v.value for v in weights.values()])
    expected = pair.resolve(model, theirs | buffers).values
    return max(
        relative_error(g, expected[k]) for (k, _), g in zip(weights.items(), ours, strict=True)
    )
