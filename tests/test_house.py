"""The house stays as it is laid out: no circle among files, and the plugin's name in one place of the core."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import pitune

PACKAGE = Path(pitune.__file__).parent


def name_of(file: Path) -> str:
    """Return the dotted name of a module of the package."""
    parts = ("pitune", *file.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def imports(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports that run, those of functions among them: not what type checkers alone see."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from imports(child)


def imported(name: str) -> set[str]:
    """Return the modules of the package that a module names in its imports."""
    found = set()
    for node in imports(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        else:
            assert node.level == 0, f"{name}: imports are absolute"
            members = {f"{node.module}.{one.name}" for one in node.names}
            found |= {one if one in MODULES else str(node.module) for one in members}
    return found & MODULES.keys() - {name}


def test_no_circle_among_files() -> None:
    graph = TopologicalSorter({name: imported(name) for name in MODULES})
    try:
        graph.prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' ← '.join(error.args[1])}")


def test_the_core_names_its_default_backbone_once() -> None:
    found = [
        f"{file.relative_to(PACKAGE)}: {line.strip()}"
        for file in MODULES.values()
        if "pocket" not in file.relative_to(PACKAGE).parts
        for line in file.read_text(encoding="utf-8").splitlines()
        if "pocket" in line.lower()
    ]
    assert found == ['defaults.py: BACKBONE = "pocket"']


def test_commands_quieten_libraries_before_anything_imports_one() -> None:
    asked = [
        (file.name, function)
        for file in sorted((PACKAGE / "commands").glob("*.py"))
        for function in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef) and any(_calls_quieten(one) for one in function.body)
    ]
    assert len(asked) > 20
    late = [
        f"{file}: {function.name}"
        for file, function in asked
        if not _calls_quieten(function.body[ast.get_docstring(function) is not None])
    ]
    assert not late


def _calls_quieten(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and ast.unparse(statement) == "quieten()"
