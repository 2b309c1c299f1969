"""A short trial says how long a run will take, and leaves nothing behind."""

from __future__ import annotations

from time import perf_counter

import pitune
from pitune.pocket.backbone import Pocket
from pitune.tasks import Task, few_shot
from pitune.training import expected_time, fit_expert


def test_the_expected_time_is_of_the_order_of_the_true_one(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> None:
    draw = few_shot(tiny_tasks["taste"], 4)
    settings = pitune.TrainingSettings(steps=40, patience=99)
    expected_time(tiny_backbone, draw, folds=0, settings=settings)  # whatever is slow once
    expected = expected_time(tiny_backbone, draw, folds=0, settings=settings)
    start = perf_counter()
    before, _ = fit_expert(tiny_backbone, draw, settings=settings)
    true = perf_counter() - start
    assert true / 8 < expected.seconds < true * 8  # machines are busy
    assert " here: 40 steps, by a trial of " in expected.line
    usual = expected_time(tiny_backbone, draw)
    assert (usual.runs, usual.steps) == (3, 60)
    assert " here: 3 runs of 60 steps, by a trial of " in usual.line
    again, _ = fit_expert(tiny_backbone, draw, settings=settings)
    assert all(before.tensors[name].equal(value) for name, value in again.tensors.items())
