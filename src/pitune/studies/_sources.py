"""The pools that studies draw on: one data-rich expert a task."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from pitune.backbones import Backbone
from pitune.experts import ExpertPool
from pitune.prediction import embed
from pitune.tasks import Task, few_shot
from pitune.training import Data, TrainingSettings, expert_name, fit_expert


def train_source(
    backbone: Backbone,
    task: Task,
    pool: ExpertPool,
    settings: TrainingSettings,
    validation: int,
    runs: Path,
    console: Console,
) -> None:
    """Train a task's expert on all its labels, unless the pool has it; `validation` examples decide when to stop."""
    drawn = few_shot(task, None, 0)
    data = Data(drawn.train, drawn.validation[:validation])
    name = expert_name(task, "lora", None, 0)
    if name in pool and pool.get(name).card.hyperparameters.items() >= settings.model_dump().items():
        return
    expert, trained = fit_expert(backbone, task, data, "lora", settings, run=runs / name, progress=not console.quiet)
    pool.add(embed(backbone, task, expert, data.train), replace=True)
    console.print(f"[bold]{task.name}[/] {task.metric} on validation data {trained.validation:.3f}")
