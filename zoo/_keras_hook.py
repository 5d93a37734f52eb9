"""Lets Keras find zoo's classes by their registered names, whatever was imported first.

Keras reads `zoo>Conv2D` in a `.keras` file and asks its table of registered classes, which the
module of the class must have entered: Keras imports no module but its own. So a name that is not
there is asked for here, and the one module that registers it is imported then. Until then nothing
is: the hook costs the same however many families there are.

What it hooks into is private to Keras, and there are two places. `get_registered_object` is the
look-up itself. `deserialize_keras_object` as called by the readers of one kind of object, such as
`keras.optimizers.deserialize`, reads the table without it. Keras's own answer comes first, always.
"""

from __future__ import annotations

import functools
import importlib
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


# ---------------------------------------------------------------- names to modules


@functools.cache
def _registering_modules() -> dict[str, str]:
    """Name of each class that zoo registers -> its module: a table that `make cards` writes."""
    import json
    from pathlib import Path

    path = Path(__file__).parent / "registry" / "index" / "classes.json"
    return json.loads(path.read_text("utf-8"))


@functools.cache
def _import_class(name: str) -> None:
    """Import what registers a class under a name: a module of zoo, or of another package's family.

    Args:
        name: as registered, `package>class`.
    """
    package, _, class_name = name.partition(">")
    if package == "zoo" and class_name in _registering_modules():
        importlib.import_module(_registering_modules()[class_name])
    else:
        registry = importlib.import_module("zoo.registry.registry")
        registry.import_third_parties(class_name)


# ---------------------------------------------------------------- what Keras asks


@functools.cache
def _extend() -> None:
    """Have the look-ups of Keras, which is imported, ask here for what they do not find."""
    registration: Any = importlib.import_module("keras.src.saving.object_registration")
    reading: Any = importlib.import_module("keras.src.saving.serialization_lib")
    public: list[Any] = [importlib.import_module(f"keras.{name}") for name in ("saving", "utils")]
    find, deserialize = registration.get_registered_object, reading.deserialize_keras_object

    @functools.wraps(find)
    def get_registered_object(name: Any, *args: Any, **kwargs: Any) -> Any:
        found = find(name, *args, **kwargs)
        if found is None and isinstance(name, str) and ">" in name:
            _import_class(name)
            found = find(name, *args, **kwargs)
        return found

    @functools.wraps(deserialize)
    def deserialize_keras_object(config: Any, *args: Any, **kwargs: Any) -> Any:
        name = config.get("registered_name") if isinstance(config, dict) else None
        if isinstance(name, str) and name.startswith("zoo>"):
            get_registered_object(name)
        return deserialize(config, *args, **kwargs)

    reading.deserialize_keras_object = deserialize_keras_object
    for module in (registration, *public):
        module.get_registered_object = get_registered_object


# ---------------------------------------------------------------- when Keras is imported


class _Finder:
    """Finds `keras` as the finders behind it would; its own loader has `_imported` after it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "keras":
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                loader: Any = spec.loader
                loader.exec_module = functools.partial(_execute, loader.exec_module)
                return spec  # TensorFlow asks for the spec alone, at times: no import may follow
        return None


_FINDER = _Finder()


def _execute(exec_module: Callable[[ModuleType], None], module: ModuleType) -> None:
    exec_module(module)
    _imported()


def _imported() -> None:
    with suppress(ValueError):  # it is not there any more
        sys.meta_path.remove(_FINDER)
    _extend()


def install() -> None:
    """Put the hook in place: now, or as soon as Keras is imported."""
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    if "keras" in sys.modules:
        importlib.import_module("keras")  # another thread may be at it: this waits for its end
        _imported()
