"""From a handle to a ready model: handle, card, verified files, and what is assembled of them.

TensorFlow is imported last, so that a wrong name or a missing network is said at once.
"""

from __future__ import annotations

import inspect
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import OptionError
from zoo.loading.options import LoadOptions, given
from zoo.loading.pulling import fetch
from zoo.options import count, flag, plain
from zoo.registry.card import ModelCard
from zoo.registry.labels import as_labels
from zoo.weights.handle import Source

if TYPE_CHECKING:
    from zoo.model import Model


class LicenseWarning(UserWarning):
    """The licence of a model restricts its use."""


def load(
    name: str | os.PathLike,
    *,
    pretrained: bool = True,
    weights: str | os.PathLike | None = None,
    task: str | None = None,
    num_classes: int | None = None,
    labels: Iterable[str] | Mapping[Any, Any] | None = None,
    in_channels: int | None = None,
    input_size: int | tuple[int, int] | None = None,
    features_only: bool = False,
    out_indices: int | Sequence[int] | None = None,
    drop_rate: float | None = None,
    drop_path_rate: float | None = None,
    dtype: str | None = None,
    revision: str | None = None,
    endpoint: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike | None = None,
    offline: bool | None = None,
    lockfile: str | os.PathLike | None = None,
    refresh: bool = False,
    **architecture_options: Any,
) -> Model:
    """Load a model by name: a Keras model with its weights, preprocessing and labels.

    Args:
        name: `architecture[.tag]`, `org/name[@revision]`, `hf://org/name[@revision]`, or a folder
            with `config.json` and safetensors: a path that starts with `./`, `../`, `/`, `~`.
        pretrained: False builds the architecture with fresh random weights.
        weights: a local safetensors file or `https://` address in place of the card's own.
        task: a task other than the card's, such as `image-feature-extraction`.
        num_classes: 0 for pooled features with no head; N for the checkpoint's head if it has N
            classes, else a fresh one, listed in `model.load_report`.
        labels: names of the classes, in the order of the logits; or a mapping, such as
            `{0: "cat", 1: "dog"}` or `{"cat": 0, "dog": 1}`. See `zoo.registry.labels.as_labels`.
        in_channels: channels of the input; the first convolution is adapted as timm does.
        input_size: edge, or height and width; preprocessing and the model's input follow.
        features_only: give a list of feature maps, described by `model.feature_info`.
        out_indices: which maps; all by default; negative counts from the last; a number is so many
            of the last ones.
        drop_rate, drop_path_rate: dropout before the head, stochastic depth.
        dtype: None follows the Keras dtype policy, `auto` the file, else a Keras policy's name.
        revision, endpoint, token, cache_dir, offline, lockfile, refresh: see `Source`.
        architecture_options: any other field of the family's config.

    Returns:
        A `zoo.Model`; it gives logits.

    Raises:
        UnknownNameError, HandleError, OptionError, ConfigError, WeightsError, NotFoundError,
        AccessError, DownloadError, OfflineError, IntegrityError, LockError, FileFormatError,
        DiskError: each a `zoo.errors.ZooError` that says what to do.
    """
    source = Source(
        revision=revision,
        endpoint=endpoint,
        token=token,
        cache_dir=cache_dir,
        offline=offline,
        lockfile=lockfile,
        refresh=refresh,
    )
    options = LoadOptions(
        task=task,
        num_classes=None if num_classes is None else count("num_classes", num_classes, 0),
        labels=None if labels is None else as_labels(labels),
        in_channels=None if in_channels is None else count("in_channels", in_channels),
        input_size=_pair(input_size),
        features_only=flag("features_only", features_only),
        out_indices=_indices(out_indices),
        config=architecture_options | given(drop_rate=drop_rate, drop_path_rate=drop_path_rate),
        names=tuple(inspect.signature(load).parameters)[:-1],
    )
    found = fetch(name, source, pretrained=flag("pretrained", pretrained), weights=weights)
    _notice_license(found.card)
    from zoo.loading.assembling import (
        assemble,  # which imports TensorFlow, when all the files are there
    )

    return assemble(found, options, dtype)


def _notice_license(card: ModelCard) -> None:
    """Say once that a licence restricts use."""
    restricted = re.search(r"\bnc\b|non-?commercial|research", (card.license or "").lower())
    if restricted and card.name not in _noticed:
        _noticed.add(card.name)
        message = f"{card.name!r} has the licence {card.license!r}, which restricts its use."
        warnings.warn(message, LicenseWarning, stacklevel=3)


_noticed: set[str] = set()


def _indices(indices: int | Sequence[int] | None) -> tuple[int, ...] | None:
    given = plain(indices)
    if given is None:
        return None
    if isinstance(given, tuple):
        return tuple(count("out_indices", index, -(2**31)) for index in given)
    if (number := count("out_indices", given, -(2**31))) < 1:
        raise OptionError(f"out_indices={number} of the last maps; at least 1 was expected.")
    return tuple(range(-number, 0))


def _pair(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    given = plain(size)
    if given is None:
        return None
    pair = given if isinstance(given, tuple) else (given, given)
    if len(pair) != 2:
        raise OptionError(f"input_size is an edge, or (height, width), in pixels; got {size!r}.")
    height, width = (count("input_size", edge) for edge in pair)
    return height, width
