"""Which hub is asked, with which token, and where what it sends is kept.

The environment is read at each call, not when a module is imported, so that a notebook can set it
at any time.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from zoo.errors import AccessError, HandleError
from zoo.weights.handle import Source

PUBLIC = "https://huggingface.co"
_TRUE = {"1", "ON", "YES", "TRUE"}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A hub, and the folder of the cache that is its own.

    Attributes:
        url: base address, without a slash at the end.
        cache: folder in the layout of the Hugging Face cache.
        offline: ask nothing of the network.
    """

    url: str
    cache: Path
    offline: bool
    _token: str | bool | None = field(default=None, repr=False)

    @classmethod
    def of(cls, source: Source) -> Endpoint:
        """The hub that a source names, else the one of the environment.

        Raises:
            HandleError: the endpoint is no http or https address, or has a password in it.
        """
        url = (source.endpoint or _own_endpoint()).rstrip("/")
        try:
            parts = urlsplit(url)
            is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            is_address = False
        if "@" in url:  # and is not shown, for what stands before it is a secret
            raise HandleError("The endpoint has a user or password in it; give a token instead.")
        if not is_address:
            raise HandleError(f"The endpoint {url!r} is no address; 'https://host' was expected.")
        cache = hub_cache(source) if url == PUBLIC else endpoint_caches(source) / _slug(url)
        return cls(url=url, cache=cache, offline=is_offline(source), _token=source.token)

    @property
    def is_public(self) -> bool:
        return self.url == PUBLIC

    def token(self) -> str | Literal[False]:
        """The token to send; False for none. The ambient one goes to the ambient endpoint alone.

        Raises:
            AccessError: `token=True` asks for a stored token, and there is none for this endpoint;
                or a token that no request can carry. It is not shown.
        """
        from huggingface_hub import constants, get_token

        if not isinstance(self._token, str | bool | None):
            kind = type(self._token).__name__
            raise AccessError(f"token= is a text, True, False or None; got {kind}.")
        if isinstance(self._token, str):
            return _checked(self._token, "token=")
        implicit = self._token is None and not constants.HF_HUB_DISABLE_IMPLICIT_TOKEN
        ambient = self.url == _own_endpoint() and (implicit or self._token is True)
        token = get_token() if ambient else None
        if self._token is True and not token:
            raise AccessError(
                f"token=True asks for a stored token, and there is none for {self.url}. Set "
                "HF_TOKEN, log in with `hf auth login`, or pass the token itself."
            )
        return _checked(token or "", "The token of HF_TOKEN, or of the stored login,")

    @property
    def how_to_give_a_token(self) -> str:
        """What to do for a token to be sent, as the words after "for this," in an error."""
        if self.url == _own_endpoint():
            return "set HF_TOKEN, log in with `hf auth login`, or give token= (--token)"
        unused = " (HF_TOKEN is set, but not for this hub)" if os.environ.get("HF_TOKEN") else ""
        return (
            f"give token= (--token), or set HF_ENDPOINT={self.url} beside HF_TOKEN, which goes to "
            f"the hub of HF_ENDPOINT alone{unused}"
        )


def _checked(token: str, what: str) -> str | Literal[False]:
    """A token that a request can carry; the client would show any other in its error."""
    if re.fullmatch("[!-~]*", token):
        return token or False
    raise AccessError(
        f"{what} has a character that no token has, such as a line break at its end, "
        "a space or an accent; letters, digits and signs of ASCII were expected. Copy it anew; "
        "nothing was sent."
    )


def hub_cache(source: Source) -> Path:
    """The folder of the public hub's files, which other programs share."""
    if source.cache_dir is not None:
        return _path(source.cache_dir)
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return _path(named) if named else _hf_home() / "hub"


def endpoint_caches(source: Source) -> Path:
    """The folder that holds a cache for each of the other endpoints."""
    return _own_cache(source) / "endpoints"


def url_cache(source: Source) -> Path:
    """The folder of the files that came from plain addresses."""
    return _own_cache(source) / "urls"


def feature_cache(source: Source) -> Path:
    """The folder of features that fine-tuning computed and keeps, a folder for each set."""
    return _own_cache(source) / "features"


def is_offline(source: Source) -> bool:
    """Whether the source, else the environment, forbids the network."""
    if source.offline is not None:
        return source.offline
    return is_set("HF_HUB_OFFLINE") or is_set("TRANSFORMERS_OFFLINE")


def is_set(variable: str) -> bool:
    """Whether an environment variable says yes, in the words that the hub's client knows."""
    return os.environ.get(variable, "").upper() in _TRUE


def is_loopback(url: str) -> bool:
    """Whether an address is on this machine, where plain http is safe."""
    return (urlsplit(url).hostname or "") in _LOOPBACK


def origin(url: str) -> tuple[str, str, int]:
    """The scheme, host and port of an address: what a token belongs to."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, parts.hostname or "", port


def _own_endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or PUBLIC).rstrip("/")


def _own_cache(source: Source) -> Path:
    return (_path(source.cache_dir) if source.cache_dir is not None else _hf_home()) / "zoo"


def _hf_home() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return _path(os.environ.get("HF_HOME") or Path(caches) / "huggingface")


def _path(text: str | os.PathLike) -> Path:
    return Path(os.path.expandvars(text)).expanduser().absolute()


def _slug(url: str) -> str:
    """A folder name of its own for every endpoint: host, port and path."""
    _, host, port = origin(url)
    return re.sub(r"[^\w.-]+", "_", f"{host}_{port}{urlsplit(url).path}")
