"""Weight maps: a table of source tensors beside model weights, read in both directions.

A map is always walked from the model's own weights: each weight matches exactly one row, whose
`*` captures then spell the source names. So nothing inverts a pattern, and a tensor with no place
or a weight with no tensor is seen at once.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from zoo.errors import WeightsError, did_you_mean

Arrays = list[Any]  # numpy's, or `Joined`


@dataclass(frozen=True)
class Operation:
    """What a row does to its tensors: `load` from source to model, `save` back.

    Both take and give lists of arrays; results may be views. `lossy` says that a load followed by
    a save does not give back the same tensors.
    """

    name: str
    load: Callable[[Arrays], Arrays]
    save: Callable[[Arrays], Arrays]
    lossy: bool = False


# rank -> axes: dense [out, in], 1-D convolution [out, in, k], 2-D convolution [out, in, h, w]
_KERNEL_AXES = {2: (1, 0), 3: (2, 1, 0), 4: (2, 3, 1, 0)}


def _permute(arrays: Arrays, invert: bool) -> Arrays:
    axes = {rank: np.argsort(a) if invert else a for rank, a in _KERNEL_AXES.items()}
    return [np.transpose(a, axes[a.ndim]) if a.ndim in axes else a for a in arrays]


SAME = Operation("same", lambda arrays: arrays, lambda arrays: arrays)
KERNEL = Operation(
    "kernel", lambda arrays: _permute(arrays, False), lambda arrays: _permute(arrays, True)
)
POINTWISE = Operation(
    "pointwise",
    lambda arrays: [a[:, :, 0, 0].T if a.shape[2:] == (1, 1) else a for a in arrays],
    lambda arrays: [a.T[:, :, None, None] for a in arrays],
)


class Joined:
    """Arrays side by side along the last axis, put together only where they are needed.

    A model joins many: all of them at once would need the memory of the file again.
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts = list(parts)
        self.dtype = np.result_type(*self.parts)
        *first, _ = self.parts[0].shape
        self.shape = (*first, sum(part.shape[-1] for part in self.parts))
        self.ndim = len(self.shape)
        self.nbytes = sum(part.nbytes for part in self.parts)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.concatenate(self.parts, axis=-1, dtype=dtype)


def join(count: int) -> Operation:
    """`count` linear maps of the same input, or their biases, as one map: such as q, k and v."""
    return Operation(
        f"join {count}",
        lambda arrays: [Joined([a.T for a in arrays])],
        lambda arrays: [part.T for part in np.split(arrays[0], count, axis=-1)],
    )


@dataclass(frozen=True)
class Row:
    """One row: model weights, the source tensors they are made of, and the operation between.

    The first model pattern is matched against the weights; each `*` captures one or more
    characters, and the n-th `*` of every other pattern of the row stands for the same text.
    Weights named in `unless` are left to other rows.

    A source tensor may have several names, such as the two ends of a tied pair. The first one that
    a file has is read: `source`, then the `aliases` in their order. A save writes the names that
    the file had, and those of `written` for a model that came from no file; where `written` is
    None, it writes `source` whatever the file had.
    """

    model: str | tuple[str, ...]
    source: str | tuple[str, ...]
    operation: Operation = SAME
    unless: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    written: tuple[str, ...] | None = None

    @cached_property
    def models(self) -> tuple[str, ...]:
        return (self.model,) if isinstance(self.model, str) else self.model

    @cached_property
    def sources(self) -> tuple[str, ...]:
        return (self.source,) if isinstance(self.source, str) else self.source

    @cached_property
    def _anchor(self) -> re.Pattern:
        return re.compile("(.+)".join(map(re.escape, self.models[0].split("*"))))

    def match(self, weight: str) -> Match | None:
        found = self._anchor.fullmatch(weight)
        if found is None or weight in self.unless:
            return None
        patterns = (self.models, self.sources, self.aliases, self.written or ())
        spell = [tuple(_fill(p, found.groups()) for p in ps) for ps in patterns]
        return Match(
            row=self, models=spell[0], sources=spell[1], aliases=spell[2], written=spell[3]
        )


def _fill(pattern: str, captures: tuple[str, ...]) -> str:
    head, *tails = pattern.split("*")
    return head + "".join(c + t for c, t in zip(captures, tails, strict=True))


@dataclass(frozen=True, kw_only=True)
class Match:
    """A row applied to the weights of one model."""

    row: Row
    models: tuple[str, ...]
    sources: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    written: tuple[str, ...] = ()

    def read_as(self, tensors: Collection[str], taken: Collection[str]) -> tuple[str, ...]:
        """The names under which a file with these tensors has the sources.

        Args:
            taken: sources of other weights, which are nobody's aliases.
        """
        if self.sources[0] in tensors:
            return self.sources
        return next(((a,) for a in self.aliases if a in tensors and a not in taken), self.sources)

    def twins(
        self, checkpoint: Mapping[str, np.ndarray], read: tuple[str, ...], taken: Collection[str]
    ) -> tuple[list[str], list[str]]:
        """Further names of the tensor that a file has: those with equal values, and the others."""
        held = [a for a in self.aliases if a in checkpoint and a not in (*read, *taken)]
        equal = [a for a in held if np.array_equal(checkpoint[a], checkpoint[read[0]])]
        return equal, [a for a in held if a not in equal]


@dataclass(frozen=True)
class Constant:
    """A source tensor that no weight holds, such as a step counter.

    It stands once for each weight that matches `beside`. It may be absent from a file; a save
    writes back what the file had, and `value` for a model that came from no file; None: nothing.
    """

    beside: str
    source: str
    value: np.generic | None = None


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """A checkpoint fitted to a model: the arrays of its weights, and what was left over.

    Attributes:
        values: array per model weight, perhaps a view of the file.
        fresh: model weights that the file has no tensor for, as the caller allowed.
        ignored: tensors of the file that were not used, as declared or allowed.
        constants: values of the constant rows that the file has.
        adapted: tensors of the file that were fitted to another shape, as the caller asked.
        names: those that the file has of a source with aliases, where they are not the usual ones.
    """

    values: dict[str, np.ndarray]
    fresh: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    adapted: tuple[str, ...] = ()
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class WeightMap:
    """The table of one layout of one family.

    Args:
        rows: each weight of a model matches exactly one.
        constants: tensors beside the weights that hold no weight.
        ignore: patterns of source tensors that are never read, by declaration.
        heads: modules that stand beside the bare network, such as heads: a prefix is none of
            theirs, and a network that has none of them does not read them.
    """

    rows: tuple[Row, ...]
    constants: tuple[Constant, ...] = ()
    ignore: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()

    def under(self, prefix: str) -> WeightMap:
        """The table of a file that has the bare network under a prefix."""
        starts = tuple(f"{head}." for head in self.heads)
        return self.renamed(lambda n: n if f"{n}.".startswith(starts) else f"{prefix}{n}")

    def renamed(self, rename: Callable[[str], str]) -> WeightMap:
        """The table of a file that has other names: `rename` gives them."""

        def all_of(names: Sequence[str]) -> tuple[str, ...]:
            return tuple(map(rename, names))

        rows = (
            replace(
                row,
                source=all_of(row.sources),
                aliases=all_of(row.aliases),
                written=None if row.written is None else all_of(row.written),
            )
            for row in self.rows
        )
        constants = (replace(one, source=rename(one.source)) for one in self.constants)
        return replace(
            self, rows=tuple(rows), constants=tuple(constants), ignore=all_of(self.ignore)
        )

    def reads(self, tensors: Collection[str], weights: Collection[str]) -> bool:
        """Whether a file with these tensors has all of a model's weights by the table."""
        try:
            matches = self.matches(weights)
        except WeightsError:  # the table has no names for such a network
            return False
        taken = {source for match in matches for source in match.sources}
        return all(s in tensors for match in matches for s in match.read_as(tensors, taken))

    @cached_property
    def _ignored(self) -> tuple[str, ...]:
        return (*self.ignore, *(p for head in self.heads for p in (head, f"{head}.*")))

    def matches(self, weights: Iterable[str]) -> list[Match]:
        """Apply the table to a model's weight names.

        Raises:
            WeightsError: a weight that matches no row, or more than one.
        """
        weights = list(weights)
        found = {w: [m for row in self.rows if (m := row.match(w))] for w in weights}
        members = {w for ms in found.values() for m in ms for w in m.models[1:]}
        for weight, matches in found.items():
            if len(matches) + (weight in members) != 1:
                rows = ", ".join(repr(m.row.model) for m in matches) or "none"
                raise WeightsError(
                    f"Weight {weight!r} must match exactly one row; it matches {rows}."
                )
        return [m for ms in found.values() for m in ms]

    def _constants_of(self, weights: Iterable[str]) -> dict[str, np.generic | None]:
        rows = [(Row(c.beside, c.source), c.value) for c in self.constants]
        return {
            match.sources[0]: value
            for weight in weights
            for row, value in rows
            if (match := row.match(weight))
        }

    def resolve(
        self,
        checkpoint: Mapping[str, np.ndarray],
        shapes: Mapping[str, tuple[int, ...]],
        *,
        fresh: Collection[str] = (),
        spare: Collection[str] = (),
        adapt: Mapping[str, Callable[[np.ndarray, tuple[int, ...]], np.ndarray]] | None = None,
        hints: Mapping[str, str] | None = None,
        aliases: Mapping[str, str] | None = None,
        origin: str = "the checkpoint",
    ) -> Resolution:
        """Fit a checkpoint to a model, strictly.

        Args:
            checkpoint: tensors by source name.
            shapes: the model's weights, by name.
            fresh: weights that may be missing or of another shape: they keep fresh values.
            spare: patterns of tensors that the model may have no place for.
            adapt: weight -> what fits an array to the weight's shape; the array itself if it fits.
            hints: weight -> what to do if its shape differs, or its names differ in value.
            aliases: names by which the checkpoint has a tensor as well, and the one that lists it.
            origin: what error messages call the checkpoint.

        Raises:
            WeightsError: missing or extra tensors, shapes that differ, or different values under
                the names of one tensor, all of them in one message with the nearest names.
        """
        aliases = aliases or {}
        values: dict[str, np.ndarray] = {}
        kept_fresh: list[str] = []
        used: set[str] = set()
        missing: list[str] = []
        misshapen: list[str] = []
        adapted: list[str] = []
        advice: list[str] = []
        names: dict[str, tuple[str, ...]] = {}
        conflicts: list[str] = []
        matches = self.matches(shapes)
        taken = {source for match in matches for source in match.sources}
        for match in matches:
            excused = set(match.models) <= set(fresh)
            sources = match.read_as(checkpoint, taken)
            if absent := [s for s in sources if s not in checkpoint]:
                (kept_fresh.extend(match.models) if excused else missing.extend(absent))
                continue
            equal, others = match.twins(checkpoint, sources, taken)
            used.update(aliases.get(s, s) for s in (*sources, *equal))
            held = tuple(s for s in (*sources, *equal) if s not in aliases)
            if match.written and held and set(held) != set(match.written):
                names[match.sources[0]] = held
            if apart := [s for s in others if not _any_match(s, (*self._ignored, *spare))]:
                conflicts.append(" and ".join((*sources, *apart)))
                advice.extend(hint for m in match.models if (hint := (hints or {}).get(m)))
                used.update(apart)
            arrays = match.row.operation.load([checkpoint[s] for s in sources])
            fitted = [_fit(a, m, shapes, adapt) for a, m in zip(arrays, match.models, strict=True)]
            if any(new is not old for new, old in zip(fitted, arrays, strict=True)):
                arrays = fitted
                adapted.extend(sources)
            if all(a.shape == shapes[m] for a, m in zip(arrays, match.models, strict=True)):
                values.update(zip(match.models, arrays, strict=True))
            elif excused:
                kept_fresh.extend(match.models)
            else:
                misshapen.append(_misfit(match, arrays, shapes))
                advice.extend(hint for m in match.models if (hint := (hints or {}).get(m)))
        constants = {s: checkpoint[s] for s in self._constants_of(shapes) if s in checkpoint}
        unused = [s for s in checkpoint if s not in used and s not in constants]
        extra = [s for s in unused if not _any_match(s, (*self._ignored, *spare))]
        if missing or extra or misshapen or conflicts:
            raise WeightsError(_complaint(origin, missing, extra, misshapen, conflicts, advice))
        unread = [s for m in self.matches(kept_fresh) for s in m.sources if s in checkpoint]
        return Resolution(
            values=values,
            fresh=tuple(kept_fresh),
            ignored=tuple(sorted({*unused, *unread})),
            constants=constants,
            adapted=tuple(dict.fromkeys(adapted)),
            names=names,
        )

    def export(
        self,
        weights: Mapping[str, np.ndarray],
        names: Mapping[str, Sequence[str]] | None = None,
    ) -> dict[str, np.ndarray]:
        """The source tensors of a model's weights: the way back of `resolve`. May be views.

        Args:
            names: those of the file that the model came from; see `Resolution`.
        """
        tensors: dict[str, np.ndarray] = {}
        for match in self.matches(weights):
            arrays = match.row.operation.save([np.asarray(weights[m]) for m in match.models])
            if match.written:
                held = (names or {}).get(match.sources[0]) or match.written
                tensors.update((name, arrays[0]) for name in held)
            else:
                tensors.update(zip(match.sources, arrays, strict=True))
        return tensors

    def disagrees(self, checkpoint: Mapping[str, np.ndarray], weight: str) -> bool:
        """Whether a file has different values under the names of one weight's source."""
        found = [match for row in self.rows if (match := row.match(weight))]
        read = [(match, match.read_as(checkpoint, ())) for match in found]
        return any(r[0] in checkpoint and m.twins(checkpoint, r, ())[1] for m, r in read)

    def constants_for(
        self, weights: Iterable[str], known: Mapping[str, np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """The constant tensors to write beside a model's weights.

        Args:
            known: those of the file the model came from; None gives the declared ones.
        """
        if known is not None:
            return dict(known)
        declared = self._constants_of(weights).items()
        return {s: np.asarray(v) for s, v in declared if v is not None}


def _fit(
    array: Any, weight: str, shapes: Mapping[str, tuple[int, ...]], adapt: Mapping[str, Any] | None
) -> Any:
    """The array as the caller's way for this weight fits it, if there is one."""
    fit = (adapt or {}).get(weight)
    return array if fit is None else fit(array, shapes[weight])


def _any_match(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _misfit(match: Match, arrays: Arrays, shapes: Mapping[str, tuple[int, ...]]) -> str:
    got = ", ".join(str(a.shape) for a in arrays)
    want = ", ".join(str(tuple(shapes[m])) for m in match.models)
    return f"{' + '.join(match.sources)}: the file gives {got}, the model has {want}"


def _complaint(
    origin: str,
    missing: list,
    extra: list,
    misshapen: list,
    conflicts: list,
    advice: Sequence[str] = (),
) -> str:
    parts = [f"{origin} does not fit the model."]
    for title, names, others in (
        ("The model needs", missing, extra),
        ("The file has, with no place in the model,", extra, missing),
    ):
        if names:
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if names[5:] else "")
            parts.append(
                f"{title} {len(names)} tensor(s): {shown}.{did_you_mean(names[0], others)}"
            )
    if misshapen:
        shown = "; ".join(misshapen[:5]) + ("; ..." if misshapen[5:] else "")
        parts.append(f"Shapes differ (after layout conversion): {shown}.")
    if conflicts:
        parts.append(f"The values differ of what should be one tensor: {'; '.join(conflicts)}.")
    usual = "Check that the architecture and its options are those the file was made with."
    return " ".join([*parts, *(advice or [usual])])


def torch_rows(*, pointwise: tuple[str, ...] = ()) -> tuple[Row, ...]:
    """What PyTorch modules and their Keras counterparts call the same things.

    Args:
        pointwise: dense layers that the source holds as 1x1 convolutions.
    """
    kernels = tuple(f"{name}.kernel" for name in pointwise)
    return (
        Row("*.kernel", "*.weight", KERNEL, unless=kernels),
        *(Row(k, k.removesuffix("kernel") + "weight", POINTWISE) for k in kernels),
        Row("*.bias", "*.bias"),
        Row("*.gamma", "*.weight"),
        Row("*.beta", "*.bias"),
        Row("*.moving_mean", "*.running_mean"),
        Row("*.moving_variance", "*.running_var"),
    )


Rows = tuple[Row, ...]


def linear_rows(model: str, source: str) -> Rows:
    """A dense layer or a convolution, with or without a bias."""
    return (
        Row(f"{model}.kernel", f"{source}.weight", KERNEL),
        Row(f"{model}.bias", f"{source}.bias"),
    )


def norm_rows(model: str, source: str, gamma: str = "weight", beta: str = "bias") -> Rows:
    """A norm, whose parameters the source calls `gamma` and `beta`."""
    return Row(f"{model}.gamma", f"{source}.{gamma}"), Row(f"{model}.beta", f"{source}.{beta}")


def joined_rows(model: str, source: str, *names: str) -> Rows:
    """Linear maps of one input that the model has as one, such as query, key and value."""
    weights, biases = (
        tuple(f"{source}.{name}.{part}" for name in names) for part in ("weight", "bias")
    )
    return (
        Row(f"{model}.kernel", weights, join(len(names))),
        Row(f"{model}.bias", biases, join(len(names))),
    )


# The parameters of `torch.nn.LSTM` and `GRU`, which zoo's layers hold as they are.
RECURRENT_ROWS = (Row("*.weight_*", "*.weight_*"), Row("*.bias_*", "*.bias_*"))

BATCHES_TRACKED = Constant("*.moving_mean", "*.num_batches_tracked", np.int64(0))
