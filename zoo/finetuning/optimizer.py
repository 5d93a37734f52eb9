"""AdamW as PyTorch computes it, with a learning rate and a weight decay for each weight; schedules.

Loshchilov and Hutter, Decoupled Weight Decay Regularization, arXiv:1711.05101. The reference is
`torch.optim.AdamW`: epsilon is added to the root of the *corrected* second moment, where Keras's
own AdamW adds it to the uncorrected one, and each weight decays by its own learning rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from zoo.errors import OptionError, did_you_mean
from zoo.layers.base import register
from zoo.layers.kernels.adam import adam_step

LearningRate = Any  # a number, or a `keras.optimizers.schedules.LearningRateSchedule`


@register
class AdamW(keras.optimizers.Optimizer):
    """`torch.optim.AdamW`, whose step number `t` for a weight `w` with gradient `g` is

        m = beta_1 m + (1 - beta_1) g,  v = beta_2 v + (1 - beta_2) g^2
        w = (1 - rate decay) w - rate m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon)

    Args:
        learning_rate: a number, or a schedule of the steps before this one.
        weight_decay: `decay`; it is multiplied by the learning rate.
        beta_1, beta_2, epsilon: see above.
        factors: what the learning rate is multiplied by for each of the variables that the
            optimizer is built with, in order; None: 1.
        decays: which of them decay; None: all.
        kwargs: clipping, averages, accumulation and the like, as every Keras optimizer takes.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 1e-3,
        weight_decay: float = 0.01,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        factors: Sequence[float] | None = None,
        decays: Sequence[bool] | None = None,
        name: str = "adamw",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, name=name, **kwargs)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.factors = None if factors is None else tuple(factors)
        self.decays = None if decays is None else tuple(decays)

    def build(self, variables: list[Any]) -> None:
        """Make the moments.

        Raises:
            OptionError: `factors` or `decays` are of another number of variables.
        """
        if self.built:
            return
        for option in ("factors", "decays"):
            given = getattr(self, option)
            if given is not None and len(given) != len(variables):
                raise OptionError(
                    f"{option} are of {len(given)} variables, and the optimizer is to train "
                    f"{len(variables)}. Freeze layers before you make the optimizer."
                )
        super().build(variables)
        names = ["momentum", "velocity"]
        self._momentums, self._velocities = self.add_optimizer_variables(variables, names)

    def _apply_weight_decay(self, variables: list[Any]) -> None:
        """Nothing: Keras's decay knows one learning rate alone; `update_step` has it."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        place = self._get_variable_index(variable)
        m, v = self._momentums[place], self._velocities[place]
        # in float64: 1 - 0.999 in float32 is off by 5e-5, and so were the first steps
        step = ops.cast(self.iterations + 1, "float64")
        rate = ops.cast(learning_rate, "float64")
        rate = rate if self.factors is None else rate * self.factors[place]
        kept = 1 - rate * self.weight_decay
        corrected = ops.sqrt(1 - self.beta_2**step)
        size, epsilon = rate * corrected / (1 - self.beta_1**step), self.epsilon * corrected

        if self.weight_decay and (self.decays is None or self.decays[place]):
            self.assign(variable, variable * ops.cast(kept, variable.dtype))
        betas = {"beta_1": self.beta_1, "beta_2": self.beta_2}
        adam_step(variable, m, v, gradient, size=size, epsilon=epsilon, **betas)

    def get_config(self) -> dict[str, Any]:
        own = ("beta_1", "beta_2", "epsilon", "factors", "decays")
        return super().get_config() | {name: getattr(self, name) for name in own}


# ---------------------------------------------------------------- schedules


@register
class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rates that rise linearly from step to step, then follow `after`.

    Args:
        after: what follows, and its own first value is what the rates rise to; a number: it stays.
        steps: of the rise; 0: there is none.
        start: of the rise, as a part of where it ends.
    """

    def __init__(self, after: LearningRate, steps: int, start: float = 0.0) -> None:
        self.after, self.steps, self.start = after, steps, start

    def __call__(self, step: Any) -> Any:
        if callable(self.after):
            rate, top = self.after(ops.maximum(step - self.steps, 0)), self.after(0)
        else:
            rate = top = ops.cast(self.after, keras.config.floatx())
        if not self.steps:
            return rate
        part = self.start + (1 - self.start) * ops.cast(step, rate.dtype) / self.steps
        return ops.where(step < self.steps, top * part, rate)

    def get_config(self) -> dict[str, Any]:
        after = keras.saving.serialize_keras_object(self.after)
        return {"after": after, "steps": self.steps, "start": self.start}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Warmup:
        return cls(**{**config, "after": keras.saving.deserialize_keras_object(config["after"])})


def schedule(
    kind: str, learning_rate: float, steps: int, warmup: int = 0, *, start: float = 0.0
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Learning rates of `steps` steps, as timm has them with `warmup_prefix`.

    Args:
        kind: `cosine` or `linear`, both to 0, or `constant`.
        learning_rate: the highest.
        steps: of the whole run, those of the warm-up among them.
        warmup: steps before the highest is reached.
        start: of the warm-up, as a part of the highest.

    Raises:
        OptionError: no such kind.
    """
    decays = keras.optimizers.schedules
    left = max(steps - warmup, 1)
    kinds: dict[str, LearningRate] = {
        "cosine": decays.CosineDecay(learning_rate, left),
        "linear": decays.PolynomialDecay(learning_rate, left, end_learning_rate=0.0),
        "constant": learning_rate,
    }
    if kind not in kinds:
        raise OptionError(
            f"schedule={kind!r} is none of {', '.join(kinds)}.{did_you_mean(kind, kinds)}"
        )
    return Warmup(kinds[kind], warmup, start)
