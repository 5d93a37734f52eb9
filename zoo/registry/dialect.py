"""How one library writes a family: the keys of its configs, its classes, its names of weights.

A fact stands once in a `Dialect` and is read in both directions: `read` makes fields of our config
of a `config.json`, `write` makes the keys of fields; a row of the weights does so for tensors.
`zoo/formats/<family>.py` has the dialects of a family. Nothing here or there imports Keras.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from zoo.errors import ConfigError, WeightsError, did_you_mean
from zoo.registry.config_keys import Choice, Fields, Key, Values
from zoo.registry.tokenizer_classes import TokenizerClass

if TYPE_CHECKING:
    import numpy as np

    from zoo.weights.mapping import WeightMap

TRANSFORMERS = "transformers 5.24.0"  # whose config classes the defaults are
TIMM = "timm 1.0.31"

# ---------------------------------------------------------------- classes, files


@dataclass(frozen=True, kw_only=True)
class ModelClass:
    """A class that `architectures` names.

    Attributes:
        fields: those of its networks.
        classes: how many classes it has: a number, or the key that says it; None: as the labels.
        needs: keys that must have this value, and what would be wrong else.
        whole: type of the config that holds the class's own as a part.
        projects: whether what would be classes is a projection, which has no labels.
    """

    fields: Values = field(default_factory=dict)
    classes: int | str | None = None
    needs: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    whole: str | None = None
    projects: bool = False


@dataclass(frozen=True)
class ToldByFile:
    """A field that no config tells, and the tensors of a file do.

    Attributes:
        name: the field.
        weight: the end of the name of a tensor.
        absent: the field of a file without it.
        among: fields of the networks that read it.
    """

    name: str
    weight: str
    absent: Any
    among: Values = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """Networks of a dialect whose weights have names of their own.

    Attributes:
        fields: those by which they are known.
        weights: their table.
    """

    fields: Values
    weights: WeightMap


# What norms were called in the oldest files of transformers, which it still reads.
_LEGACY = (
    (re.compile(r"((?:LayerNorm|layer_norm)\.)weight$"), r"\1gamma"),
    (re.compile(r"((?:LayerNorm|layer_norm)\.)bias$"), r"\1beta"),
)


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How one library writes the networks of one type.

    Attributes:
        library: its name and version.
        weights: names of the weights, those of the bare network; heads stand beside it.
        variants: tables of networks that differ from `weights`, by the end of a form's name.
        prefix: before the names of the bare network's weights in files of a network with a head.
        always_prefixed: whether the bare network is written with the prefix as well.
        legacy: whether files may have the oldest names of norms.
        keys: of the config.
        fields: those that all networks of the type have.
        classes: by name; the first one is the network without a head.
        idle: keys that the library reads of the type and that change nothing in these networks,
            each with the reason.
        told: fields that files tell.
        tied: a weight with several names in a file, and the field that says that they are one.
        wholes: configs that have this type's as a part -> which class is meant by which of theirs.
        tokenizer: the class of tokenizers that the type has, unless files name one; None: no texts.
        stop_id: the token that ends a text where files do not say.
        processor: the class of image processors that the type has, likewise; None: no images.
    """

    library: str
    weights: WeightMap
    variants: Mapping[str, Variant] = field(default_factory=dict)
    prefix: str = ""
    always_prefixed: bool = False
    legacy: bool = False
    keys: tuple[Key | Choice, ...] = ()
    fields: Values = field(default_factory=dict)
    classes: Mapping[str, ModelClass] = field(default_factory=dict)
    idle: Mapping[str, str] = field(default_factory=dict)
    told: tuple[ToldByFile, ...] = ()
    tied: tuple[str, str] | None = None
    wholes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    tokenizer: TokenizerClass | None = None
    stop_id: int | None = None
    processor: str | None = None

    def but(
        self, *, keys: tuple[Key | Choice, ...] = (), fields: Values | None = None, **changes: Any
    ) -> Dialect:
        """A dialect that differs in this: keys by name, fields, and whole attributes."""
        changed = {key.name: key for key in keys}
        kept = [changed.pop(key.name, key) for key in self.keys]
        return dataclasses.replace(
            self,
            keys=(*kept, *changed.values()),
            fields={**self.fields, **(fields or {})},
            **changes,
        )

    # ------------------------------------------------------------ configs

    @property
    def config_form(self) -> str:
        """Whose form of `config.json` it has: `transformers`, `timm`, or else `zoo`."""
        if self.classes:
            return "transformers"
        return "timm" if self.library.startswith("timm") else "zoo"

    def filled(self, config: Values) -> dict[str, Any]:
        """The keys of a config, and those that it leaves out."""
        keys = dict(config)
        for key in self.keys:
            if key.name not in keys or (keys[key.name] is None and callable(key.default)):
                keys[key.name] = key.default_in(keys)
        return keys

    def read(self, keys: Values) -> Fields:
        """The fields of our config.

        Args:
            keys: as of `filled`.

        Raises:
            ConfigError: a value that zoo does not know.
        """
        fields: Fields = {}
        for key in self.keys:
            fields |= _named(key, keys)
        return {**fields, **self.fields}

    def write(self, fields: Values) -> dict[str, Any]:
        """The keys of a config with these fields.

        Raises:
            ConfigError: fields that the dialect cannot say.
        """
        keys: dict[str, Any] = {}
        for key in self.keys:
            keys |= key.write(fields, keys)
        return keys

    def class_of(self, fields: Values, type_name: str) -> str:
        """The class of networks with these fields.

        Raises:
            ConfigError: there is none.
        """
        told = {one.name for one in self.told}
        fitting = [
            name
            for name, one in self.classes.items()
            if (one.classes == 0) == (fields["num_classes"] == 0)
            and all(fields[k] == v for k, v in one.fields.items() if k not in told)
        ]
        if fitting:
            return max(fitting, key=lambda name: len(self.classes[name].fields))
        decisive = dict.fromkeys(k for one in self.classes.values() for k in one.fields)
        found = " and ".join(f"{k}={fields[k]!r}" for k in ("num_classes", *decisive))
        raise ConfigError(
            f"transformers has no {type_name} with {found}; its classes are "
            f"{', '.join(self.classes)}."
        )

    # ------------------------------------------------------------ weights

    @cached_property
    def forms(self) -> Mapping[str, WeightMap]:
        """The tables of all forms that files have: by the variant, with the prefix or `.bare`, and
        `.legacy`. The usual one has the empty name."""
        tables = {"": self.weights, **{f".{k}": v.weights for k, v in self.variants.items()}}
        forms = {}
        for name, table in tables.items():
            if not self.prefix:
                forms[name] = table
                continue
            forms[name] = table.under(self.prefix)
            forms[f"{name}.bare"] = table
        if self.legacy:
            forms |= {f"{name}.legacy": table.renamed(_old) for name, table in forms.items()}
        return forms

    def own_form(self, fields: Values) -> str:
        """The form that the library writes for a network of these fields."""
        fits = (
            f".{name}"
            for name, variant in self.variants.items()
            if all(fields.get(k) == v for k, v in variant.fields.items())
        )
        form = next(fits, "")
        bare = self.prefix and not self.always_prefixed and self._is_base(fields)
        return f"{form}.bare" if bare else form

    def _is_base(self, fields: Values) -> bool:
        if "head" in fields:
            return fields["head"] in ("base", "sentence")
        return not fields["num_classes"]

    def told_by(self, tensors: Mapping[str, np.ndarray], fields: Values) -> Fields:
        """Fields that a file tells otherwise than the config: what no config tells, and a tied pair
        of weights that has two values, since transformers 5 ties equal ones alone
        (`PreTrainedModel.tie_weights`)."""
        changed: Fields = {}
        for one in self.told:
            read = all(fields[k] == v for k, v in one.among.items())
            if read and not any(name.endswith(one.weight) for name in tensors):
                changed[one.name] = one.absent
        if self.tied is not None and fields[self.tied[1]] and fields.get("head") == "language":
            weight, name = self.tied
            if any(table.disagrees(tensors, weight) for table in self.forms.values()):
                changed[name] = False
        return changed


def _named(key: Key | Choice, keys: Values) -> Fields:
    """What a key says, its name in whatever error there is."""
    try:
        return key.read(keys)
    except ConfigError as error:
        said = str(error)
        raise ConfigError(said if key.name in said else f"{key.name} is {said}") from None


def _old(name: str) -> str:
    for now, then in _LEGACY:
        name = now.sub(then, name)
    return name


# ---------------------------------------------------------------- a family


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a family is fine-tuned unless the caller says otherwise.

    Attributes:
        learning_rate: of all layers, for batches of 256.
        head_learning_rate: of a head alone.
        scratch_learning_rate: of layers that were never trained.
        layer_decay: what the rate falls by from block to block, towards the input.
        weight_decay, warmup, schedule, label_smoothing, augment: as of `zoo.finetune`.
        source: where the values are from.
    """

    learning_rate: float = 1e-3
    head_learning_rate: float = 8e-3
    scratch_learning_rate: float = 4e-3
    layer_decay: float = 1.0
    weight_decay: float = 0.01
    warmup: float = 0.1
    schedule: str = "cosine"
    label_smoothing: float = 0.0
    augment: str = "crop"
    source: str = "AdamW as in Loshchilov and Hutter, arXiv:1711.05101"


@dataclass(frozen=True, kw_only=True)
class Formats:
    """How others write a family.

    Attributes:
        dialects: by name, which is the model type for those of transformers; the usual one first.
        nested: groups of options that a reference's config may have, such as `block_args`: their
            entries stand for options of their own.
        idle: options of a reference's config that change nothing at inference.
        recipe: of fine-tuning.
    """

    dialects: Mapping[str, Dialect]
    nested: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    recipe: Recipe = Recipe()

    @property
    def usual(self) -> str:
        """The name of the first dialect."""
        return next(iter(self.dialects))

    def of(self, architecture: str) -> tuple[str, Dialect]:
        """The dialect of an architecture, and its name: that of its own name, or the usual one."""
        name = architecture if architecture in self.dialects else self.usual
        return name, self.dialects[name]

    def own_layout(self, architecture: str, fields: Values) -> str:
        """The layout in which the architecture's library writes a network of these fields."""
        name, dialect = self.of(architecture)
        return f"{name}{dialect.own_form(fields)}"

    def of_layout(self, layout: str) -> Dialect:
        """The dialect of a layout, which is a dialect's name and a form's."""
        return self.dialects[layout.partition(".")[0]]

    def table(self, layout: str) -> WeightMap:
        """The names of weights in a layout.

        Raises:
            WeightsError: there is no such layout.
        """
        name, dot, form = layout.partition(".")
        if name not in self.dialects or dot + form not in self.dialects[name].forms:
            known = [*self.layouts()]
            raise WeightsError(
                f"There is no layout {layout!r}; there are {', '.join(known)}."
                f"{did_you_mean(layout, known)}"
            )
        return self.dialects[name].forms[dot + form]

    def layouts(self, first: str | None = None) -> Iterator[str]:
        """All layouts, those of one dialect first, since a file has most likely one of them."""
        for name in sorted(self.dialects, key=lambda n: n != first):
            yield from (f"{name}{form}" for form in self.dialects[name].forms)

    def layout_of(
        self, stated: str | None, tensors: Collection[str], weights: Collection[str]
    ) -> str:
        """The layout that a file has: the one stated, unless only another one has its names.

        Args:
            stated: what the card says; None: the usual one.
            tensors: names in the file.
            weights: names of the model's weights.
        """
        first = stated or self.usual
        others = [name for name in self.layouts(first.partition(".")[0]) if name != first]
        found = (name for name in (first, *others) if self.table(name).reads(tensors, weights))
        return first if not others else next(found, first)
