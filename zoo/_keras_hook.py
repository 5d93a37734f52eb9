"""Registers zoo's classes with Keras as soon as Keras is imported.

`keras.models.load_model` finds classes by registered name alone, so a process that imports zoo,
then Keras, and reloads a `.keras` file needs them registered though nothing of zoo was used yet.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # importlib.abc takes 20 ms to import
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class _Loader:
    """Keras's own loader, with the registration after it."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        if _FINDER in sys.meta_path:
            sys.meta_path.remove(_FINDER)
        importlib.import_module("zoo.model")
        importlib.import_module("zoo.finetuning.optimizer")
        families = importlib.import_module("zoo.architectures")
        for family in pkgutil.iter_modules(families.__path__, "zoo.architectures."):
            importlib.import_module(family.name)


class _Finder:
    """Finds `keras` as the finders behind it would, and wraps its loader."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "keras":
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                loader: Any = _Loader(spec.loader)
                spec.loader = loader
                return spec  # TensorFlow asks for the spec alone, at times: no import may follow
        return None


_FINDER = _Finder()


def install() -> None:
    """Put the hook in place; where Keras is imported already, zoo's classes follow on first use."""
    if "keras" not in sys.modules and _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
