"""How long zoo waits for a server, and what the user sees meanwhile. Every wait has a bound."""

from __future__ import annotations

import contextvars
import functools
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from zoo.weights.endpoint import is_set

FIRST_ANSWER = 9.0  # seconds until a server that has said nothing counts as unreachable
LONGEST_PAUSE = 20.0  # seconds; a server that asks for more is not waited for
PAUSES = (0.5, 1.0, 2.0)  # seconds between attempts, where the server asks for none
BUSY = frozenset({408, 429, 500, 502, 503, 504})  # statuses after which asking again may help
_SMALLEST_SHOWN = 5_000_000  # bytes; smaller files come without a progress bar

T = TypeVar("T")


def answered_within(seconds: float, ask: Callable[[], T]) -> T:
    """The result of `ask()`, which includes looking up names and trying every address of a host.

    Raises:
        TimeoutError: it took longer. It goes on in the background, and its result is dropped.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(ask())
        except BaseException as error:
            future.set_exception(error)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run,), daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError as error:
        raise TimeoutError(str(error) or f"no answer within {seconds:.0f} s") from error


def requested_pause(headers: Mapping[str, str]) -> float | None:
    """The seconds for which a server asks to be left alone, by `Retry-After` or `RateLimit`."""
    text = headers.get("Retry-After", "").strip()
    if text.isdigit():
        return float(text)
    if text:
        try:
            wait = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
        return max(0.0, wait)
    limit = re.search(r"\br=0\b.*\bt=(\d+)", headers.get("RateLimit", ""))
    return float(limit[1]) if limit else None


@functools.cache
def progress_bar() -> type[Any]:
    """The progress bar of downloads: tqdm's, for files of 5 MB and more, where a person looks."""
    from tqdm.auto import tqdm

    class Progress(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)  # of the hub client's own bars
            small = (options.get("total") or 0) < _SMALLEST_SHOWN
            off = is_set("HF_HUB_DISABLE_PROGRESS_BARS")
            # None leaves it to tqdm, which shows nothing where the output is no terminal.
            super().__init__(*args, **{**options, "disable": True if small or off else None})

    return Progress
