"""The documentation strings of Python's standard library, which scripts take as texts."""

from __future__ import annotations

import ast
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

_NOT_READ = ("site-packages/", "test/", "lib2to3/tests", "idlelib/idle_test")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def documentation_strings() -> Iterator[tuple[str, str]]:
    """Pairs of module (`email/parser`) and text, module by module, each text cleaned of indents."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).with_suffix("").as_posix()
        if not name.startswith(_NOT_READ):
            for text in _of_file(path):
                yield name, text


def _of_file(path: Path) -> Iterator[str]:
    """The documentation strings of a file, in order; none of a file that does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and (text := ast.get_docstring(node)):
            yield text
