"""What the studies of MVLPT share: experts trained once a study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pitune.backbones import Backbone
from pitune.experts import Expert, ExpertPool, get_method
from pitune.studies.shared import open_task
from pitune.tasks import Task
from pitune.training import Data, Member, TrainingSettings, fit_expert, fit_multitask, multitask_name, sample

ROWS = "rows.jsonl"
RESULTS = "results.json"
SOURCE_VALIDATION = 64  # of a source's examples, to stop by
ADAPTATION = TrainingSettings(steps=60, learning_rate=2e-2, evaluations=4)
SOURCE = TrainingSettings(steps=120, learning_rate=2e-2, evaluations=4)


def source_data(task: Task, shots: int | None) -> Data:
    """Return what a source learns from, always the same draw, with few examples to stop by."""
    drawn = sample(task, shots, 0)
    return Data(drawn.train, drawn.validation[:SOURCE_VALIDATION], shots, 0)


def source_expert(
    backbone: Backbone,
    tasks: Sequence[str],
    method: str,
    shots: int | None,
    settings: TrainingSettings,
    out: Path,
    **more: Any,
) -> Expert:
    """Return the expert of some source tasks, from the study's folder or by training it there."""
    members = [Member(open_task(task), source_data(open_task(task), shots)) for task in tasks]
    pool, name = ExpertPool(out / "sources"), multitask_name(members, method, 0)
    if name not in pool:
        expert, _ = fit_multitask(backbone, members, method, settings=settings, run=out / "runs" / name, **more)
        pool.add(expert, replace=True)
    return pool.get(name)


def vectors_of(method: str, length: int | None) -> dict[str, int]:
    """Return the setting for prompts of so many vectors, for the kinds that have it."""
    return {"length": length} if length is not None and "length" in get_method(method).config.model_fields else {}


def adapted(
    backbone: Backbone,
    task: Task,
    data: Data,
    method: str,
    settings: TrainingSettings,
    start: Expert | None,
    run: Path,
    **config: Any,
) -> Expert:
    """Return an expert of the target, from the common starting values or from a source."""
    return fit_expert(backbone, task, data, method, settings, start, run, **config)[0]
