"""Private names of other libraries stand in one file, and the installed ones have them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

import pitune
from pitune.compat import PRIVATE_NAMES, PrivateName, missing

PACKAGE = Path(pitune.__file__).parent
FINE = {"os._exit", "_typeshed._typeshed"}  # the one is documented, the other for type checkers
FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("name", PRIVATE_NAMES, ids=[f"{one.owner}.{one.name}" for one in PRIVATE_NAMES])
def test_the_installed_libraries_have_the_private_names_that_are_used(name: PrivateName) -> None:
    assert missing([name]) == []


def test_a_name_that_went_is_told_with_the_release_that_lost_it() -> None:
    gone = PrivateName("torch", "torch.nn.Module", "_nothing", "2.12.0")
    assert missing([gone]) == [f"torch {version('torch')} has no torch.nn.Module._nothing; it was last seen in 2.12.0"]


def private(file: Path) -> Iterator[str]:
    """Yield what a module names with a leading underscore that is not its own object's."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            if ast.unparse(node.value) not in ("self", "cls", "super()"):
                yield ast.unparse(node)
        elif isinstance(node, ast.ImportFrom) and not str(node.module).startswith("pitune"):
            names = [*str(node.module).split("."), *(one.name for one in node.names)]
            yield from (f"{node.module}.{name}" for name in names if name.startswith("_") and name != "__future__")
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and str(name.value).startswith("_"):
                yield ast.unparse(node)


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(PACKAGE)) for file in FILES])
def test_no_other_file_uses_private_names(file: Path) -> None:
    if file.name != "compat.py":
        assert set(private(file)) <= FINE
