"""What a fine-tuning run is made with: what the caller says, else the recipe and the family."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.errors import OptionError, did_you_mean
from zoo.finetuning import recipe
from zoo.finetuning.pipeline import Augment
from zoo.finetuning.recipe import Facts
from zoo.options import count, plain
from zoo.registry.dialects import formats_of
from zoo.typed import fits

STRATEGIES = ("full", "head", "lp-ft", "gradual")
SCHEDULES = ("cosine", "linear", "constant")
# Of which a recipe's learning rates are. They grow with the root of the batch, as suits Adam
# (Malladi et al., arXiv:2205.10287).
RATE_BATCH = 256

AUGMENTS: Mapping[str, Augment] = {
    "none": Augment(crop=None, flip=0.0),
    "crop": Augment(crop=(0.6, 1.0), flip=0.0),
    "light": Augment(crop=(0.35, 1.0), flip=0.5),
    "strong": Augment(crop=(0.08, 1.0), flip=0.5, rand_augment=(2, 9.0)),
}

_OF_IMAGES = ("augment", "mixup", "cutmix", "random_erasing")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every choice of a run; `finetune` says what each is.

    Attributes:
        head_epochs: epochs of `lp-ft` in which the head learns alone; 0 for other strategies.
        head_learning_rate: the peak in these; None for other strategies.
        adapts: whether learning rate and layer decay of the epochs after these go by how good the
            head is then; see `recipe.adapted`.
    """

    strategy: str
    epochs: int
    head_epochs: int
    head_learning_rate: float | None
    adapts: bool
    batch_size: int
    learning_rate: float
    layer_decay: float
    weight_decay: float
    warmup: float
    schedule: str
    label_smoothing: float
    augment: Augment
    class_weights: tuple[float, ...] | None
    ema: float | None
    dtype: str | None
    early_stopping: int | None
    seed: int
    distribute: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def settle(
    facts: Facts, *, classes: Sequence[str] | None, **options: Any
) -> tuple[Settings, Mapping[str, str]]:
    """The settings of a run, and why those of them are so that the recipe chose.

    Args:
        facts: of the data and the model.
        classes: names of the classes; None where they are not known.
        options: the options of `finetune`; None leaves one open.

    Raises:
        OptionError: a value that is none of an option's.
    """
    options = {k: v if k == "augment" else plain(v) for k, v in options.items()}
    if options["learning_rate"] is not None and not fits(options["learning_rate"], float):
        raise OptionError(f"learning_rate={options['learning_rate']!r}: a number was expected.")
    own = dataclasses.asdict(formats_of(facts.family).recipe)
    batch_size = _batch_size(options["batch_size"], facts.examples)
    course, reasons = _course(facts, options, batch_size)
    head, fresh = course["strategy"] == "head", facts.untrained and course["strategy"] != "head"
    usual = own["augment"] if facts.images and not head and facts.counts is not None else "none"
    key = "head_learning_rate" if head else "scratch_learning_rate" if fresh else "learning_rate"
    scale = math.sqrt(batch_size / RATE_BATCH)
    rate = own[key] * scale if options["learning_rate"] is None else options["learning_rate"]
    usually = {**own, "layer_decay": 1.0} if fresh else own
    is_open = options["learning_rate"] is None and options["layer_decay"] is None
    settings = Settings(
        **course,
        adapts=is_open and not fresh and course["head_epochs"] > 0,
        **{k: usually[k] if options[k] is None else options[k] for k in _FILLED},
        **{k: options[k] for k in _AS_GIVEN},
        augment=_augment(options | course, usual, facts.images),
        batch_size=batch_size,
        learning_rate=float(rate),
        head_learning_rate=own["head_learning_rate"] * scale if course["head_epochs"] else None,
        class_weights=_class_weights(options["class_weights"], facts.counts, classes),
    )
    _check(settings)
    return settings, reasons


def _course(
    facts: Facts, options: Mapping[str, Any], batch_size: int
) -> tuple[dict[str, Any], dict[str, str]]:
    """Strategy and epochs, of which so many of the head alone; and why the recipe chose so."""
    strategy, epochs, reasons = options["strategy"], options["epochs"], {}
    steps = facts.steps(batch_size)
    if strategy is None:
        strategy, reasons["strategy"] = recipe.strategy(facts, steps, options["learning_rate"])
    if epochs is None:
        head, epochs, reasons["epochs"] = recipe.epochs(facts, strategy, steps)
    else:
        head = epochs // 2 if strategy == "lp-ft" else 0
    return {"strategy": strategy, "epochs": epochs, "head_epochs": head}, reasons


_FILLED = ("layer_decay", "weight_decay", "warmup", "schedule", "label_smoothing")
_AS_GIVEN = ("ema", "dtype", "early_stopping", "seed", "distribute")


def _check(settings: Settings) -> None:
    for name, known in (("strategy", STRATEGIES), ("schedule", SCHEDULES)):
        value = getattr(settings, name)
        if value not in known:
            raise OptionError(
                f"{name}={value!r} is none of {', '.join(known)}.{did_you_mean(str(value), known)}"
            )
    if settings.distribute not in (None, "mirrored"):
        raise OptionError(f"distribute={settings.distribute!r}: None or 'mirrored' was expected.")
    for name, low, high in _RANGES:
        value, kind = getattr(settings, name), "a whole number" if name in _COUNTS else "a number"
        if value is None:
            continue
        fitting = fits(value, int if name in _COUNTS else float)
        if not fitting or not low <= value <= high:
            raise OptionError(f"{name}={value!r}: {kind} from {low:g} to {high:g} was expected.")


_COUNTS = {"epochs", "early_stopping", "seed"}
_RANGES = (
    ("epochs", 1, 1e6),
    ("learning_rate", 0, 1e3),
    ("layer_decay", 0, 1),
    ("weight_decay", 0, 1e3),
    ("warmup", 0, 1),
    ("label_smoothing", 0, 0.999),
    ("ema", 0, 1),
    ("early_stopping", 1, 1e6),
    ("seed", 0, 2**31 - 1),
)


def _augment(options: Mapping[str, Any], usual: str, images: bool) -> Augment:
    """What happens to the training inputs: `augment`, with the single options over it."""
    given = [k for k in _OF_IMAGES if _changes(options[k])]
    if options["strategy"] == "head" and given:
        raise OptionError(
            f"{', '.join(given)} and strategy='head' do not go together: its features are computed "
            "once, from inputs as they are. Take strategy='gradual', or leave these out."
        )
    if not images and given:
        raise OptionError(f"{', '.join(given)} is for images, which this model does not read.")
    chosen = options["augment"]
    if chosen is None or chosen is True:
        chosen = usual
    elif chosen is False:
        chosen = "none"
    if isinstance(chosen, str):
        if chosen not in AUGMENTS:
            raise OptionError(
                f"augment={chosen!r} is none of {', '.join(AUGMENTS)}, and no Augment."
                f"{did_you_mean(chosen, AUGMENTS)}"
            )
        chosen = AUGMENTS[chosen]
    if not isinstance(chosen, Augment):
        raise OptionError(
            f"augment={chosen!r}: {', '.join(AUGMENTS)} or zoo.finetuning.Augment(...) expected."
        )
    single = {
        k: options[k] for k in ("mixup", "cutmix", "random_erasing") if options[k] is not None
    }
    return dataclasses.replace(chosen, **single)


def _changes(wish: Any) -> bool:
    """Whether an option asks for inputs to be changed."""
    return wish.changes_inputs if isinstance(wish, Augment) else wish not in (None, 0, "none")


def _batch_size(batch_size: int | None, examples: int | None) -> int:
    if batch_size is None:
        return recipe.batch_size(examples)
    batch_size = count("batch_size", batch_size)
    if examples is not None and batch_size > examples:
        raise OptionError(
            f"batch_size={batch_size} is more than the {examples} training examples. Give at most "
            f"{examples}, or leave it out."
        )
    return batch_size


def _class_weights(
    wish: Any, counts: np.ndarray | None, classes: Sequence[str] | None
) -> tuple[float, ...] | None:
    """A weight per class; `balanced` makes each class count alike, and the mean weight 1."""
    if wish is None:
        return None
    if counts is None or classes is None:
        raise OptionError("class_weights needs the examples; a tf.data.Dataset weighs its own.")
    if isinstance(wish, str) and wish == "balanced":
        return tuple(float(w) for w in counts.sum() / (len(counts) * np.maximum(counts, 1)))
    if isinstance(wish, Mapping):
        if unknown := [str(k) for k in wish if k not in classes]:
            raise OptionError(
                f"class_weights names {unknown[0]!r}, which is no class of the data."
                f"{did_you_mean(unknown[0], classes)}"
            )
        wish = [wish.get(label, 1.0) for label in classes]
    numbers = isinstance(wish, tuple | list) and all(fits(w, float) for w in wish)
    if not numbers or len(wish) != len(classes) or any(not w >= 0 for w in wish):
        raise OptionError(
            f"class_weights={wish!r}: 'balanced', a weight by class name, or one for each of the "
            f"{len(classes)} classes was expected, none negative."
        )
    return tuple(float(w) for w in wish)
