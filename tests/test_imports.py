"""Imports run one way along the pipeline, and nothing heavy loads before it is used."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import pitune

PACKAGE = Path(pitune.__file__).parent
PIPELINE = (
    "tasks",
    "backbones",
    "experts",
    "training",
    "prediction",
    "interpolation",
    "studies",
    "reports",
)
BELOW_ALL = ("compat", "errors", "extras", "files", "registry", "defaults", "archives", "processes")
ABOVE_ALL = ("__init__", "api", "cli", "commands", "pocket", "smollm2")
HEAVY = ("torch", "transformers", "peft", "numpy", "pydantic")
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(module: str) -> str:
    """Return the folder or root module under `pitune` that a dotted name lies in."""
    first = module.split(".")[1] if "." in module else "__init__"
    is_module = (PACKAGE / first).is_dir() or (PACKAGE / f"{first}.py").exists()
    return first if is_module else "__init__"


def imported(file: Path) -> set[str]:
    """Return the rooms of the package that a module imports, at its top or anywhere inside."""
    package = ["pitune", *file.relative_to(PACKAGE).parent.parts]
    names = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names += [f"{base}.{name.name}" for name in node.names]
    return {room(name) for name in names if name.split(".")[0] == "pitune"}


@pytest.mark.parametrize("file", MODULES, ids=[str(file.relative_to(PACKAGE)) for file in MODULES])
def test_imports_run_one_way(file: Path) -> None:
    own = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert own in (*BELOW_ALL, *PIPELINE, *ABOVE_ALL), f"{own} has no place along the pipeline; give it one here"
    if own in ABOVE_ALL:
        return
    earlier = () if own in BELOW_ALL else PIPELINE[: PIPELINE.index(own) + 1]
    assert imported(file) <= {*BELOW_ALL, *earlier}


@pytest.mark.parametrize("module", ["pitune", "pitune.cli"])
def test_nothing_heavy_loads_before_it_is_used(module: str) -> None:
    code = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", sorted(pitune._HOMES))
def test_public_names_load(name: str) -> None:
    assert getattr(pitune, name) is not None
    assert name in dir(pitune)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pitune.nothing  # noqa: B018


def test_the_version_is_that_of_the_package() -> None:
    assert pitune.__version__ == version("pitune")


def test_the_public_names_are_those_that_type_checkers_see() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {name.asname: node.module for node in block.body if isinstance(node, ast.ImportFrom) for name in node.names}
    assert seen == pitune._HOMES
