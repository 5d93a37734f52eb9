"""Safetensors that are only in the pull request of the hub's converter.

Many repos hold pickles alone on `main`, and beside it an open pull request in which the hub's own
bot has put the same weights as safetensors. transformers takes them from there, and so does zoo, on
conditions: anybody can open a pull request, so its author, title and state are looked at; and it
has to be of what `main` is now, so every file that counts has to be the same in both.

Source: transformers/safetensors_conversion.py (`previous_pr`, `get_conversion_pr_reference`), which
asks that the pull request's parent be the newest commit of `main`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain

from zoo.errors import AccessError, NotFoundError
from zoo.weights.client import Client, Listing
from zoo.weights.folder import is_weights
from zoo.weights.ledger import Ledger

AUTHOR = "SFconvertbot"
TITLE = "Adding `safetensors` variant of this model"
_IDLE = (".md", ".gitattributes", ".gitignore", "LICENSE", ".png", ".jpg")  # may differ


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A pull request of the converter, at the commit that it was found at.

    Attributes:
        revision: its name, `refs/pr/4`.
        commit: 40 hex digits.
    """

    revision: str
    commit: str


def find_conversion(
    client: Client,
    ledger: Ledger,
    commit: str,
    file: str | None,
    pull_request: str | None,
    *,
    refresh: bool,
) -> Conversion | None:
    """The pull request to take instead of a commit of `main`; None where it is not needed, or
    there is none. What was found once is remembered, and not asked for again.

    Args:
        commit: the newest of `main`.
        file: the weights that a card names.
        pull_request: the one that a card names, whose author was looked at when it was written.
        refresh: ask anew.
    """
    if _has_weights(ledger, commit, file):
        return None
    known = None if refresh else ledger.conversion_of(commit)
    if known:
        return Conversion(**known)
    if client.endpoint.offline:
        return None
    listing = ledger.listing(commit)
    if listing is None:
        listing = client.list_files(commit)
        ledger.remember(commit, listing)
        if _has_weights(ledger, commit, file):
            return None
    candidates = [pull_request] if pull_request else []
    for revision in chain(candidates, _converters(client)):
        try:
            pull = client.list_files(revision)
        except NotFoundError:  # a hub of another's making may have the repo without it
            continue
        if any(map(is_weights, pull.files)) and _is_of(listing, pull):
            found = Conversion(revision=revision, commit=pull.commit)
            ledger.remember(revision, pull)
            ledger.remember_conversion(commit, asdict(found))
            return found
    return None


def _has_weights(ledger: Ledger, commit: str, file: str | None) -> bool:
    """Whether a commit is known to have weights that zoo reads: by its list, or in the cache."""
    listing = ledger.listing(commit)
    snapshot = ledger.folder / "snapshots" / commit
    names = listing.files if listing else [path.name for path in snapshot.glob("*")]
    return file in names or any(map(is_weights, names))


def _converters(client: Client) -> Iterator[str]:
    """The open pull requests of the converter, the newest first. They are asked for only here."""
    try:
        pulls = client.pull_requests(AUTHOR)
    except (NotFoundError, AccessError):  # a hub that has none, or a repo where they are turned off
        return
    fit = [p for p in pulls if (p.author, p.title, p.status) == (AUTHOR, TITLE, "open")]
    for pull in sorted(fit, key=lambda pull: pull.number, reverse=True):
        yield f"refs/pr/{pull.number}"


def _is_of(main: Listing, pull: Listing) -> bool:
    """Whether what counts of `main` is the same in the pull request."""
    return all(
        name in pull.files and pull.files[name].etag == file.etag
        for name, file in main.files.items()
        if not name.endswith(_IDLE)
    )
