"""Who may do what: users by their tokens, and addresses that carry their own permission."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode

from zoo.errors import ConfigError
from zoo.hub.errors import ForbiddenError, UnauthorizedError
from zoo.hub.objects import Repo

EVERY_ORG = "*"
LIFETIME = 6 * 3600  # seconds that a signed address is good for


@dataclass(frozen=True, kw_only=True)
class User:
    """Whom a token stands for. Members of a repo's owner may read it, private or gated.

    Attributes:
        name: of the user, who is also the owner of the repos `name/...`.
        orgs: the other owners that the user is a member of; `*` is all of them.
        role: what the token allows.
    """

    name: str
    orgs: tuple[str, ...] = ()
    role: Literal["read", "write"] = "read"

    def is_member(self, owner: str) -> bool:
        return owner == self.name or owner in self.orgs or EVERY_ORG in self.orgs


class Access:
    """The rules of one hub.

    Args:
        tokens: the user that each access token stands for; every other token is refused.
        members_only: nothing is shown to those who have no token.
    """

    def __init__(self, tokens: Mapping[str, User], *, members_only: bool = False) -> None:
        self._tokens = dict(tokens)
        self._members_only = members_only

    def user(self, header: str | None) -> User | None:
        """The user behind an Authorization header. Raises `UnauthorizedError`."""
        if header is None:
            if self._members_only:
                raise UnauthorizedError("This hub needs an access token, to read it, too.")
            return None
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or token not in self._tokens:
            # The client knows this sentence, and takes any other 401 for a missing repo.
            raise UnauthorizedError("Invalid credentials in Authorization header")
        return self._tokens[token]


def may_see(user: User | None, repo: Repo) -> bool:
    return not repo.private or (user is not None and user.is_member(repo.owner))


def check_may_write(user: User | None, owner: str) -> User:
    """The user, if they may change the repos of `owner`."""
    if user is None:
        raise UnauthorizedError("This needs an access token, and none was sent.")
    if user.role != "write":
        raise ForbiddenError(f"The token of {user.name!r} may read, and this needs one to write.")
    if not user.is_member(owner):
        raise ForbiddenError(f"{user.name!r} is no member of {owner!r}, which this belongs to.")
    return user


class Signer:
    """Makes addresses that allow one request each for a while, and checks them.

    Args:
        root: the hub's folder, where the secret lies that signs; made when it is missing.
    """

    def __init__(self, root: Path) -> None:
        self._key = secret(root / "secret").encode()

    def sign(self, method: str, path: str, **query: object) -> str:
        """`path` with `query`, a time at which it expires, and a signature."""
        values = {name: str(value) for name, value in query.items()}
        values["expires"] = str(int(time.time()) + LIFETIME)
        return f"{path}?{urlencode({**values, 'signature': self._of(method, path, values)})}"

    def check(self, method: str, path: str, query: Mapping[str, str]) -> None:
        """Raises `ForbiddenError` unless this was signed, as it is, and has not expired."""
        values = {name: value for name, value in query.items() if name != "signature"}
        expected = self._of(method, path, values)
        if not hmac.compare_digest(expected.encode(), query.get("signature", "").encode()):
            raise ForbiddenError("The signature of this address is wrong: ask for a new address.")
        if int(values["expires"]) < time.time():
            raise ForbiddenError("This address has expired: ask for a new one.")

    def _of(self, method: str, path: str, query: Mapping[str, str]) -> str:
        text = "\n".join([method, path, urlencode(sorted(query.items()))])
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()


def secret(file: Path, prefix: str = "") -> str:
    """The random text in a file that only its owner may read; made when it is missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(prefix + secrets.token_hex(20))
        os.link(draft, file)  # of several processes that come here at once, one wins
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return file.read_text().strip()


def read_tokens(file: Path) -> dict[str, User]:
    """The users of a TOML file: a table for each, with `token`, and `orgs` and `role` if wanted.

        [ada]
        token = "hf_..."
        orgs = ["acme"]
        role = "write"

    Raises:
        ConfigError: a file that is not like this, or a token that two users share.
    """
    users: dict[str, User] = {}
    try:
        tables = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"Cannot read the tokens in {file}: {error}") from None
    for name, table in tables.items():
        token, user = _user(file, name, table)
        if token in users:
            raise ConfigError(f"{file}: {name!r} and {users[token].name!r} have the same token.")
        users[token] = user
    return users


def _user(file: Path, name: str, table: object) -> tuple[str, User]:
    values = dict(table) if isinstance(table, dict) else {}
    token, orgs = values.pop("token", None), values.pop("orgs", [])
    role = values.pop("role", "read")
    names = isinstance(orgs, list) and all(isinstance(org, str) for org in orgs)
    if values or not names or not isinstance(token, str) or not token:
        raise ConfigError(
            f"{file}: [{name}] needs a token, and may have orgs (a list of names) and role; got "
            f"{table!r}."
        )
    if role not in ("read", "write"):
        raise ConfigError(f"{file}: [{name}] has role {role!r}; it is 'read' or 'write'.")
    return token, User(name=name, orgs=tuple(orgs), role=role)
