"""A library that is not there is one line that says how to get it."""

from __future__ import annotations

import math
import re
import sys
import tomllib
from pathlib import Path

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


def test_every_extra_that_a_message_names_can_be_installed() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")]
    named = {extra for source in sources for extra in re.findall(r'\bneed\("[\w.]+", "(\w+)"\)', source)}
    assert named
    assert named <= set(extras)
