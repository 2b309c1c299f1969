"""Studies load tasks and backbone once a process; tests want their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pitune.studies.predictors import expert_of, source_of
from pitune.studies.study import load_once, open_task

CACHED = (load_once, open_task, expert_of, source_of)


@pytest.fixture(autouse=True)
def _fresh_caches() -> Iterator[None]:
    for cached in CACHED:
        cached.cache_clear()
    yield
    for cached in CACHED:
        cached.cache_clear()
