"""A library that is not there is one line that says how to get it."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pitune.errors import InputError
from pitune.extras import need

ROOT = Path(__file__).parents[1]


def test_a_library_that_is_there_is_returned() -> None:
    assert need("math", "metrics") is math


def test_a_missing_library_names_the_extra() -> None:
    with pytest.raises(InputError, match=r'needs nowhere, .* pip install "pitune\[metrics\]"$'):
        need("nowhere.inside", "metrics")


def test_a_blocked_library_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wave", None)
    with pytest.raises(InputError, match="needs wave"):
        need("wave", "metrics")


def test_a_fault_inside_a_library_stays_what_it_is() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"xml\.nothing"):
        need("xml.nothing", "metrics")


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process finds that has no library of any extra."""
    libraries = (
        "sklearn",
        "scipy",
        "networkx",
        "jinja2",
        "markupsafe",
        "datasets",
        "pandas",
        "gguf",
        "bitsandbytes",
        "ray",
        "tensorboard",
    )
    command = [str(ROOT / "tests" / "without_extras.py"), str(tmp_path_factory.mktemp("without")), ",".join(libraries)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src")))}
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_fit_tune_eval_and_predict_need_no_extra(without: dict[str, Any]) -> None:
    assert without["works"] == {
        "fit": ["mood-lora-2-0", "place-lora-2-0"],
        "tune": "pi-taste-lora-2-0",
        "neighbours": 2,
        "eval": "accuracy",
        "predict": 2,
        "graph": 2,
    }


def test_what_needs_an_extra_says_in_one_line_how_to_get_it(without: dict[str, Any]) -> None:
    assert {name.partition(":")[0] for name in without["said"]} == extras()
    for name, line in without["said"].items():
        extra = name.partition(":")[0]
        assert re.fullmatch(rf'this needs \w+, which is not installed; .* pip install "pitune\[{extra}\]"', line), name


def extras() -> set[str]:
    """Return the extras that a user may ask for; the others are for who works on the package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return set(project["optional-dependencies"]) - {"dev", "docs"}


def test_the_extras_are_those_that_messages_name() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")]
    named = {extra for source in sources for extra in re.findall(r'\bneed\((?:library|"[\w.]+"), "(\w+)"\)', source)}
    assert named == extras()
