"""The main job on real data: a pool of data-rich experts lifts few-shot targets."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts import ExpertPool, save_expert
from pitune.files import json_bytes, write_atomic
from pitune.interpolation import TuneResult, TuneSettings
from pitune.prediction import build_graph, embedding, probe_fisher, spread
from pitune.studies.compare import ROWS, cells_of, keep_settings, measure_cells, train_sources
from pitune.studies.rows import Rows, environment
from pitune.studies.shared import open_task
from pitune.studies.statistics import paired_gains
from pitune.studies.trial import Cell, ComparePlan, Trial, open_backbone_of
from pitune.tasks import Task, short_name
from pitune.training import TrainingSettings, sample

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
    test: int = 200
    source_training: TrainingSettings = field(default_factory=lambda: TrainingSettings(steps=72, evaluations=3))
    tuning: TuneSettings = field(default_factory=TuneSettings)

    def compared(self, seeds: int, first_seed: int, device: str | None) -> ComparePlan:
        """Return the comparison whose pool holds the sources alone."""
        return ComparePlan(
            tasks=(*self.sources, *self.targets),
            shots=(self.shots,),
            seeds=seeds,
            first_seed=first_seed,
            methods=METHODS,
            k=self.k,
            test=self.test,
            validation=self.validation,
            device=device,
            source_training=self.source_training,
            tuning=self.tuning,
        )


METHODS = ("zero-shot", "linear probe", "single", "best neighbour", "uniform mix", "pi")


def run_demo(
    out: Path,
    seeds: int = 3,
    progress: bool = True,
    plan: DemoPlan | None = None,
    device: str | None = None,
    first_seed: int = 0,
    workers: int = 1,
) -> dict[str, Any]:
    """Train the pool, tune every target on every seed, and leave `results.json` and `expert/`.

    What is there already is kept: experts in `pool/`, rows in `rows.jsonl`, checkpoints in `runs/`.
    """
    if seeds < 1:
        raise InputError(f"seeds is {seeds}; expected 1 or more")
    plan = plan or DemoPlan()
    compared = plan.compared(seeds, first_seed, device)
    backbone = open_backbone_of(compared)
    keep_settings(compared, compared.tasks, out)
    train_sources(compared, plan.sources, out, workers, progress)
    measure_cells(cells_of(compared, plan.targets, out), out, workers, progress)
    told = {}
    for name in plan.targets:
        result = Trial(Cell(compared, out, name, plan.shots, first_seed)).tuned()
        told[name] = _told(result, plan)
        save_expert(result.expert, out / "expert")
    rows = Rows(out / ROWS)
    found = {
        "schema": 1,
        "environment": environment(backbone),
        "command": f"pitune demo --out {shlex.quote(str(out))} --seeds {seeds} --seed {first_seed}",
        "graph": _graph(backbone, plan, ExpertPool(out / "pool"), first_seed),
        "targets": told,
        "rows": [
            row.model_dump() for row in sorted(rows, key=lambda row: (row.task, METHODS.index(row.method), row.seed))
        ],
        "gains": [gain for base in METHODS[:-1] for gain in paired_gains(rows, "pi", base)],
    }
    write_atomic(out / RESULTS, json_bytes(found))
    return found


def _told(result: TuneResult, plan: DemoPlan) -> dict[str, Any]:
    return {
        "shots": plan.shots,
        "neighbours": [list(pair) for pair in result.neighbours],
        "weights": {group: dict(weights) for group, weights in result.weights.items()},
        "choice": result.choice,
        "candidates": [candidate.described() for candidate in result.candidates],
    }


def _graph(backbone: Backbone, plan: DemoPlan, pool: ExpertPool, seed: int) -> dict[str, Any]:
    """Compare all tasks by the probe: sources by what their experts carry, targets by their few labels."""
    tasks = {task.name: task for task in map(open_task, (*plan.sources, *plan.targets))}
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
    names = [experts[name].name if name in experts else f"{short_name(name)} (target)" for name in graph.names]
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
