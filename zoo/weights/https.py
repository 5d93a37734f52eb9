"""A file at a plain https address: fetched once, resumed where it broke off."""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit

from zoo.errors import (
    AccessError,
    DownloadError,
    HandleError,
    IntegrityError,
    NotFoundError,
    OfflineError,
)
from zoo.weights.disk import check_room, disk_errors, move_into_place, sha256_of
from zoo.weights.endpoint import is_loopback, is_offline, url_cache
from zoo.weights.handle import Source
from zoo.weights.ledger import Ledger, Record
from zoo.weights.lockfile import LockedFile, Lockfile
from zoo.weights.waiting import (
    BUSY,
    FIRST_ANSWER,
    LONGEST_PAUSE,
    PAUSES,
    answered_within,
    progress_bar,
    requested_pause,
)

if TYPE_CHECKING:
    import requests

_CHUNK = 1 << 16  # bytes; what a connection that breaks off loses at most
_SILENCE = 30.0  # seconds without a byte after which a transfer counts as broken off
_REDIRECTS = 10


def fetch_url(url: str, source: Source, sha256: str | None = None) -> Path:
    """The path of the file at an address, fetched and verified, in zoo's own cache.

    A file that is in the cache makes no request. One that broke off is resumed, if the server can
    and the file is still the same. No token is ever sent.

    Args:
        url: an `https://` address; plain http is taken on this machine alone.
        source: the cache, the lockfile (which lists addresses as repos), offline, refresh.
        sha256: the hash that the content must have; None trusts the first answer.

    Raises:
        HandleError: no https address.
        NotFoundError, AccessError, DownloadError, OfflineError: the file cannot be had.
        IntegrityError: its content is not the expected one.
        LockError: the lockfile does not list it, or lists it otherwise.
        DiskError: a full disk, or a cache that cannot be written.
    """
    _check_address(url, is_loopback(url))
    path = place_of(url, source)
    folder, ledger = path.parent, Ledger(path.parent)
    if source.refresh or not path.is_file():
        if is_offline(source):
            raise OfflineError(
                f"Offline, and {url} is not in the cache {folder}. Load it once with a network, or "
                "allow the network (offline=False, HF_HUB_OFFLINE=0)."
            )
        _download(url, path, sha256, refresh=source.refresh)
    record = _recorded(url, path, ledger)
    if sha256 and record.sha256 != sha256.lower():
        raise IntegrityError(
            f"{path}, which came from {url}, has the sha256 {record.sha256}; expected {sha256}. It "
            "was not loaded. Fetch it anew with refresh=True."
        )
    if source.lockfile is not None:
        locked = LockedFile(
            repo=url, commit=None, file=path.name, sha256=record.sha256, size=record.size
        )
        Lockfile.read(source.lockfile).check(**asdict(locked))
    return path


def place_of(url: str, source: Source) -> Path:
    """Where the file of an address is, or will be."""
    folder = url_cache(source) / hashlib.sha256(url.encode()).hexdigest()[:32]
    return folder / _file_name(url)


def _check_address(url: str, loopback: bool) -> None:
    """Refuse what could be read or changed on the way; redirects may not leave https either."""
    scheme = urlsplit(url).scheme
    if scheme == "https" or (scheme == "http" and loopback and is_loopback(url)):
        return
    raise HandleError(f"{url!r} is no https address; anyone on the way could change what it sends.")


def _file_name(url: str) -> str:
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    return re.sub(r"[^\w.-]+", "_", name).lstrip(".") or "file"


def _recorded(url: str, path: Path, ledger: Ledger) -> Record:
    """The record of a file in the cache, which is hashed unless that was done before."""
    known = ledger.read(None, path.name)
    if known and known.describes(path):
        return known
    state = path.stat()
    record = Record(
        origin=url,
        endpoint=None,
        commit=None,
        file=path.name,
        path=path.name,
        sha256=sha256_of(path),
        size=state.st_size,
        mtime_ns=state.st_mtime_ns,
        fetched=True,
    )
    ledger.write(record)
    return record


def _download(url: str, path: Path, sha256: str | None, *, refresh: bool) -> None:
    """Fetch a file whole, check it and give it its name. One process at a time does."""
    from huggingface_hub.utils import WeakFileLock

    partial = path.with_name(f"{path.name}.partial")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(path.parent / ".lock"):
            if path.is_file() and not refresh:
                return  # another process was faster
            _receive(url, partial)
            if sha256 and (found := sha256_of(partial)) != sha256.lower():
                partial.unlink()
                raise IntegrityError(
                    f"{url} sent a file with the sha256 {found}; expected {sha256}. It was "
                    "removed. Try again; if that does not help, the address has another file."
                )
            move_into_place(partial, path)
            _note_of(partial).unlink(missing_ok=True)


def _receive(url: str, partial: Path) -> None:
    """Complete a partial file, in a few attempts that each go on where the last one stopped."""
    import requests

    for pause in (*PAUSES, None):
        try:
            response = answered_within(FIRST_ANSWER, lambda: _ask(url, _range(partial)))
        except (requests.RequestException, TimeoutError) as error:
            raise _broken(url, str(error)) from error
        with response:
            if response.status_code in (200, 206):
                try:
                    return _store(url, response, partial)
                except (requests.RequestException, _CutShortError) as error:
                    reason, asked = str(error), None
            elif response.status_code == 416:  # the partial file is longer than the file is now
                partial.unlink(missing_ok=True)
                reason, asked = "the file changed", 0.0
            else:
                _refuse(url, response)
                reason = f"status {response.status_code}"
                asked = requested_pause(response.headers)
        if pause is None:
            break
        time.sleep(pause if asked is None else asked)
    raise _broken(url, f"{reason}, in the last of {len(PAUSES) + 1} attempts")


class _CutShortError(Exception):
    """A body that ended before its declared length."""


def _ask(url: str, headers: dict[str, str]) -> requests.Response:
    import requests

    loopback = is_loopback(url)
    for _ in range(_REDIRECTS):
        _check_address(url, loopback)
        response = requests.get(
            url, headers=headers, stream=True, timeout=_SILENCE, allow_redirects=False
        )
        if not response.is_redirect:
            return response
        response.close()
        url = urljoin(url, response.headers["Location"])
    raise DownloadError(f"{url} redirects without end.")


def _note_of(partial: Path) -> Path:
    """Where it is kept which version of the file a partial file is of."""
    return partial.with_name(f"{partial.name}.json")


def _range(partial: Path) -> dict[str, str]:
    """The headers that ask for the rest of a file, as long as it has not changed; else for all."""
    headers = {"Accept-Encoding": "identity"}  # the bytes as they are, so that they can be counted
    try:
        size = partial.stat().st_size
        version = json.loads(_note_of(partial).read_bytes())["version"]
    except (OSError, ValueError, LookupError):
        return headers
    return {**headers, "Range": f"bytes={size}-", "If-Range": version} if size else headers


def _store(url: str, response: requests.Response, partial: Path) -> None:
    """Write an answer's body at its place in the partial file."""
    headers = response.headers
    start = 0
    if response.status_code == 206:
        given = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
        start = int(given[1]) if given else 0
        if start != partial.stat().st_size:
            raise _CutShortError(
                f"another range than was asked for: {headers.get('Content-Range')}"
            )
    encoded = "Content-Encoding" in headers  # then the length is of something else
    total = None if encoded else _total(start, headers.get("Content-Length"))
    check_room(url, (total or start) - start, partial.parent)
    _note(partial, headers)
    name = partial.name.removesuffix(".partial")
    bar = progress_bar()(total=total, initial=start, desc=name, unit="B", unit_scale=True)
    with partial.open("ab" if start else "wb") as file, bar:
        for chunk in response.iter_content(_CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
    if total is not None and partial.stat().st_size != total:
        raise _CutShortError(f"{partial.stat().st_size} bytes of {total} came")


def _total(start: int, length: str | None) -> int | None:
    return start + int(length) if length and length.isdigit() else None


def _note(partial: Path, headers: Any) -> None:
    """Keep the version that the server gives a file: it is resumed only where it gives one."""
    etag = headers.get("ETag", "")
    version = etag if etag.startswith('"') else headers.get("Last-Modified")
    if version:
        _note_of(partial).write_text(json.dumps({"version": version}), "utf-8")
    else:
        _note_of(partial).unlink(missing_ok=True)


def _refuse(url: str, response: requests.Response) -> None:
    """Raise for a status after which asking again does not help, or not soon."""
    status = response.status_code
    if status in (401, 403):
        raise AccessError(
            f"{url} may not be read without a login ({status}); zoo sends none there."
        )
    if status in (404, 410):
        raise NotFoundError(f"No file at {url} ({status}). Check the address.")
    asked = requested_pause(response.headers)
    if status not in BUSY or (asked or 0) > LONGEST_PAUSE:
        wait = f", and asks to wait {asked:.0f} s" if asked else ""
        raise _broken(url, f"the server answers with status {status}{wait}")


def _broken(url: str, reason: str) -> DownloadError:
    return DownloadError(
        f"{url} could not be fetched: {reason}. What has come is kept, and the next attempt goes "
        "on from there. Check the network and the proxy settings (HTTPS_PROXY), then try again."
    )
