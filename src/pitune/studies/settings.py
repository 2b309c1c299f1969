"""Which settings of π-Tuning are best: each on the same few labels, judged by validation examples never drawn.

The test part is not touched, so that defaults may follow from what is found here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pitune.errors import InputError
from pitune.experts import Expert, ExpertPool
from pitune.files import json_bytes, write_atomic
from pitune.interpolation import TuneSettings
from pitune.prediction import embedding, fisher_similarity, spread
from pitune.studies.baselines import measured
from pitune.studies.compare import cells_of, prepare_pool
from pitune.studies.rows import Row, Rows, environment
from pitune.studies.shared import held_out, open_task
from pitune.studies.source_experts import is_trained, train_source, unrelated_start
from pitune.studies.statistics import method_means, summed_gains
from pitune.studies.trial import Cell, ComparePlan, Trial, open_backbone_of
from pitune.studies.workers import run_jobs
from pitune.training import evaluate_expert

ROWS = "settings.jsonl"
RESULTS = "settings.json"
DEFAULT = "default"
ALONE = f"{DEFAULT}: alone"
_UNRELATED = "pool-unrelated"


def _unlike(trial: Trial, k: int) -> list[Expert]:
    """Return k neighbours of which none is a near-duplicate of another."""
    experts = {name: trial.pool.get(name) for name, _ in trial.order}
    probes = {name: embedding(expert) for name, expert in experts.items()}
    names = most_relevant(dict(trial.order), lambda one, other: fisher_similarity(probes[one], probes[other]), k)
    return [experts[name] for name in names]


def _unrelated(trial: Trial, k: int) -> list[Expert]:
    """Return the experts of the k nearest tasks that did not start from common values."""
    pool = ExpertPool(trial.cell.out / _UNRELATED)
    return [pool.get(name) for name, _ in trial.order[:k]]


def _tried(trial: Trial, k: int) -> list[Expert]:
    """Return the k experts of all the pool that have the lowest calibrated losses on the few labels."""
    labels = spread([*trial.data.train, *trial.data.validation])
    experts = [trial.pool.get(name) for name, _ in trial.order]
    losses = [float(evaluate_expert(trial.backbone, trial.task, one, labels).calibrated.sum()) for one in experts]
    return [experts[i] for i in np.argsort(losses, kind="stable")[:k]]


@dataclass(frozen=True)
class Variant:
    """One change of the defaults: of settings, of how many neighbours there are, or of which they are."""

    changes: Mapping[str, Any]
    k: int | None = None
    neighbours: Callable[[Trial, int], list[Expert]] = Trial.near

    def settings(self, base: TuneSettings) -> TuneSettings:
        """Return the defaults with the change."""
        return base.model_copy(update=dict(self.changes))

    def ways(self, name: str, base: TuneSettings) -> list[str]:
        """Return the names of its rows: one for each of several candidates, and one for the choice."""
        candidates = self.settings(base).candidates
        return [name] if len(candidates) == 1 else [f"{name}: {one}" for one in (*candidates, "chosen")]


_JOINT = {"candidates": ("joint",)}
_PAPER = {"kind": "softmax", "select": False, "weight_rate": 1.0, "own_weight": 0.25}
VARIANTS: Mapping[str, Variant] = {
    DEFAULT: Variant({}),
    "joint, equal softmax start (the paper's)": Variant({**_JOINT, **_PAPER}, 4),
    "joint, all neighbours": Variant({**_JOINT, "select": False}),
    "joint, neighbours frozen": Variant({**_JOINT, "neighbour_rate": 0.0}),
    "joint, neighbours at 0.3 of the rate": Variant({**_JOINT, "neighbour_rate": 0.3}),
    "joint, one weight each": Variant({**_JOINT, "granularity": "global"}),
    "joint, a weight a site": Variant({**_JOINT, "granularity": "site"}),
    "joint, k = 1": Variant(_JOINT, 1),
    "joint, k = 2": Variant(_JOINT, 2),
    "joint, neighbours unlike each other": Variant(_JOINT, neighbours=_unlike),
    "joint, neighbours of unrelated starts": Variant(_JOINT, neighbours=_unrelated),
    "neighbours by trial": Variant({}, neighbours=_tried),
    "neighbours by trial, k = 8": Variant({}, 8, neighbours=_tried),
}


@dataclass(frozen=True)
class _Job:
    cell: Cell
    names: tuple[str, ...]


def run_settings(
    plan: ComparePlan, out: Path, names: tuple[str, ...] = tuple(VARIANTS), workers: int = 1, progress: bool = True
) -> dict[str, Any]:
    """Tune every (task, shots, seed) in every way; of several candidates each counts as a way of its own.

    Rows are kept in `settings.jsonl` beside the pool of `pitune study compare`, which is trained if need be.
    """
    unknown = set(names) - VARIANTS.keys()
    if unknown:
        raise InputError(f"unknown variant {sorted(unknown)[0]!r}; expected some of: {'; '.join(VARIANTS)}")
    tasks = prepare_pool(plan, out, workers, progress)
    if any(VARIANTS[name].neighbours is _unrelated for name in names):
        pool = ExpertPool(out / _UNRELATED)
        lacking = [name for name in tasks if not is_trained(open_task(name), pool, plan.source_training)]
        cells = [Cell(plan, out, name) for name in lacking]
        run_jobs(_train_unrelated, cells, workers, "sources of unrelated starts" if progress else "")
    jobs = [_Job(cell, names) for cell in cells_of(plan, tasks, out)]
    kept = Rows(out / ROWS)
    run_jobs(_measure, [job for job in jobs if _lacking(job, kept)], workers, "targets" if progress else "")
    rows = [row for row in Rows(out / ROWS) if row.method.split(": ")[0] in names]
    methods = tuple(dict.fromkeys(row.method for row in rows))
    found = {
        "schema": 1,
        "environment": environment(open_backbone_of(plan)),
        "rows": [row.model_dump() for row in rows],
        "means": method_means(rows, methods),
        "gains": [gain for one in methods for gain in _gains(rows, one)],
    }
    write_atomic(out / RESULTS, json_bytes(found))
    return found


def _gains(rows: list[Row], method: str) -> list[dict[str, Any]]:
    """Return the gains of a way over the own expert alone, and those of a change over what it changes."""
    name, _, candidate = method.partition(": ")
    baselines = [ALONE] if name == DEFAULT else [ALONE, f"{DEFAULT}: {candidate or 'joint'}"]
    return [{"method": method, **gain} for one in dict.fromkeys(baselines) for gain in summed_gains(rows, method, one)]


def _lacking(job: _Job, rows: Rows) -> dict[str, list[str]]:
    """Return the variants of which rows are missing, each with the names of its rows."""
    task, cell = open_task(job.cell.task).name, job.cell
    assert cell.seed is not None
    ways = {name: one.ways(name, cell.plan.tuning) for name, one in VARIANTS.items() if name in job.names}
    return {name: of for name, of in ways.items() if not all((task, way, cell.shots, cell.seed) in rows for way in of)}


def _train_unrelated(cell: Cell) -> None:
    plan, backbone, task = cell.plan, open_backbone_of(cell.plan), open_task(cell.task)
    pool, start = ExpertPool(cell.out / _UNRELATED), unrelated_start(backbone, task)
    runs = cell.out / "runs" / "unrelated"
    train_source(backbone, task, pool, plan.source_training, plan.validation, runs, start)


def _measure(job: _Job) -> None:
    trial, rows = Trial(job.cell), Rows(job.cell.out / ROWS)
    plan, data = trial.plan, trial.data
    examples = held_out(trial.task, data, plan.test)
    for name, ways in _lacking(job, rows).items():
        variant = VARIANTS[name]
        settings = variant.settings(plan.tuning)
        if name == DEFAULT:
            result = trial.tuned()
        else:
            near = variant.neighbours(trial, variant.k or plan.k)
            result = trial.tuned_with(near, settings, f"variant-{list(VARIANTS).index(name)}")
        experts = dict(zip(ways, (*result.folded.values(), result.expert), strict=False))
        for way, expert in experts.items():
            score = partial(measured, trial.backbone, trial.task, expert, examples)
            rows.measure(trial.task.name, way, data.shots, data.seed, score)


def most_relevant(similarity: Mapping[str, float], between: Callable[[str, str], float], k: int) -> list[str]:
    """Return k names by maximal marginal relevance (Carbonell and Goldstein, 1998), most relevant first.

    The next is the one whose similarity to the target exceeds most its greatest similarity to those that are taken.
    """
    taken: list[str] = []
    while len(taken) < min(k, len(similarity)):
        left = [name for name in similarity if name not in taken]
        taken.append(max(left, key=lambda name: similarity[name] - max((between(name, o) for o in taken), default=0.0)))
    return taken
