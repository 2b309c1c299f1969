"""A library that is not there is one line that says how to get it."""

from __future__ import annotations

import math
import sys

import pytest

from pitune.errors import InputError
from pitune.extras import need


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
