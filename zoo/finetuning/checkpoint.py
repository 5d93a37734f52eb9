"""What a run needs to go on after it was broken off: on the disk whole, or not at all."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import FileFormatError, OptionError
from zoo.weights.disk import disk_errors, replacing
from zoo.weights.files import open_checkpoint, save_checkpoint

FOLDER = "checkpoint"
LOGS = "logs"  # TensorBoard's
RUN = "run.json"
_STATE = "state.safetensors"

Arrays = Mapping[str, np.ndarray]
Row = dict[str, float]  # of the history: one epoch


@dataclass(frozen=True, kw_only=True)
class State:
    """Where a run is.

    Attributes:
        epoch: epochs that are done.
        history: what each of them gave.
        best: the number of the best one, from 0; None before the first.
        stopped: whether the run is to end before its last epoch.
    """

    epoch: int = 0
    history: tuple[Row, ...] = ()
    best: int | None = None
    stopped: bool = False

    @property
    def best_epoch(self) -> int:
        """The number of the best epoch, from 1."""
        assert self.best is not None
        return self.best + 1


@dataclass
class Store:
    """The checkpoints of a run: the last state, and the weights of the best epoch.

    Attributes:
        folder: of the run; None keeps the best weights in memory, and nothing else.
        identity: what makes it this run: settings, data, model. A checkpoint of another run is
            not taken.
        reasons: why the settings are so, for people.
    """

    folder: Path | None
    identity: Mapping[str, Any]
    reasons: Mapping[str, str] = field(default_factory=dict)
    _best: Arrays = field(default_factory=dict)

    def save(self, state: State, arrays: Arrays, best: Arrays | None) -> None:
        """Write what there is after an epoch; what was there before stays until that is done.

        Args:
            arrays: all that training goes on from.
            best: the weights of this epoch, where it is the best one.

        Raises:
            DiskError: the disk is full or cannot be written; the state before is intact.
        """
        if self.folder is None:
            self._best = self._best if best is None else dict(best)
            return
        folder = self.folder / FOLDER
        folder.mkdir(exist_ok=True)
        if best is not None:
            save_checkpoint(self._best_path(state), best)
        about = {"state": json.dumps(dataclasses.asdict(state))}
        save_checkpoint(folder / _STATE, arrays, about)
        for path in folder.glob("best-*.safetensors"):
            if path != self._best_path(state):
                path.unlink()

    def read(self) -> tuple[State, Arrays] | None:
        """The last state and its arrays; None where the run has not begun."""
        if self.folder is None or not (self.folder / FOLDER / _STATE).exists():
            return None
        checkpoint = open_checkpoint(self.folder / FOLDER / _STATE)
        try:
            data = json.loads(checkpoint.metadata["state"])
        except (KeyError, ValueError) as error:
            raise FileFormatError(
                f"{self.folder / FOLDER / _STATE} is no state of a fine-tuning run. Remove the "
                "folder, or begin anew with resume=False."
            ) from error
        return State(**data | {"history": tuple(data["history"])}), checkpoint

    def best(self, state: State) -> Arrays:
        """The weights of the best epoch, by name."""
        return self._best if self.folder is None else open_checkpoint(self._best_path(state))

    def _best_path(self, state: State) -> Path:
        assert self.folder is not None
        return self.folder / FOLDER / f"best-{state.best:04}.safetensors"

    # ------------------------------------------------------------ the run

    def open(self, resume: bool) -> bool:
        """Prepare the folder. Returns whether it has this very run, finished.

        Raises:
            OptionError: it has another run, or files that are no run's.
        """
        if self.folder is None:
            return False
        path = self.folder / RUN
        if path.exists() and resume:
            run = json.loads(path.read_text("utf-8"))
            self._check(run["identity"])
            return run["best_epoch"] is not None
        if not path.exists() and self.folder.is_dir() and any(self.folder.iterdir()):
            raise OptionError(
                f"{self.folder} has files that are of no fine-tuning run; nothing was touched. "
                "Take another output, or an empty folder."
            )
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._clear()
        shutil.rmtree(self.folder / LOGS, ignore_errors=True)
        self._note(None)
        return False

    def finish(self, best_epoch: int) -> None:
        """Note that the run is done, and remove its checkpoints."""
        self._note(best_epoch)
        self._clear()

    def best_epoch(self) -> int:
        """The number of the best epoch of a finished run, from 1."""
        assert self.folder is not None
        return json.loads((self.folder / RUN).read_text("utf-8"))["best_epoch"]

    def _note(self, best_epoch: int | None) -> None:
        if self.folder is not None:
            data = {"best_epoch": best_epoch, "identity": self.identity, "recipe": self.reasons}
            with replacing(self.folder / RUN) as path:
                path.write_text(json.dumps(data, indent=1) + "\n", "utf-8")

    def _clear(self) -> None:
        if self.folder is not None:
            shutil.rmtree(self.folder / FOLDER, ignore_errors=True)

    def _check(self, found: Mapping[str, Any]) -> None:
        ours, theirs = _flat(json.loads(json.dumps(self.identity))), _flat(found)
        changed = [k for k in {**theirs, **ours} if ours.get(k) != theirs.get(k)]
        if changed:
            said = (
                _HASHED.get(k) or f"{k} was {theirs.get(k)!r}, is {ours.get(k)!r}" for k in changed
            )
            raise OptionError(
                f"{self.folder} has a run that was made otherwise: {'; '.join(said)}. Take another "
                "output to keep it, or begin anew there (resume=False, --restart)."
            )


_HASHED = {
    "data.train": "the training examples are others",
    "data.validation": "the validation examples are others",
    "model.weights": "the model has other weights",
}


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat
