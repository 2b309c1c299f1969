"""Does it help? Leave-one-out over tasks: every method on the same few labels, the pool holding the other tasks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pitune.errors import InputError
from pitune.experts import ExpertPool
from pitune.files import json_bytes, write_atomic
from pitune.studies.rows import Rows, environment
from pitune.studies.shared import distinct, keep_plan, open_task
from pitune.studies.source_experts import is_trained, train_source
from pitune.studies.statistics import method_means, summed_gains
from pitune.studies.trial import METHODS as METHODS
from pitune.studies.trial import MULTITASK, Cell, Trial, multitask_source, open_backbone_of
from pitune.studies.trial import QUICK as QUICK
from pitune.studies.trial import ComparePlan as ComparePlan
from pitune.studies.workers import run_jobs
from pitune.tasks import expand

ROWS = "rows.jsonl"
RESULTS = "results.json"


def run_compare(plan: ComparePlan, out: Path, workers: int = 1, progress: bool = True) -> dict[str, Any]:
    """Train a source expert for every task, then measure every method on every (task, shots, seed).

    What is there already is kept: experts in `pool/`, rows in `rows.jsonl`, checkpoints in `runs/`. Raise
    `InputError` before anything is trained if the plan cannot be carried out.
    """
    tasks = prepare_pool(plan, out, workers, progress)
    cells = cells_of(plan, tasks, out)
    measure_cells(cells, out, workers, progress)
    rows = Rows(out / ROWS)
    kept = [rows[key] for key in dict.fromkeys(_key(cell, method) for cell in cells for method in _methods(cell))]
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
    keep_settings(plan, tasks, out)
    train_sources(plan, tasks, out, workers, progress)
    return tasks


def keep_settings(plan: ComparePlan, tasks: Sequence[str], out: Path) -> None:
    """Write down what rows of a folder have in common; raise `InputError` if it holds those of another plan."""
    settings = {
        "tasks": list(tasks),
        "backbone": open_backbone_of(plan).fingerprint,
        "k": plan.k,
        "test": plan.test,
        "validation": plan.validation,
        "source_training": plan.source_training.model_dump(),
        "tuning": plan.tuning.model_dump(),
    }
    keep_plan(out / "plan.json", settings)


def train_sources(plan: ComparePlan, tasks: Sequence[str], out: Path, workers: int, progress: bool) -> None:
    """Train the source experts of `tasks` that the pool in `out` lacks."""
    pool = ExpertPool(out / "pool")
    lacking = [name for name in tasks if not is_trained(open_task(name), pool, plan.source_training)]
    run_jobs(_train_source, [Cell(plan, out, name) for name in lacking], workers, "sources" if progress else "")


def measure_cells(cells: Sequence[Cell], out: Path, workers: int, progress: bool) -> None:
    """Measure what the rows in `out` lack of `cells`, against a pool that is trained."""
    rows = Rows(out / ROWS)
    waiting = [cell for cell in cells if not all(_key(cell, method) in rows for method in _methods(cell))]
    asked = {cell.task: Cell(cell.plan, out, cell.task) for cell in waiting if MULTITASK in cell.plan.methods}
    run_jobs(_train_multitask, list(asked.values()), workers, "multitask sources" if progress else "")
    run_jobs(_measure, waiting, workers, "targets" if progress else "")


def cells_of(plan: ComparePlan, tasks: Sequence[str], out: Path) -> list[Cell]:
    """Return every (task, shots, seed) of the plan, seed by seed."""
    return [
        Cell(plan, out, name, shots, seed)
        for seed in range(plan.first_seed, plan.first_seed + plan.seeds)
        for shots in plan.shots
        for name in tasks
    ]


def _checked(plan: ComparePlan) -> list[str]:
    unknown = set(plan.methods) - set(METHODS)
    if unknown:
        raise InputError(f"unknown method {sorted(unknown)[0]!r}; expected some of: {', '.join(METHODS)}")
    tasks = expand(plan.tasks)
    if len(tasks) < 2:
        raise InputError(f"{len(tasks)} task(s) to compare; expected 2 or more, so that each has a neighbour")
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
    )


def _train_multitask(cell: Cell) -> None:
    multitask_source(cell)


def _measure(cell: Cell) -> None:
    """Measure what the rows lack of one target."""
    rows = Rows(cell.out / ROWS)
    trial = Trial(cell)
    for method in _methods(cell):
        rows.measure(trial.task.name, method, cell.shots, trial.data.seed, partial(trial.run, method))
