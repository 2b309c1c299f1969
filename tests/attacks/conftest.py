"""Counts what was tried: a test is one input of the kind that its file is named after, unless it says how many."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath

import pytest

TRIED: Counter[str] = Counter()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    path = PurePosixPath(report.nodeid.partition("::")[0])
    if report.when == "call" and report.passed and path.parent.name == "attacks":
        TRIED[path.stem.removeprefix("test_")] += int(str(dict(report.user_properties).get("inputs", 1)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if TRIED:
        by_kind = ", ".join(f"{number} of {kind}" for kind, number in sorted(TRIED.items()))
        terminalreporter.write_line(f"attacks: {TRIED.total()} inputs read or refused as they should be: {by_kind}")
