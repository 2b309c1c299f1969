"""The whole loop in plain functions: train, embed, predict, mix, fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pitune import training
from pitune.backbones import Backbone
from pitune.experts import Expert, ExpertPool
from pitune.interpolation import TuneResult, TuneSettings, tune_expert
from pitune.prediction import Embedding, TaskGraph, build_graph, embed, embed_tasks, embedding, find_neighbours
from pitune.tasks import Split, Task
from pitune.training import Member, Scope, TrainingSettings, evaluate_expert, fit_expert, sample


def fit(
    backbone: Backbone,
    task: Task,
    method: str = "lora",
    shots: int | None = None,
    seed: int = 0,
    settings: TrainingSettings | None = None,
    run: Path | None = None,
    progress: bool = False,
    start: Expert | None = None,
    **config: Any,
) -> Expert:
    """Train an expert for a task and embed the task by its Fisher information.

    `shots` examples a class, or all; `config` holds the method's own settings, such as `r=8`. With a `run`
    folder, an interrupted run goes on where it stopped and ends at the same bytes (on CPU). From the common
    starting values, or from the expert `start`, such as one of `fit_multitask` (MVLPT, stage 2); its kind must
    be `method`, and all its tensors must fit.
    """
    data = sample(task, shots, seed)
    expert, _ = fit_expert(backbone, task, data, method, settings, start, run, progress, **config)
    return embed(backbone, task, expert, data.train)


def fit_multitask(
    backbone: Backbone,
    tasks: Sequence[Task],
    method: str = "lora",
    shots: int | None = None,
    seed: int = 0,
    mixing: str = "balanced",
    scope: Scope = "task",
    settings: TrainingSettings | None = None,
    run: Path | None = None,
    progress: bool = False,
    start: Expert | None = None,
    **config: Any,
) -> Expert:
    """Train one expert over several tasks and embed it by their mean (MVLPT, stage 1; with `start`, stage 2 (b)).

    `mixing` says how often each task is drawn: `balanced`, `proportional`, `temperature=2` or `capped=256`.
    With the scope `task` an example is scored over its own task's answers, with `union` over those of all. The
    best step is that of the lowest validation loss, averaged over tasks. Raise `InputError` naming the task
    that cannot be part of a mixture, before anything is trained.
    """
    members = [Member(task, sample(task, shots, seed)) for task in tasks]
    expert, _ = training.fit_multitask(
        backbone, members, method, mixing, scope, seed, settings, start, run, progress, **config
    )
    return embed_tasks(backbone, members, expert)


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
    k: int = 4,
    shots: int | None = None,
    seed: int = 0,
    method: str = "lora",
    settings: TuneSettings | None = None,
    run: Path | None = None,
    progress: bool = False,
) -> TuneResult:
    """π-Tuning whole: find the k nearest tasks, train their experts' mix with the target's own, fold to one.

    Of the k, `settings.select` leaves out those that do not serve the few labels.
    """
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
