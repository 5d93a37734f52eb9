"""Publishing, from a model to a commit: stage, look, examine, send."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import HandleError, OptionError, PublishError
from zoo.loading.pulling import fetch
from zoo.publishing.hub import HubTarget
from zoo.publishing.report import GateReport
from zoo.publishing.target import FolderTarget, Sent, Target
from zoo.weights.files import MAX_SHARD_SIZE
from zoo.weights.handle import Source, parse_handle

if TYPE_CHECKING:
    from zoo.model import Model


@dataclass(frozen=True, kw_only=True)
class Published:
    """What a publication left.

    Attributes:
        repo: `org/name`, or the folder.
        commit: on the hub, the one that was there if nothing had to be changed or after a dry run;
            None for a folder, and for a repo that is not there.
        url: where to look at it: the repo, the pull request, the folder; None after a dry run.
        report: what the gate found.
    """

    repo: str
    commit: str | None
    url: str | None
    report: GateReport


def publish(
    model_or_folder: Model | str | os.PathLike,
    target: str | os.PathLike,
    *,
    private: bool = False,
    revision: str = "main",
    message: str | None = None,
    endpoint: str | None = None,
    token: str | bool | None = None,
    dry_run: bool = False,
    tag: str | None = None,
    create_pr: bool = False,
    prune: bool = False,
    force: bool = False,
    untrained: bool = False,
    max_shard_size: int | str = MAX_SHARD_SIZE,
    license: str | None = None,
    datasets: Sequence[str] = (),
    metrics: Mapping[str, Mapping[str, float]] | None = None,
    history: Any = None,
    show: Callable[[GateReport], object] | None = None,
) -> Published:
    """Publish a model on a hub or into a folder, in the layout that it came in.

    Before anything is sent a gate checks what would be: the files give the model back, hold no
    code, no NaN and no infinity, the licence is known, and nothing else is overwritten. The files
    appear in one commit, or not at all, and are compared with what the hub then says it has.

    Args:
        model_or_folder: from `zoo.load`, or what it takes. A folder, as `zoo.save` writes it, is
            published as it is.
        target: `org/name`, or a folder: a `Path`, or a text that starts with `./`, `../`, `/`, `~`.
        private: makes a new repo private, and insists that one that is there be so.
        revision: branch for the commit; a new one starts where `main` is.
        message: of the commit.
        endpoint, token: the hub; see `Source`.
        dry_run: stop after the gate; nothing is written anywhere.
        tag: name to give to the commit.
        create_pr: propose the commit in a pull request, and leave the branch as it is.
        prune: remove files of the target that are not published.
        force: replace a model of another architecture, or a README.md that was written by hand.
        untrained: publish weights that were never trained, too; the page and a tag say so.
        max_shard_size: see `zoo.save`.
        license: identifier, such as `apache-2.0`; None is the card's, or the folder's.
        datasets: ids or names of what the model was trained on.
        metrics: figures by data set, then name: `{"digits held-out": {"accuracy": 0.995}}`.
        history: of the training: what Keras's `fit` returns, or values per epoch by name.
        show: is given the gate's report before anything is sent.

    Raises:
        PublishError: the gate was not passed; nothing was sent. Its `report` says why.
        UploadError: the hub cannot be reached, refuses, or has changed meanwhile; what was there
            is unharmed.
        AccessError: no token, or one that may not write there.
        IntegrityError: what arrived is not what was sent.
        OptionError, HandleError: arguments that make no sense together.
        ZooError: what `zoo.load` raises for the folder.
    """
    from zoo.publishing.gate import examine  # which imports TensorFlow
    from zoo.publishing.staging import stage
    from zoo.saving.readme import Facts

    facts = Facts(
        license=license,
        datasets=(datasets,) if isinstance(datasets, str) else tuple(datasets),
        metrics=metrics or {},
        history=getattr(history, "history", history) or {},
    )
    where = check(
        model_or_folder,
        target,
        private=private,
        revision=revision,
        message=message,
        endpoint=endpoint,
        token=token,
        dry_run=dry_run,
        tag=tag,
        create_pr=create_pr,
    )
    with tempfile.TemporaryDirectory(prefix="zoo-publish-") as folder:
        staged = stage(model_or_folder, Path(folder), where.address, facts, max_shard_size)
        there = where.look()
        report = examine(
            staged, where.name, there, prune=prune, force=force, allow_untrained=untrained
        )
        if show:
            show(report)
        if not report.passed:
            raise PublishError(_refusal(report), report)
        sent = Sent(commit=there.commit)
        if not dry_run:
            removed = [file.name for file in report.files if file.state == "removed"]
            sent = where.send(list(staged.files.values()), removed, there)
    return Published(repo=where.address, commit=sent.commit, url=sent.url, report=report)


def check(
    model_or_folder: Model | str | os.PathLike,
    target: str | os.PathLike,
    *,
    endpoint: str | None = None,
    token: str | bool | None = None,
    dry_run: bool = False,
    **options: Any,
) -> Target:
    """Refuse what can be refused before a model is loaded: names, options, the right to write.

    Args:
        as for `publish`; of its other options, those of a target count.

    Raises:
        ZooError: as `publish`.
    """
    given = {name: options[name] for name in _OF_TARGETS if options.get(name)}
    if given.get("revision") == "main":
        del given["revision"]
    where = _target(target, Source(endpoint=endpoint, token=token), given)
    if isinstance(model_or_folder, str | os.PathLike):
        fetch(model_or_folder, Source())
    if not dry_run:
        where.check_may_write()
    return where


_OF_TARGETS = ("revision", "private", "message", "create_pr", "tag")


def _target(target: str | os.PathLike, source: Source, options: Mapping[str, Any]) -> Target:
    """The hub repo or folder that a text or path names, with the options of hubs."""
    handle = parse_handle(target, lambda text: False)
    if handle.kind == "path":
        of_hubs = {"endpoint": source.endpoint, "token": source.token, **options}
        if names := [name for name, value in of_hubs.items() if value]:
            raise OptionError(
                f"{target} is a folder, which takes no {', '.join(names)}: these are for hubs. "
                "A repo on a hub is written 'org/name'."
            )
        return FolderTarget(Path(handle.name))
    if handle.kind != "hub":
        raise HandleError(
            f"{str(target)!r} is no place to publish to; expected a repo, 'org/name', or a folder "
            "that starts with './', '../', '/' or '~'."
        )
    branch = options.get("revision") or handle.revision or "main"
    if re.fullmatch("[0-9a-f]{40}", branch):
        raise OptionError(f"{branch} is a commit, which never changes; name a branch.")
    if options.get("create_pr") and options.get("tag"):
        raise OptionError("A pull request gets no tag: tag the commit once it is merged.")
    of_repo = {name: value for name, value in options.items() if name != "revision"}
    return HubTarget(handle.name, branch, source, **of_repo)


def _refusal(report: GateReport) -> str:
    wrong = "\n".join(f"- {check.name}: {check.found}" for check in report.failures)
    return f"Not published to {report.target}; nothing was sent.\n{wrong}"
