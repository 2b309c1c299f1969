"""The main job on real data: a pool of data-rich experts lifts few-shot targets."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from pitune._files import json_bytes, write_atomic
from pitune.backbones import Backbone, load_backbone
from pitune.errors import InputError
from pitune.experts import Expert, ExpertPool, save_expert
from pitune.interpolation import TuneResult, TuneSettings, tune_expert
from pitune.prediction import build_graph, embedding, find_neighbours, probe_fisher, spread
from pitune.studies._baselines import best_neighbour, linear_probe, measured, uniform_mix
from pitune.studies._rows import Rows, environment
from pitune.studies._sources import train_source
from pitune.studies._statistics import paired_gains
from pitune.tasks import Example, Task, load_task
from pitune.training import TrainingSettings, expert_name, sample

RESULTS = "results.json"


@dataclass(frozen=True)
class DemoPlan:
    """What the demo runs: sources with all their labels, targets with a few."""

    sources: tuple[str, ...] = (
        "pocket/tweets",
        "pocket/amazon",
        "pocket/movie",
        "pocket/domain",
        "pocket/mnist",
        "pocket/easy-vqa",
        "pocket/textile",
    )
    targets: tuple[str, ...] = ("pocket/digits", "pocket/nyt")
    shots: int = 4
    k: int = 4
    validation: int = 128
    test: int = 400
    source_training: TrainingSettings = field(default_factory=lambda: TrainingSettings(steps=120, evaluations=4))
    tuning: TuneSettings = field(default_factory=TuneSettings)


METHODS = ("zero-shot", "linear probe", "single", "best neighbour", "uniform mix", "pi")


def run_demo(
    out: Path,
    seeds: int = 3,
    progress: bool = True,
    plan: DemoPlan | None = None,
    backbone: Backbone | None = None,
    first_seed: int = 0,
) -> dict[str, Any]:
    """Train the pool, tune every target on every seed, and leave `results.json` and `expert/`.

    What is there already is kept: experts in the pool, rows in `rows.jsonl`, checkpoints in `runs/`.
    """
    if seeds < 1:
        raise InputError(f"seeds is {seeds}; expected 1 or more")
    plan = plan or DemoPlan()
    console = Console(stderr=True, quiet=not progress)
    backbone = backbone or load_backbone("pocket")
    tasks = {name: load_task(name) for name in (*plan.sources, *plan.targets)}
    pool = ExpertPool(out / "pool")
    for name in plan.sources:
        train_source(backbone, tasks[name], pool, plan.source_training, plan.validation, out / "runs", console)
    rows = Rows(out / "rows.jsonl")
    told: dict[str, Any] = {}
    for name in plan.targets:
        for seed in range(first_seed, first_seed + seeds):
            console.print(f"[bold]{name}[/], {plan.shots} shots a class, seed {seed}")
            result = _target(backbone, tasks[name], pool, plan, seed, rows, out / "runs", progress)
            if seed == first_seed:
                told[name] = _told(result, plan)
                save_expert(result.expert, out / "expert")
    graph = _graph(backbone, tasks, pool, plan, first_seed)
    gains = [gain for base in METHODS[:-1] for gain in paired_gains(rows, "pi", base)]
    command = f"pitune demo --out {shlex.quote(str(out))} --seeds {seeds} --seed {first_seed}"
    found = {
        "schema": 1,
        "environment": environment(backbone),
        "command": command,
        "graph": graph,
        "targets": told,
        "rows": [
            row.model_dump() for row in sorted(rows, key=lambda row: (row.task, METHODS.index(row.method), row.seed))
        ],
        "gains": gains,
    }
    write_atomic(out / RESULTS, json_bytes(found))
    return found


def _target(
    backbone: Backbone,
    task: Task,
    pool: ExpertPool,
    plan: DemoPlan,
    seed: int,
    rows: Rows,
    runs: Path,
    progress: bool,
) -> TuneResult:
    """Measure every method on the same few labels, and return what π-Tuning found."""
    data = sample(task, plan.shots, seed)
    test = spread(task.examples("test"), plan.test)
    near = find_neighbours(backbone, task, data, pool, plan.k, "lora")
    experts = [pool.get(name) for name, _ in near]
    folder = runs / f"{expert_name(task, 'lora', plan.shots, seed)}"
    result = tune_expert(backbone, task, data, experts, plan.tuning, folder / "pi", progress)

    runs_of: Mapping[str, Callable[[], Expert | None]] = {
        "zero-shot": lambda: None,
        "single": lambda: result.folded["alone"],
        "best neighbour": lambda: best_neighbour(backbone, task, data, experts),
        "uniform mix": lambda: uniform_mix(experts),
        "pi": lambda: result.expert,
    }
    rows.measure(task.name, "linear probe", plan.shots, seed, lambda: linear_probe(backbone, task, data, test))
    for method, make in runs_of.items():
        rows.measure(task.name, method, plan.shots, seed, partial(_measure, backbone, task, make, test))
    return replace(result, neighbours=tuple(near))


def _measure(
    backbone: Backbone, task: Task, make: Callable[[], Expert | None], test: Sequence[Example]
) -> tuple[str, float, int]:
    return measured(backbone, task, make(), test)


def _told(result: TuneResult, plan: DemoPlan) -> dict[str, Any]:
    return {
        "shots": plan.shots,
        "neighbours": [list(pair) for pair in result.neighbours],
        "weights": {group: dict(weights) for group, weights in result.weights.items()},
        "choice": result.choice,
        "candidates": [candidate.described() for candidate in result.candidates],
    }


def _graph(
    backbone: Backbone, tasks: Mapping[str, Task], pool: ExpertPool, plan: DemoPlan, seed: int
) -> dict[str, Any]:
    """Compare all tasks by the probe: sources by what their experts carry, targets by their few labels."""
    experts = {expert.card.task: expert for expert in pool}
    embeddings, kinds = {}, []
    scores: list[dict[str, Any] | None] = []
    for name, task in tasks.items():
        expert = experts.get(name)
        if expert is not None:
            embeddings[name] = embedding(expert)
            scores.append({"metric": expert.card.metric, "value": expert.card.validation})
        else:
            data = sample(task, plan.shots, seed)
            embeddings[name] = probe_fisher(backbone, task, spread([*data.train, *data.validation]))
            scores.append(None)
        kinds.append(kind_of(task))
    graph = build_graph(embeddings)
    names = [
        experts[name].name if name in experts else f"{name.removeprefix('pocket/')} (target)" for name in graph.names
    ]
    return {
        "names": names,
        "tasks": list(graph.names),
        "similarity": graph.similarity.tolist(),
        "kinds": kinds,
        "scores": scores,
    }


def kind_of(task: Task) -> str:
    """Return what a task's inputs are: image, text, or both."""
    example = task.examples("train")[0]
    parts = [kind for kind, there in (("image", example.image), ("text", example.text)) if there is not None]
    return " + ".join(parts)
