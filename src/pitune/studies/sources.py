"""The experts that studies start from: one of each task in a pool, and those of several tasks at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pitune.backbones import Backbone
from pitune.experts import KINDS, Expert, ExpertPool, attached, make_settings
from pitune.prediction import embed
from pitune.studies.study import open_task
from pitune.tasks import Draw, Task, few_shot
from pitune.training import TrainingSettings, fit_expert, fit_multitask, multitask_name

_VALIDATION = 64  # of a source of several tasks, to stop by


def source_draw(task: Task, shots: int | None = None, validation: int = _VALIDATION) -> Draw:
    """Return what a source learns from, always the same draw, with at most so many examples to stop by."""
    draw = few_shot(task, shots, 0)
    return replace(draw, validation=draw.validation[:validation])


def lacking(tasks: Sequence[str], pool: ExpertPool, settings: TrainingSettings) -> list[str]:
    """Return the tasks of which a pool has no data-rich expert trained in this way."""

    def is_there(task: Task) -> bool:
        name = Draw(task, ()).expert_name("lora")
        return name in pool and pool.get(name).card.hyperparameters.items() >= settings.model_dump().items()

    return [name for name in tasks if not is_there(open_task(name))]


def train_source(
    backbone: Backbone,
    draw: Draw,
    pool: ExpertPool,
    *,
    settings: TrainingSettings,
    runs: Path,
    start: Expert | None = None,
) -> None:
    """Train a task's expert on all its labels and add it to the pool."""
    run = runs / draw.expert_name("lora")
    expert, _ = fit_expert(backbone, draw, settings=settings, start=start, run=run)
    pool.add(embed(backbone, draw, expert), replace=True)


def source_expert(
    backbone: Backbone,
    tasks: Sequence[str],
    out: Path,
    *,
    method: str = "lora",
    shots: int | None = None,
    settings: TrainingSettings,
    **more: Any,
) -> Expert:
    """Return the expert of some tasks together, from the study's folder or by training it there."""
    draws = [source_draw(open_task(task), shots) for task in tasks]
    pool, name = ExpertPool(out / "sources"), multitask_name(draws, method, 0)
    if name not in pool:
        run = out / "runs" / name
        expert, _ = fit_multitask(backbone, draws, method=method, settings=settings, run=run, **more)
        pool.add(expert, replace=True)
    return pool.get(name)


def vectors_of(method: str, length: int | None) -> dict[str, Any]:
    """Return the setting for prompts of so many vectors, for the kinds that have it."""
    return {"length": length} if length is not None and "length" in KINDS.get(method).settings.model_fields else {}


def check_kind(backbone: Backbone, method: str) -> None:
    """Raise `InputError` before anything is trained if there is no such kind, or the backbone cannot carry it."""
    kind = KINDS.get(method)
    with attached(backbone, kind, make_settings(kind, backbone)):
        pass
