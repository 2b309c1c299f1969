"""Does it help? Leave-one-out over tasks: every method on the same few labels, the pool holding the other tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pitune.errors import InputError
from pitune.experts import ExpertPool
from pitune.studies.baselines import BASELINES, PI
from pitune.studies.plans import ComparePlan
from pitune.studies.results import CompareResults, Row
from pitune.studies.rows import Measures
from pitune.studies.sources import train_pool
from pitune.studies.statistics import method_means, summed_gains
from pitune.studies.study import Study, distinct
from pitune.studies.trial import Trial
from pitune.studies.workers import Spread
from pitune.tasks import expand


@dataclass(frozen=True)
class Cell:
    """All methods on one draw of a target's labels."""

    trial: Trial
    methods: tuple[str, ...]

    def measures(self) -> Measures:
        """Return the methods that can be measured on the task."""
        trial, methods = self.trial, map(BASELINES.get, self.methods)
        return {trial.key(one.name): partial(one.measure, trial) for one in methods if one.applies(trial.task)}


def run_compare(plan: ComparePlan, out: Path, *, workers: int | Spread = 1, progress: bool = True) -> CompareResults:
    """Train a source expert for every task, then measure every method on every (task, shots, seed).

    What is there already is kept: experts in `pool/`, rows in `rows.jsonl`, checkpoints in `runs/`. Raise
    `InputError` before anything is trained if the plan cannot be carried out.
    """
    usual = (one.name for one in BASELINES.all() if one.default and not (plan.pool and one.learns_others))
    plan = plan.but(methods=plan.methods or tuple(usual))
    study = Study(out, workers, progress)
    tasks = prepare_pool(plan, study)
    rows = measure_methods(plan, study, tasks)
    means = method_means(rows, BASELINES.names())
    gains = tuple(gain for name in BASELINES.names() if name != PI for gain in summed_gains(rows, PI, name))
    return study.write(CompareResults, plan, rows, means=means, gains=gains)


def prepare_pool(plan: ComparePlan, study: Study) -> list[str]:
    """Check the plan and train what the pool lacks of its sources, unless it is given; return the tasks."""
    for name in plan.methods:
        if BASELINES.get(name).learns_others and plan.pool:
            raise InputError(f"method {name!r} learns from the data of other tasks, which {plan.pool} does not hold")
    tasks = expand(plan.tasks)
    if not plan.pool and len(tasks) < 2:
        raise InputError(
            f"{len(tasks)} task(s) to compare; expected 2 or more, so that each has a neighbour, or a pool of experts"
        )
    if plan.pool and not len(ExpertPool(Path(plan.pool))):
        raise InputError(f"{plan.pool}: holds no expert; expected a pool of experts of other tasks")
    keep_settings(plan, study, tasks)
    if not plan.pool:
        train_pool(study, plan, tasks)
    return tasks


def keep_settings(plan: ComparePlan, study: Study, tasks: Sequence[str]) -> None:
    """Write down what rows of a folder have in common; raise `InputError` if it holds those of another plan."""
    if plan.seeds < 1:
        raise InputError(f"seeds is {plan.seeds}; expected 1 or more")
    distinct(tasks)
    given = {"pool": plan.pool} if plan.pool else {}
    study.keep(plan, ("k", "test", "validation", "source_training", "tuning"), tasks=list(tasks), **given)


def trials_of(plan: ComparePlan, tasks: Sequence[str], out: Path) -> list[Trial]:
    """Return every (task, shots, seed) of the plan, seed by seed."""
    return [Trial(plan, out, name, few, seed) for seed in plan.all_seeds for few in plan.shots for name in tasks]


def measure_methods(plan: ComparePlan, study: Study, targets: Sequence[str]) -> list[Row]:
    """Measure what the rows lack of the plan's methods on some tasks, against a pool that is trained."""
    cells = [Cell(trial, plan.methods) for trial in trials_of(plan, targets, study.out)]
    waiting = {cell.trial.name: cell.trial for cell in study.lacking(cells)}
    for one in map(BASELINES.get, plan.methods):
        if one.once is not None:
            jobs = [trial for trial in waiting.values() if one.applies(trial.task)]
            study.each(one.once, jobs, f"{one.name}, once a task")
    return study.measure(cells)
