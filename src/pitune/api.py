"""The whole loop in plain functions: train, embed, predict, mix, fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts import Expert, ExpertPool
from pitune.interpolation import TuneResult, TuneSettings, tune_expert
from pitune.prediction import TaskGraph, build_graph, expert_fisher, probe_fisher, rank_neighbours
from pitune.tasks import Example, Split, Task, few_shot
from pitune.training import Data, TrainingSettings, check_backbone, evaluate_expert, fit_expert

EMBEDDED = 64  # examples that a task is embedded by, at most
Embedding = Literal["probe", "expert"]


def sample(task: Task, shots: int | None, seed: int) -> Data:
    """Draw the examples that a few-shot run may use; all of them where `shots` is None."""
    drawn = few_shot(task, shots, seed)
    return Data(drawn.train, drawn.validation, shots, seed)


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


def embed(backbone: Backbone, task: Task, expert: Expert, examples: Sequence[Example]) -> Expert:
    """Return the expert with both embeddings of its task: by the fixed probe, and at the expert itself."""
    some = spread(examples)
    probe = probe_fisher(backbone, task, some)
    own = expert_fisher(backbone, task, expert, some)
    fisher = {f"probe.{name}": value for name, value in probe.items()}
    fisher |= {f"expert.{name}": value for name, value in own.items()}
    return replace(expert, fisher=fisher)


def spread(examples: Sequence[Example], most: int = EMBEDDED) -> list[Example]:
    """Return at most `most` examples, evenly spread over the sequence sorted by id."""
    ordered = sorted(examples, key=lambda example: example.id)
    step = max(1.0, len(ordered) / most)
    return [ordered[int(i * step)] for i in range(min(most, len(ordered)))]


def embedding(expert: Expert, by: Embedding = "probe") -> dict[str, Any]:
    """Return the task embedding that an expert carries; raise `InputError` if it has none."""
    prefix = f"{by}."
    found = {name.removeprefix(prefix): v for name, v in (expert.fisher or {}).items() if name.startswith(prefix)}
    if not found:
        raise InputError(f"expert {expert.name!r} carries no {by} embedding of its task; train it with `pitune fit`")
    return found


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


def find_neighbours(
    backbone: Backbone, task: Task, data: Data, pool: ExpertPool, k: int, method: str | None = None
) -> list[tuple[str, float]]:
    """Rank a pool's experts (of one kind, if given) by the probe embedding of some data."""
    experts = [expert for expert in pool if expert.card.task != task.name and method in (None, expert.method)]
    if not experts:
        raise InputError(f"{pool.folder}: has no expert of another task than {task.name!r}; train some with `pitune fit`")
    for expert in experts:
        check_backbone(expert, backbone)
    target = probe_fisher(backbone, task, spread([*data.train, *data.validation]))
    return list(rank_neighbours(target, {expert.name: embedding(expert) for expert in experts}, k))


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
