"""The gate: what is checked of a model's files, and of where they go, before anything is sent."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import ml_dtypes
import numpy as np

from zoo.errors import ConfigError, ZooError
from zoo.loading import LicenseWarning, load
from zoo.model import Model
from zoo.publishing import licences
from zoo.publishing.report import Change, Check, GateReport, State
from zoo.publishing.staging import Staged
from zoo.publishing.target import CONFIG, README, File, There
from zoo.registry.repo_config import license_section
from zoo.saving.files import is_checkpoint
from zoo.saving.readme import MARK, count_parameters, read_front_matter, untrained
from zoo.weights.files import open_checkpoint
from zoo.weights.folder import check_name

_ROUNDING = 16  # times the resolution of the file's dtype: what outputs may differ by, relatively
_UNKNOWN_SIZE = 224  # of an input that takes any
_CODE = {
    *(".bin", ".ckpt", ".dill", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth"),
    *(".h5", ".hdf5", ".keras", ".pb", ".dll", ".exe", ".jar", ".py", ".pyc", ".sh", ".so"),
}
"""Endings of formats that hold code, or run it when they are read."""


def examine(
    staged: Staged,
    target: str,
    there: There,
    *,
    prune: bool,
    force: bool,
    allow_untrained: bool = False,
) -> GateReport:
    """Check the files, and what they would make of the target. Nothing is sent.

    Args:
        staged: the files.
        target: what the report calls the target.
        there: what is at the target.
        prune: whether files there that are not published go.
        force: whether a model of another architecture, or a page written by hand, may be replaced.
        allow_untrained: whether there may be weights that were never trained.
    """
    changes = tuple(_changes(staged, there, prune))
    return GateReport(
        target=target,
        checks=(
            _names(staged),
            _formats(staged),
            _tensors(staged),
            _training(staged, allow_untrained),
            *_reload(staged),
            _license(staged),
            _architecture(staged, there, force),
            _page(staged, there, force),
            _one_checkpoint(changes),
            *there.checks,
        ),
        files=changes,
        left_out=staged.left_out,
        bytes=sum(file.size for file in staged.files.values()),
        parameters=count_parameters(staged.model),
    )


def _changes(staged: Staged, there: There, prune: bool) -> Iterator[Change]:
    """What becomes of every file, by name. A hub keeps `.gitattributes` for itself."""
    for name in sorted({*staged.files, *there.files} - {".gitattributes"}):
        file, old = staged.files.get(name), there.files.get(name)
        if file is None:
            state: State = "removed" if prune else "stays"
            yield Change(name=name, size=there.files[name].size, state=state)
        elif old is None:
            yield Change(name=name, size=file.size, sha256=file.sha256, state="added")
        else:
            state = "same" if file.is_same(old) else "changed"
            yield Change(name=name, size=file.size, sha256=file.sha256, state=state)


# ---------------------------------------------------------------- the files themselves


def _names(staged: Staged) -> Check:
    """Plain names that do not collide where case does not count, and content in every file."""
    wrong = [f"{file.name!r} is empty" for file in staged.files.values() if not file.size]
    lower = [name.lower() for name in staged.files]
    wrong += [f"{name!r} is there twice" for name in staged.files if lower.count(name.lower()) > 1]
    for name in staged.files:
        try:
            check_name(name)
        except ZooError as error:
            wrong.append(str(error))
    size = sum(file.size for file in staged.files.values())
    found = f"{len(staged.files)} files, {size / 1e6:,.1f} MB"
    if staged.left_out:
        found += f"; left out: {_listed(staged.left_out)}"
    return _verdict("names and sizes", wrong, found)


def _formats(staged: Staged) -> Check:
    """No pickle, and every file is what its name says."""
    code = [name for name in staged.left_out if Path(name).suffix.lower() in _CODE]
    wrong = [f"{_listed(code)} can run code when read: move it out of the folder"] if code else []
    wrong += [text for file in staged.files.values() if (text := _unlike_its_name(file))]
    return _verdict("no executable formats", wrong, "safetensors, JSON and text alone")


def _unlike_its_name(file: File) -> str | None:
    try:
        if file.name.endswith(".safetensors"):
            open_checkpoint(file.path)
        elif file.name.endswith(".json"):
            json.loads(file.path.read_bytes())
        elif not file.name.endswith(".model"):  # of sentencepiece, in a format of its own
            file.path.read_text(encoding="utf-8")
    except (ZooError, ValueError) as error:
        return f"{file.name} is not what its name says: {error}"
    return None


def _tensors(staged: Staged) -> Check:
    """No NaN and no infinity."""
    paths = [file.path for file in staged.files.values() if file.name.endswith(".safetensors")]
    try:
        checkpoint = open_checkpoint(paths)
    except ZooError as error:
        return Check(name="finite values", passed=False, found=str(error))
    bad = {n: count for n in checkpoint if (count := np.sum(~np.isfinite(checkpoint[n])))}
    wrong = [f"{name} has {count:,} NaN or infinite values" for name, count in bad.items()]
    return _verdict("finite values", wrong, f"all of {len(checkpoint)} tensors")


def _training(staged: Staged, allowed: bool) -> Check:
    """No random weights, unless the caller insists."""
    found = untrained(staged.model)
    if found is None:
        return Check(name="training", passed=True, found="no weights with their first values")
    advice = "" if allowed else ": train them, or untrained=True (--untrained), which the page says"
    return Check(name="training", passed=allowed, found=found + advice)


def _license(staged: Staged) -> Check:
    """Every place names the same, known licence."""
    texts = [name for name in staged.files if name.upper().startswith(("LICENSE", "LICENCE"))]
    try:
        front = read_front_matter(staged.files[README].path.read_text("utf-8"))[0].license
    except ConfigError as error:
        return Check(name="licence", passed=False, found=str(error))
    config = _config_license(staged.files[CONFIG].path)
    names = {str(name).lower() for name in (front, config) if name not in (None, "unknown")}
    if not names:
        wrong = "none is stated: pass license= (--license), such as 'apache-2.0'"
    elif len(names) > 1:
        wrong = f"README.md says {front!r}, {CONFIG} {config!r}: license= (--license) sets both"
    else:
        wrong = licences.complaint(min(names), has_text=bool(texts)) or ""
    return _verdict("licence", [wrong] if wrong else [], ", ".join(names))


def _config_license(path: Path) -> str | None:
    return license_section(json.loads(path.read_bytes())).get("license")


# ---------------------------------------------------------------- what they give back


def _reload(staged: Staged) -> Iterator[Check]:
    """Load exactly these files, strictly, and compare with the model."""
    model = staged.model
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LicenseWarning)  # the publisher knows
            again = load(staged.folder, dtype=model.dtype_policy.name)
    except ZooError as error:
        yield Check(name="strict reload", passed=False, found=str(error))
        return
    yield _same_outputs(model, again)
    card, card_again = model.record.card, again.record.card
    wrong = [
        f"{what} differ: {before!r} became {after!r}"
        for what, before, after in (
            ("labels", model.labels, again.labels),
            ("preprocessing", card.preprocessing, card_again.preprocessing),
            ("tasks", model.record.task, again.record.task),
            ("untrained weights", sorted(model.fresh), sorted(again.fresh)),
        )
        if before != after
    ]
    found = f"{len(model.labels)} labels" if model.labels else "no labels"
    yield _verdict("labels and preprocessing", wrong, f"{found}, and the same preprocessing")


def _same_outputs(model: Model, again: Model) -> Check:
    """Whether both give the same for noise, up to the rounding of the file's dtype."""
    x = _noise(model)
    before, after = (
        np.concatenate([np.ravel(np.asarray(y, np.float64)) for y in keras.tree.flatten(m(x))])
        for m in (model, again)
    )
    if np.array_equal(before, after, equal_nan=True):
        return Check(name="strict reload", passed=True, found="outputs are the same, bit for bit")
    largest = float(np.max(np.abs(before - after)))
    relative = float(np.linalg.norm(before - after)) / max(float(np.linalg.norm(before)), 1e-300)
    allowed = _ROUNDING * float(ml_dtypes.finfo(model.record.file_dtype).eps)
    found = f"outputs differ by {largest:.2g} at most, relatively by {relative:.2g}"
    bound = f"{allowed:.2g} is allowed for {model.record.file_dtype}"
    return Check(name="strict reload", passed=relative <= allowed, found=f"{found}; {bound}")


def _noise(model: Model) -> np.ndarray:
    """Two inputs `[2, ...]` as after the preprocessing; of the model's own size if it has none."""
    rng, spec, given = np.random.default_rng(0), model.record.card.preprocessing, model.inputs[0]
    if spec is not None:
        return spec.noise(rng).astype(given.dtype)
    shape = (2, *(size or _UNKNOWN_SIZE for size in given.shape[1:]))
    if "int" in given.dtype:  # tokens: every vocabulary has the first two
        return rng.integers(2, size=shape).astype(given.dtype)
    return rng.normal(size=shape).astype(given.dtype)


# ---------------------------------------------------------------- the target


def _architecture(staged: Staged, there: There, force: bool) -> Check:
    """What is there is no model of another kind, unless the caller insists."""
    ours, theirs = _kind(staged.files[CONFIG].path.read_text("utf-8")), _kind(there.config)
    passed, found = True, f"{ours}, as there"
    if theirs is None:
        found = f"{ours}, where no model is yet"
    elif theirs != ours:
        advice = "" if force else ": take another name, or force=True (--force)"
        passed, found = force, f"{ours} would replace {theirs}{advice}"
    return Check(name="architecture", passed=passed, found=found)


def _kind(config: str | None) -> str | None:
    """What a `config.json` says that the model is; None where it says nothing."""
    try:
        data = json.loads(config or "{}")
        return data.get("architecture") or data.get("model_type")
    except (ValueError, AttributeError):
        return None


def _page(staged: Staged, there: There, force: bool) -> Check:
    """No page that somebody wrote at the target gives way to one that zoo wrote."""
    ours = staged.files[README].path.read_text("utf-8")
    lost = MARK in ours and MARK not in (there.readme or MARK) and bool(_body(there.readme or ""))
    wrong = (
        "the README.md there was written by hand: publish a folder that has it, or force=True "
        "(--force)"
    )
    return _verdict(
        "page", [wrong] if lost and not force else [], "nothing written by hand is lost"
    )


def _body(readme: str) -> str:
    try:
        return read_front_matter(readme)[1].strip()
    except ConfigError:
        return readme


def _one_checkpoint(changes: Sequence[Change]) -> Check:
    """No weights are left at the target that a reader could take for the model's."""
    stale = [c.name for c in changes if c.state == "stays" and is_checkpoint(c.name)]
    wrong = (
        f"{_listed(stale)} would stay there and be taken for the model's: prune=True (--prune) "
        "removes what is not published"
    )
    return _verdict("one checkpoint", [wrong] if stale else [], "no other weights stay there")


def _verdict(name: str, wrong: Sequence[str], found: str) -> Check:
    return Check(name=name, passed=not wrong, found="; ".join(wrong[:5]) or found)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
