"""Python functions inside of TensorFlow graphs, in a way that lets a process end while they run.

Where a process ends and an iterator of `tf.data` is still alive, the interpreter waits for the
iterator, the iterator for its calls and these for the interpreter, forever. So the end waits until
no call runs, and from then on calls give up at once.
"""

from __future__ import annotations

import atexit
import functools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from zoo.errors import ZooError

_LONGEST = 30.0  # seconds that the end of the process waits for calls
_QUIET = 0.2  # seconds after the last call in which the next one may come

_ending = threading.Event()
_lock = threading.Lock()
_running = 0
_last = 0.0  # when a call ended
_failure: ZooError | None = None  # of the last call that failed


def host_call(function: Callable[..., Any], inputs: Sequence[Any], types: Any) -> Any:
    """`tf.numpy_function` of a function whose result follows from its inputs alone."""
    import tensorflow as tf

    def call(*args: Any) -> Any:
        global _running, _last, _failure
        if _ending.is_set():
            raise StopIteration  # of all errors TensorFlow does not log this one
        with _lock:
            _running += 1
        try:
            return function(*args)
        except ZooError as error:
            _failure = error
            raise
        finally:
            with _lock:
                _running -= 1
                _last = time.monotonic()

    _wait_at_the_end()
    return tf.numpy_function(call, inputs, types, stateful=False)


@contextmanager
def host_errors() -> Iterator[None]:
    """Let an error of zoo in a host call come out as it is, and not as TensorFlow reports it."""
    global _failure
    import tensorflow as tf

    _failure = None
    try:
        yield
    except tf.errors.OpError:
        if _failure is None:
            raise
        raise _failure from None


@functools.cache
def _wait_at_the_end() -> None:
    # only now, so that it goes before what TensorFlow does at the end
    atexit.register(_end)


def _end() -> None:
    _ending.set()
    stop = time.monotonic() + _LONGEST
    while (now := time.monotonic()) < stop and (_running or now < _last + _QUIET):
        time.sleep(0.01)
