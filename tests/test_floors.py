"""The floors of the design: imports go downward only, and the lower floors stay light."""

import ast
import graphlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import zoo

ROOT = Path(zoo.__file__).parent
# the longest prefix of a module's name tells its floor
FLOORS = {
    "zoo.errors": 0,
    "zoo._lazy": 0,
    "zoo.extras": 0,
    "zoo._keras_hook": 0,
    "zoo.vectors": 0,
    "zoo.options": 0,
    "zoo.front_matter": 1,
    "zoo.typed": 0,
    "zoo.parsing": 0,
    "zoo.weights": 1,
    "zoo.preprocessing": 1,
    "zoo.registry": 2,
    "zoo.formats": 2,
    "zoo.layers": 3,
    "zoo.architectures": 3,
    "zoo.tasks": 4,
    "zoo.model": 4,
    "zoo.record": 4,
    "zoo.compiling": 4,
    "zoo.loading": 4,
    "zoo.saving": 4,
    "zoo.figures": 4,
    "zoo.finetuning": 5,
    "zoo.hub": 5,
    "zoo.publishing": 5,
    "zoo": 6,
    "zoo.cli": 7,
    "zoo.__main__": 7,
}
# pairs of one floor that must not know each other, or know only one way
FORBIDDEN = [
    ("zoo.weights", "zoo.preprocessing"),
    ("zoo.preprocessing", "zoo.weights"),
    ("zoo.layers", "zoo.architectures"),
]
ON_TENSORFLOW = {f"zoo.preprocessing.{name}" for name in ("augment", "graph", "training")}
HEAVY = {"tensorflow", "keras", "torch", "timm", "transformers", "torchvision"}


def modules() -> dict[str, Path]:
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = ("zoo", *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def room(module: str) -> str:
    """The entry of `FLOORS` that a module belongs to."""
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        if (prefix := ".".join(parts[:end])) in FLOORS and (prefix != "zoo" or module == "zoo"):
            return prefix
    raise AssertionError(f"{module} stands on no floor: add it to FLOORS")


def imports(path: Path, *, top_level: bool = False) -> set[str]:
    """Modules that a file imports, anywhere or at import time; not those for type checkers."""
    names: set[str] = set()
    stack: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if top_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {n if n in MODULES else node.module for n in inside}
        stack.extend(ast.iter_child_nodes(node))
    return names


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_downward(module):
    here = room(module)
    for name in imports(MODULES[module]):
        if name != "zoo" and not name.startswith("zoo."):
            continue
        there = room(name if name in MODULES else name.rpartition(".")[0])
        if there == "zoo" and FLOORS[here] < 6:
            continue  # the package itself: nothing but lazy names
        assert FLOORS[there] <= FLOORS[here], f"{module} imports {name}, which is above it"
        assert (here, there) not in FORBIDDEN, f"{module} must not know {name}"


def package(module: str) -> str:
    """The package that a module is in, itself if it is one; a file of `zoo` stands for itself."""
    parent = module.rpartition(".")[0]
    return module if MODULES[module].name == "__init__.py" or parent == "zoo" else parent


@pytest.mark.parametrize("unit", [str, package], ids=["files", "packages"])
def test_no_circle_of_imports(unit):
    graph: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        others = {unit(name) for name in imports(path) & set(MODULES)}
        graph.setdefault(unit(module), set()).update(others - {unit(module)})
    graphlib.TopologicalSorter(graph).prepare()  # raises with the names of the circle


@pytest.mark.parametrize("module", sorted(m for m in MODULES if FLOORS[room(m)] <= 2))
def test_lower_floors_import_no_framework(module):
    if module in ON_TENSORFLOW:
        pytest.skip("TensorFlow ops, which are imported only when they are used")
    heavy = {n.partition(".")[0] for n in imports(MODULES[module], top_level=True)} & HEAVY
    assert not heavy


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_reference_library_in_the_package(module):
    used = {name.partition(".")[0] for name in imports(MODULES[module])}
    assert not used & (HEAVY - {"tensorflow", "keras"})


def test_listing_imports_no_framework():
    code = (
        "import sys, zoo\n"
        "assert zoo.list_models('resnet50*') and zoo.info('resnet50').name\n"
        "print(sorted({'tensorflow', 'keras', 'numpy', 'PIL', 'requests'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    assert run.stdout.strip() == "[]"
