"""Studies load tasks and backbone once a process; tests want their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from pitune.interpolation import TuneSettings
from pitune.studies import ComparePlan
from pitune.studies.predictors import expert_of, source_of
from pitune.studies.study import load_once, open_task
from pitune.training import TrainingSettings

CACHED = (load_once, open_task, expert_of, source_of)


@pytest.fixture(autouse=True)
def _fresh_caches() -> Iterator[None]:
    for cached in CACHED:
        cached.cache_clear()
    yield
    for cached in CACHED:
        cached.cache_clear()


def small_plan(
    paths: Mapping[str, Path], names: Sequence[str] = ("mood", "taste", "place", "colour"), *, steps: int = 4
) -> ComparePlan:
    """Plan a comparison of tiny tasks that is over in seconds: one draw of two shots, and few steps."""
    training = TrainingSettings(steps=steps, batch_size=16, learning_rate=2e-2, evaluations=2)
    tasks = tuple(str(paths[name]) for name in names)
    few = ComparePlan(tasks=tasks, shots=(2,), seeds=1, test=6, validation=6)
    return few.but(source_training=training, tuning=TuneSettings(training=training))
