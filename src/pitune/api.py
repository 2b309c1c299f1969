"""The whole loop in plain functions: train, embed, predict, mix, fold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pitune.backbones import Backbone
from pitune.experts import Expert, ExpertPool
from pitune.interpolation import TuneResult, TuneSettings, tune_expert
from pitune.prediction import Embedding, TaskGraph, build_graph, embed, embedding, find_neighbours
from pitune.tasks import Split, Task
from pitune.training import TrainingSettings, evaluate_expert, fit_expert, sample


def fit(
    backbone: Backbone,
    task: Task,
    method: str = "lora",
    shots: int | None = None,
    seed: int = 0,
    settings: TrainingSettings | None = None,
    run: Path | None = None,
    progress: bool = False,
    **config: Any,
) -> Expert:
    """Train an expert for a task and embed the task by its Fisher information.

    `shots` examples a class, or all; `config` holds the method's own settings, such as `r=8`. With a `run`
    folder, an interrupted run goes on where it stopped and ends at the same bytes (on CPU).
    """
    data = sample(task, shots, seed)
    expert, _ = fit_expert(backbone, task, data, method, settings, run=run, progress=progress, **config)
    return embed(backbone, task, expert, data.train)


def task_graph(pool: ExpertPool, by: Embedding = "probe") -> TaskGraph:
    """Return how alike the tasks of a pool are, every two of them."""
    return build_graph({expert.name: embedding(expert, by) for expert in pool})


def neighbours(
    backbone: Backbone, task: Task, pool: ExpertPool, k: int = 2, shots: int | None = None, seed: int = 0
) -> list[tuple[str, float]]:
    """Return the k experts whose tasks are most like `task`, with their similarities, best first.

    Experts of the same task are passed over. Needs no expert of the target: the probe embeds it.
    """
    data = sample(task, shots, seed)
    return find_neighbours(backbone, task, data, pool, k)


def tune(
    backbone: Backbone,
    task: Task,
    pool: ExpertPool,
    k: int = 2,
    shots: int | None = None,
    seed: int = 0,
    method: str = "lora",
    settings: TuneSettings | None = None,
    run: Path | None = None,
    progress: bool = False,
) -> TuneResult:
    """π-Tuning whole: find the k nearest tasks, train their experts' mix with the target's own, fold to one."""
    data = sample(task, shots, seed)
    near = find_neighbours(backbone, task, data, pool, k, method)
    experts = [pool.get(name) for name, _ in near]
    result = tune_expert(backbone, task, data, experts, settings, run, progress)
    expert = embed(backbone, task, result.expert, data.train)
    return replace(result, expert=expert, neighbours=tuple(near))


def evaluate(
    backbone: Backbone, task: Task, expert: Expert | None = None, split: Split = "test"
) -> dict[str, str | float | int]:
    """Return `{"metric", "value", "n"}` of an expert, or of the backbone alone, on one part of a task."""
    found = evaluate_expert(backbone, task, expert, task.examples(split))
    return {"metric": found.metric, "value": found.value, "n": len(found.ids)}
