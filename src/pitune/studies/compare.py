"""Does it help? Leave-one-out over tasks: every method on the same few labels, the pool holding the other tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from rich.console import Console

from pitune._files import json_bytes, write_atomic
from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts import Expert, ExpertPool, digest
from pitune.interpolation import TuneSettings, tune_expert
from pitune.prediction import find_neighbours, spread
from pitune.studies._baselines import Measured, best_neighbour, linear_probe, measured, uniform_mix
from pitune.studies._black_box import black_box
from pitune.studies._full import full_fine_tuning
from pitune.studies._peft_mixes import with_peft
from pitune.studies._rows import Rows, environment
from pitune.studies._shared import distinct, keep_plan, open_backbone, open_task
from pitune.studies._sources import train_source
from pitune.studies._statistics import method_means, summed_gains
from pitune.studies._workers import run_jobs
from pitune.tasks import expand
from pitune.training import TrainingSettings, expert_name, fit_expert, sample

METHODS = (
    "zero-shot",
    "linear probe",
    "single",
    "full fine-tuning",
    "best neighbour",
    "start from best neighbour",
    "uniform mix",
    "random neighbours",
    "farthest neighbours",
    "black-box weights",
    "PEFT linear",
    "PEFT ties",
    "pi",
)
ROWS = "rows.jsonl"
RESULTS = "results.json"
_BLACK_BOX_EXPERTS = 5


@dataclass(frozen=True)
class ComparePlan:
    """What is compared; every part of it is in the results."""

    tasks: tuple[str, ...] = ("pocket-20",)
    shots: tuple[int | None, ...] = (4, 16)
    seeds: int = 5
    first_seed: int = 0
    methods: tuple[str, ...] = METHODS
    k: int = 2
    test: int = 300
    validation: int = 128
    backbone: str = "pocket"
    device: str | None = None
    source_training: TrainingSettings = field(default_factory=lambda: TrainingSettings(steps=120, evaluations=4))
    tuning: TuneSettings = field(default_factory=TuneSettings)


QUICK = ComparePlan(
    tasks=("pocket/mnist", "pocket/digits", "pocket/emoji-names", "pocket/tweets", "pocket/nyt"),
    shots=(4,),
    seeds=2,
    test=150,
    source_training=TrainingSettings(steps=60, evaluations=2),
)


@dataclass(frozen=True)
class Cell:
    """One target with some labels: what a worker does at a time. Without shots and seed, the task's own source."""

    plan: ComparePlan
    out: Path
    task: str
    shots: int | None = None
    seed: int | None = None


def run_compare(plan: ComparePlan, out: Path, workers: int = 1, progress: bool = True) -> dict[str, Any]:
    """Train a source expert for every task, then measure every method on every (task, shots, seed).

    What is there already is kept: experts in `pool/`, rows in `rows.jsonl`, checkpoints in `runs/`. Raise
    `InputError` before anything is trained if the plan cannot be carried out.
    """
    tasks = prepare_pool(plan, out, workers, progress)
    cells = cells_of(plan, tasks, out)
    rows = Rows(out / ROWS)
    waiting = [cell for cell in cells if not all(_key(cell, method) in rows for method in _methods(cell))]
    run_jobs(_measure, waiting, workers, "targets" if progress else "")
    wanted = {_key(cell, method) for cell in cells for method in _methods(cell)}
    kept = [row for row in Rows(out / ROWS) if row.key in wanted]
    found = {
        "schema": 1,
        "environment": environment(open_backbone_of(plan)),
        "plan": TypeAdapter(ComparePlan).dump_python(plan, mode="json"),
        "rows": [row.model_dump() for row in kept],
        "means": method_means(kept, METHODS),
        "gains": [gain for base in METHODS if base != "pi" for gain in summed_gains(kept, "pi", base)],
    }
    write_atomic(out / RESULTS, json_bytes(found))
    return found


def prepare_pool(plan: ComparePlan, out: Path, workers: int, progress: bool) -> list[str]:
    """Check the plan and train what the pool lacks of its sources; return the tasks."""
    tasks = _checked(plan)
    settings = {
        "tasks": tasks,
        "backbone": open_backbone_of(plan).fingerprint,
        "k": plan.k,
        "test": plan.test,
        "validation": plan.validation,
        "source_training": plan.source_training.model_dump(),
        "tuning": plan.tuning.model_dump(),
    }
    keep_plan(out / "plan.json", settings)
    run_jobs(_train_source, [Cell(plan, out, name) for name in tasks], workers, "sources" if progress else "")
    return tasks


def cells_of(plan: ComparePlan, tasks: Sequence[str], out: Path) -> list[Cell]:
    """Return every (task, shots, seed) of the plan, seed by seed."""
    return [
        Cell(plan, out, name, shots, seed)
        for seed in range(plan.first_seed, plan.first_seed + plan.seeds)
        for shots in plan.shots
        for name in tasks
    ]


def open_backbone_of(plan: ComparePlan) -> Backbone:
    """Return the plan's backbone, loaded once a process."""
    return open_backbone(plan.backbone, plan.device)


def _checked(plan: ComparePlan) -> list[str]:
    unknown = set(plan.methods) - set(METHODS)
    if unknown:
        raise InputError(f"unknown method {sorted(unknown)[0]!r}; expected some of: {', '.join(METHODS)}")
    tasks = expand(plan.tasks)
    if len(tasks) < plan.k + 1:
        raise InputError(f"{len(tasks)} task(s) to compare; expected {plan.k + 1} or more, so that each has neighbours")
    if plan.seeds < 1:
        raise InputError(f"seeds is {plan.seeds}; expected 1 or more")
    distinct(tasks)
    return tasks


def _key(cell: Cell, method: str) -> tuple[str, str, int | None, int]:
    assert cell.seed is not None
    return open_task(cell.task).name, method, cell.shots, cell.seed


def _methods(cell: Cell) -> list[str]:
    """Return the methods that can be measured on a task: a linear probe needs a fixed set of answers."""
    return [name for name in cell.plan.methods if name != "linear probe" or open_task(cell.task).answers is not None]


def _train_source(cell: Cell) -> None:
    plan = cell.plan
    train_source(
        open_backbone_of(plan),
        open_task(cell.task),
        ExpertPool(cell.out / "pool"),
        plan.source_training,
        plan.validation,
        cell.out / "runs",
        Console(stderr=True, quiet=True),
    )


def _measure(cell: Cell) -> None:
    """Measure what the rows lack of one target."""
    rows = Rows(cell.out / ROWS)
    trial = Trial(cell)
    for method in _methods(cell):
        rows.measure(trial.task.name, method, cell.shots, trial.data.seed, partial(trial.run, method))


class Trial:
    """All methods on one draw of a target's labels; what two of them share is done once."""

    def __init__(self, cell: Cell) -> None:
        assert cell.seed is not None
        plan = cell.plan
        self.plan, self.task = plan, open_task(cell.task)
        self.backbone = open_backbone_of(plan)
        self.data = sample(self.task, cell.shots, cell.seed)
        self.test = spread(self.task.examples("test"), plan.test)
        self.folder = cell.out / "runs" / expert_name(self.task, "lora", cell.shots, cell.seed)
        self.pool = ExpertPool(cell.out / "pool")
        self.order = find_neighbours(self.backbone, self.task, self.data, self.pool, len(self.pool), "lora")
        self._folded: Mapping[str, Expert] = {}
        self._scored: dict[str, Measured] = {}

    def near(self, k: int) -> list[Expert]:
        """Return the experts of the k nearest tasks."""
        return [self.pool.get(name) for name, _ in self.order[:k]]

    def run(self, method: str) -> Measured:
        """Return (metric, value, n) of a method on the test examples."""
        runs: Mapping[str, Callable[[], Measured]] = {
            "linear probe": lambda: linear_probe(self.backbone, self.task, self.data, self.test),
            "full fine-tuning": lambda: full_fine_tuning(
                self.backbone, self.task, self.data, self.test, self.plan.tuning.training, self.folder / "full"
            ),
        }
        if method in runs:
            return runs[method]()
        return self._score(self._expert(method))

    def _expert(self, method: str) -> Expert | None:
        near = self.near(self.plan.k)
        match method:
            case "zero-shot":
                return None
            case "single":
                return self._tuned()["alone"]
            case "pi":
                return self._tuned()["pi"]
            case "best neighbour":
                return best_neighbour(self.backbone, self.task, self.data, near)
            case "start from best neighbour":
                return self._continued(best_neighbour(self.backbone, self.task, self.data, near))
            case "uniform mix":
                return uniform_mix(near)
            case "random neighbours":
                drawn = np.random.default_rng(self.data.seed).permutation(len(self.order))[: self.plan.k]
                return self._with([self.pool.get(self.order[i][0]) for i in drawn], "random")
            case "farthest neighbours":
                return self._with([self.pool.get(name) for name, _ in self.order[-self.plan.k :]], "farthest")
            case "black-box weights":
                return black_box(self.backbone, self.task, self.data, self.near(_BLACK_BOX_EXPERTS))
            case _:
                return with_peft(self.backbone, near, [1 / len(near)] * len(near))(method.removeprefix("PEFT "))

    def _score(self, expert: Expert | None) -> Measured:
        key = digest(expert) if expert else ""
        if key not in self._scored:
            self._scored[key] = measured(self.backbone, self.task, expert, self.test)
        return self._scored[key]

    def _tuned(self) -> Mapping[str, Expert]:
        """Return π-Tuning's candidates and its choice; the target's own expert alone is the single expert."""
        if not self._folded:
            near = self.near(self.plan.k)
            result = tune_expert(self.backbone, self.task, self.data, near, self.plan.tuning, self.folder / "pi")
            self._folded = {**result.folded, "pi": result.expert}
        return self._folded

    def _with(self, others: Sequence[Expert], name: str) -> Expert:
        """π-Tuning with other experts for neighbours."""
        return tune_expert(self.backbone, self.task, self.data, others, self.plan.tuning, self.folder / name).expert

    def _continued(self, expert: Expert) -> Expert:
        """Train a neighbour's expert on the target, for as many steps as one of the target's own."""
        training = self.plan.tuning.training
        return fit_expert(self.backbone, self.task, self.data, "lora", training, expert, self.folder / "continued")[0]
