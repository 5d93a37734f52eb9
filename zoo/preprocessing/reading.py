"""What callers pass as images and recordings: the names that errors give them, and their bytes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zoo.errors import AccessError, DownloadError, InputError, NotFoundError, ZooError

_MAX_DOWNLOAD = 64 * 2**20  # bytes
_MAX_TIMEOUTS = 6  # a whole download may take this many times as long as a server may be silent


def item_name(item: Any, index: int, count: int, *, alone: str, among: str) -> str:
    """What errors call an input: `alone`, such as `The image`, or one of several, `among`."""
    name = alone if count == 1 else f"{among} {index} of {count} (counted from 0)"
    if isinstance(item, (str, os.PathLike)):
        return f"{name}, {os.fspath(item)!r},"
    return f"{name}, {len(item):,} bytes," if isinstance(item, bytes) else name


@contextmanager
def file_errors(name: str, expected: str) -> Iterator[None]:
    """Say what fails while a file is opened and read: `name` is not there, and so on.

    Raises:
        NotFoundError, AccessError: it is not there, or not for this user.
        InputError: a folder, or what cannot be opened.
    """
    try:
        yield
    except ZooError:  # of what reads it
        raise
    except FileNotFoundError as error:
        raise NotFoundError(f"{name} is not there. Give the path of {expected}.") from error
    except IsADirectoryError as error:
        raise InputError(f"{name} is a folder. Give the paths of its files.") from error
    except PermissionError as error:
        raise AccessError(f"{name} may not be read by this user.") from error
    except (OSError, ValueError) as error:  # a null byte in a path is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name} cannot be opened: {reason}.") from error


def download(address: str, name: str, timeout: float) -> bytes:
    """Read an https address. A redirect to plain http is refused before it is followed."""
    import requests

    if not address.startswith("https://"):
        raise InputError(f"{name} is no https address. Only these are read, besides paths.")
    session = requests.Session()
    session.adapters.pop("http://")
    try:
        with session.get(address, stream=True, timeout=timeout) as response:
            if response.status_code in (404, 410):
                raise NotFoundError(f"{name} is not there: the server says {response.status_code}.")
            if response.status_code in (401, 403):
                raise AccessError(f"{name} is not open: the server says {response.status_code}.")
            response.raise_for_status()
            return _body(response, name, deadline=time.monotonic() + _MAX_TIMEOUTS * timeout)
    except requests.exceptions.InvalidSchema as error:
        raise InputError(f"{name} redirects to an address that is not https.") from error
    except requests.RequestException as error:
        raise DownloadError(
            f"{name} could not be downloaded: {error}. Check the network and the address, or pass "
            "the path of a local file."
        ) from error
    finally:
        session.close()


def _body(response: Any, name: str, deadline: float) -> bytes:
    body = bytearray()
    for chunk in response.iter_content(2**16):
        body += chunk
        if len(body) > _MAX_DOWNLOAD:
            raise InputError(
                f"{name} is larger than {_MAX_DOWNLOAD:,} bytes; the download was stopped. "
                "Download it yourself and pass its path."
            )
        if time.monotonic() > deadline:
            raise DownloadError(f"{name} comes too slowly; the download was stopped. Try again.")
    return bytes(body)
