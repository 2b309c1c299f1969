"""Studies load tasks and backbone once a process; tests want their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pitune.studies import shared as _shared


@pytest.fixture(autouse=True)
def _fresh_caches() -> Iterator[None]:
    for cached in (_shared.open_backbone, _shared.open_task):
        cached.cache_clear()
    yield
    for cached in (_shared.open_backbone, _shared.open_task):
        cached.cache_clear()
