"""Every error that zoo raises on purpose.

Each message says what was found, what was expected and what to do. All of them are `ZooError`;
each is also the built-in error a Python user would catch for that kind of fault.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


class ZooError(Exception):
    """Base of every error raised by zoo."""


class UnknownNameError(ZooError, LookupError):
    """A model, tag, architecture or family name that the registry does not have."""


class OptionError(ZooError, TypeError):
    """An option that the call or the architecture does not take."""


class HandleError(ZooError, ValueError):
    """A handle that is no card name, no `org/name`, no path and no address."""


class ConfigError(ZooError, ValueError):
    """A config that is missing, unreadable, or asks for maths that zoo does not know."""


class WeightsError(ZooError, ValueError):
    """Tensors and model weights that do not fit each other: missing, extra, wrong shape."""


class FileFormatError(ZooError, ValueError):
    """A file that is not what it claims to be, or of a format that is never read (pickle)."""


class IntegrityError(ZooError, OSError):
    """A file whose hash or size is not the expected one."""


class LockError(ZooError, OSError):
    """A file that the lockfile does not list, or lists otherwise."""


class DownloadError(ZooError, ConnectionError):
    """A download that failed: no network, server error, rate limit, cut connection."""


class NotFoundError(ZooError, FileNotFoundError):
    """A repo, revision, file or folder that is not there."""


class AccessError(ZooError, PermissionError):
    """A repo or folder that is there, or may be, but not for this token or user."""


class OfflineError(DownloadError):
    """Offline mode, and the file is not in the cache."""


class DiskError(ZooError, OSError):
    """A full disk or a cache that cannot be written."""


class MissingExtraError(ZooError, ImportError):
    """A package that only some uses need, and that is not installed."""


class PublishError(ZooError, ValueError):
    """A model that must not be published as it is; `report` says what the gate found."""

    def __init__(self, message: str, report: Any = None) -> None:
        super().__init__(message)
        self.report = report


class UploadError(ZooError, ConnectionError):
    """A publication that failed: no network, server error, rate limit, a change meanwhile."""


class InputError(ZooError, ValueError):
    """An input (image, text, audio, data set) that cannot be read or is of the wrong kind."""


class TaskError(ZooError, TypeError):
    """A verb that the model's task does not have."""


class TrainingError(ZooError, ArithmeticError):
    """A training run that cannot go on: its loss is no number any more."""


def nearest(name: str, names: Iterable[str], n: int = 3, least: float = 0.5) -> list[str]:
    """The up to `n` entries of `names` most like `name`, best first.

    Args:
        least: how alike they are, from 0 to 1: twice the characters in common, over all.
    """
    by_lower: dict[str, str] = {}
    for entry in names:
        by_lower.setdefault(entry.lower(), entry)
    return [by_lower[m] for m in difflib.get_close_matches(name.lower(), by_lower, n, least)]


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A sentence with the nearest names and a leading space, or the empty string."""
    return suggestion(nearest(name, names))


def suggestion(names: Sequence[str]) -> str:
    """A sentence that proposes these names, with a leading space; empty where there are none."""
    return f" Did you mean {' or '.join(map(repr, names))}?" if names else ""
