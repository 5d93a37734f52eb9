"""Who may do what: users by their tokens, and addresses that carry their own permission."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

from zoo.errors import ConfigError, did_you_mean
from zoo.hub.errors import ForbiddenError, GatedRepoError, UnauthorizedError
from zoo.hub.objects import Repo

EVERY_ORG = "*"
LIFETIME = 6 * 3600  # seconds that a signed address is good for
_TOKEN = re.compile("[!-~]+")  # what an Authorization header can carry


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

    Raises:
        ConfigError: a token that no request can carry.
    """

    def __init__(self, tokens: Mapping[str, User], *, members_only: bool = False) -> None:
        for token, user in tokens.items():
            check_token(token, f"The token of {user.name!r}")
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


def check_token(token: str, what: str) -> None:
    """Raises `ConfigError`, which does not show it, unless a request can carry the token."""
    if not _TOKEN.fullmatch(token):
        raise ConfigError(
            f"{what} has a character that no token has, such as a line break or a space; letters, "
            "digits and signs of ASCII were expected."
        )


def may_see(user: User | None, repo: Repo) -> bool:
    """Whether the repo is there for the user: what it is, and what its files are called."""
    return not repo.private or (user is not None and user.is_member(repo.owner))


def may_read(user: User | None, repo: Repo) -> bool:
    """Whether the user may have the contents of the repo's files."""
    is_open = not (repo.private or repo.gated)
    return is_open or (user is not None and user.is_member(repo.owner))


def check_may_read(user: User | None, repo: Repo) -> None:
    """Raises `GatedRepoError` where a repo that is to be seen is not to be read."""
    if not may_read(user, repo):
        raise GatedRepoError(
            f"Access to model {repo.id} is restricted to the members of {repo.owner}.",
            signed_in=user is not None,
        )


def check_writer(user: User | None) -> User:
    """The user, if their token may write at all."""
    if user is None:
        raise UnauthorizedError("This needs an access token, and none was sent.")
    if user.role != "write":
        raise ForbiddenError(f"The token of {user.name!r} may read, and this needs one to write.")
    return user


def check_may_write(user: User | None, owner: str) -> User:
    """The user, if they may change the repos of `owner`."""
    user = check_writer(user)
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

    def check_address(self, method: str, address: str) -> tuple[str, dict[str, str]]:
        """The path and the query of a signed address that somebody has shown, checked."""
        try:
            parts = urlsplit(address)
            query = dict(parse_qsl(parts.query))
        except ValueError:
            raise ForbiddenError("That is no address that this hub has signed.") from None
        self.check(method, parts.path, query)
        return parts.path, query

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
        # What stands there is not shown: it may be the token, under a misspelt name.
        raise ConfigError(
            f"{file}: [{name}] needs a token (a text), and may have orgs (a list of names) and "
            f"role, and nothing else.{_misspelt(values)}"
        )
    check_token(token, f"{file}: the token of [{name}]")
    if role not in ("read", "write"):
        raise ConfigError(f"{file}: [{name}] has role {role!r}; it is 'read' or 'write'.")
    return token, User(name=name, orgs=tuple(orgs), role=role)


def _misspelt(names: Iterable[str]) -> str:
    return "".join(did_you_mean(name, ("token", "orgs", "role")) for name in names)
