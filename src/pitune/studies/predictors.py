"""Which score tells best which source helps: each source's expert measured on each target, and what was predicted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts import ExpertPool
from pitune.files import json_bytes, write_atomic
from pitune.interpolation import TuneSettings
from pitune.prediction import spread
from pitune.studies.baselines import Measured, measured
from pitune.studies.compare import cells_of, prepare_pool
from pitune.studies.ranking import FEWEST, ByTarget, mean_rank, reliability, summary
from pitune.studies.rows import Row, Rows, environment
from pitune.studies.scores import SCORES, Pair, Source, Target
from pitune.studies.shared import open_task
from pitune.studies.trial import Cell, ComparePlan, open_backbone_of
from pitune.studies.workers import run_jobs
from pitune.tasks import Example, Task, expand
from pitune.training import Evaluation, TrainingSettings, evaluate_expert, expert_name, fit_expert, sample

ROWS = "predictors.jsonl"
RESULTS = "predictors.json"
ZERO_SHOT, ZERO_SHOT_LOSS = "zero-shot", "zero-shot-loss"
HALVES = ("-1", "-2")
# what is measured of a source's expert on a target: as it is, by metric and by −loss; or trained on for a few steps
UNCHANGED, UNCHANGED_LOSS, ADAPTED = "unchanged", "unchanged-loss", "adapted"
# predictors that are the mean rank of several scores
COMBINED: Mapping[str, tuple[str, ...]] = {
    "probe-fisher + label-similarity": ("probe-fisher", "label-similarity"),
    "probe-fisher + trial": ("probe-fisher", "trial"),
    "label-similarity + trial": ("label-similarity", "trial"),
    "probe-fisher + calibrated-trial": ("probe-fisher", "calibrated-trial"),
}
PLAN = ComparePlan(
    shots=(4,), seeds=3, test=200, tuning=TuneSettings(training=TrainingSettings(steps=30, evaluations=3))
)


@dataclass(frozen=True)
class _Job:
    """One target with some labels, against every source."""

    cell: Cell
    sources: tuple[str, ...]
    adapted: bool


def run_predictors(
    plan: ComparePlan, out: Path, adapted: bool = False, workers: int = 1, progress: bool = True
) -> dict[str, Any]:
    """Measure every source's expert on every target's test part, score every source, and compare the two.

    Scores read few labels of the target's train and validation parts, never its test part. `adapted` measures, too,
    what a source's expert is worth after `plan.tuning.training` on the few labels; a target's own expert, for the
    Fisher information at it, is trained as long. Sources are the experts of the pool of `pitune study compare`,
    trained if need be. Rows are kept in `predictors.jsonl` beside it.
    """
    if len(plan.shots) != 1 or plan.shots[0] is None:
        raise InputError("predictors are compared at one number of shots; give --shots a single number")
    count = len(expand(plan.tasks))
    if count < FEWEST + 1:
        raise InputError(f"{count} task(s); expected {FEWEST + 1} or more, so that each has {FEWEST} sources to rank")
    tasks = prepare_pool(plan, out, workers, progress)
    jobs = [_Job(cell, tuple(tasks), adapted) for cell in cells_of(plan, tasks, out)]
    run_jobs(_measure, jobs, workers, "targets" if progress else "")
    rows = _of_plan(Rows(out / ROWS), plan, {open_task(name).name for name in tasks})
    kinds = (UNCHANGED, UNCHANGED_LOSS, *([ADAPTED] if adapted else []))
    found = {
        "schema": 1,
        "environment": environment(open_backbone_of(plan)),
        "plan": TypeAdapter(ComparePlan).dump_python(plan, mode="json"),
        "rows": [row.model_dump() for row in rows],
        "predictors": {kind: predictors(rows, kind, plan) for kind in kinds},
        "reliability": {
            kind: reliability(*(_table(rows, kind + half, None, 0) for half in HALVES)) for kind in kinds[:2]
        },
    }
    write_atomic(out / RESULTS, json_bytes(found))
    return found


def _of_plan(rows: Iterable[Row], plan: ComparePlan, names: Set[str]) -> list[Row]:
    """Return the rows that a plan asks for; the file may hold others."""
    draws = {(None, 0), *((plan.shots[0], seed) for seed in range(plan.first_seed, plan.first_seed + plan.seeds))}
    sources = {"", *names}
    return [
        row
        for row in rows
        if row.task in names and (row.shots, row.seed) in draws and row.method.partition(" ")[2] in sources
    ]


def predictors(rows: Sequence[Row], kind: str, plan: ComparePlan) -> list[dict[str, Any]]:
    """Return how well each predictor ranks what was measured, best rank correlation first."""
    shots = plan.shots[0]
    seeds = range(plan.first_seed, plan.first_seed + plan.seeds)
    truth = [gains(rows, kind, shots, seed) for seed in seeds]
    scores: dict[str, list[ByTarget]] = {name: [_table(rows, name, shots, seed) for seed in seeds] for name in SCORES}
    for name, parts in COMBINED.items():
        scores[name] = [_combined([scores[part][i] for part in parts]) for i in range(plan.seeds)]
    scores["random"] = [{} for _ in seeds]
    found = [summary(name, list(zip(truth, tables, strict=True))) for name, tables in scores.items()]
    known = [one for one in found if one is not None]
    return sorted(known, key=lambda one: (one["predictor"] == "random", -one["spearman"]["mean"]))


def gains(rows: Sequence[Row], kind: str, shots: int | None, seed: int) -> ByTarget:
    """Return what each source's expert gains on each target over none at all, in shares of the metric, or in nats."""
    values = _table(rows, kind, *((shots, seed) if kind == ADAPTED else (None, 0)))
    zero_shot = ZERO_SHOT_LOSS if kind == UNCHANGED_LOSS else ZERO_SHOT
    base = {row.task: row.value for row in rows if row.method == zero_shot}
    return {target: {source: value - base[target] for source, value in each.items()} for target, each in values.items()}


def _table(rows: Sequence[Row], name: str, shots: int | None, seed: int) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        said, _, source = row.method.partition(" ")
        if said == name and source and (row.shots, row.seed) == (shots, seed):
            found.setdefault(row.task, {})[source] = row.value
    return found


def _combined(tables: Sequence[ByTarget]) -> ByTarget:
    shared = set.intersection(*(set(one) for one in tables))
    return {target: mean_rank([one[target] for one in tables]) for target in sorted(shared)}


@cache
def _source(plan: ComparePlan, out: Path, name: str) -> Source:
    task = open_task(name)
    return Source(open_backbone_of(plan), task, ExpertPool(out / "pool").get(expert_name(task, "lora", None, 0)))


def _measure(job: _Job) -> None:
    """Measure and score what the rows lack of one target, source by source."""
    plan, task = job.cell.plan, open_task(job.cell.task)
    assert job.cell.seed is not None
    rows, backbone = Rows(job.cell.out / ROWS), open_backbone_of(plan)
    data = sample(task, job.cell.shots, job.cell.seed)
    runs = job.cell.out / "runs" / expert_name(task, "lora", data.shots, data.seed)
    target = Target(backbone, task, data, plan.tuning.training, runs / "own")
    test = spread(task.examples("test"), plan.test)
    _look(rows, backbone, task, test, ZERO_SHOT, None)
    for name in job.sources:
        if name == job.cell.task:
            continue
        source = _source(plan, job.cell.out, name)
        _look(rows, backbone, task, test, UNCHANGED, source)
        pair = Pair(source, target)
        for score, (known, _) in SCORES.items():
            if known(pair):
                key = (task.name, f"{score} {source.task.name}", data.shots, data.seed)
                rows.measure(*key, partial(_scored, score, pair))
        if job.adapted:
            adapted = partial(_adapted, plan, source, target, runs / f"from-{source.expert.name}", test)
            rows.measure(task.name, f"{ADAPTED} {source.task.name}", data.shots, data.seed, adapted)


def _look(
    rows: Rows, backbone: Backbone, task: Task, test: Sequence[Example], kind: str, source: Source | None
) -> None:
    """Measure an expert, or none, by the task's metric and by −loss, and by halves, in one evaluation."""
    name = f" {source.task.name}" if source else ""
    evaluated = cache(partial(evaluate_expert, backbone, task, source.expert if source else None, test))
    rows.measure(task.name, f"{kind}{name}", None, 0, lambda: (task.metric, evaluated().value, len(test)))
    rows.measure(task.name, f"{kind}-loss{name}", None, 0, lambda: ("loss", -evaluated().loss, len(test)))
    if source is None:
        return
    for half in HALVES:
        row = f"{kind}-loss{half}{name}"
        rows.measure(task.name, row, None, 0, partial(_half, evaluated, test, half, "loss"))
        if task.metric == "accuracy":
            rows.measure(task.name, f"{kind}{half}{name}", None, 0, partial(_half, evaluated, test, half, "accuracy"))


def _half(evaluated: Callable[[], Evaluation], test: Sequence[Example], half: str, metric: str) -> Measured:
    """Return the mean over every other test example, in order of their ids."""
    found = evaluated()
    kept = {example.id for example in test[HALVES.index(half) :: 2]}
    at = [i for i, one in enumerate(found.ids) if one in kept]
    right = (found.scores.argmax(1) == found.target).float()
    return metric, float((right if metric == "accuracy" else -found.losses)[at].mean()), len(at)


def _scored(score: str, pair: Pair) -> Measured:
    return score, SCORES[score][1](pair), len(pair.target.support)


def _adapted(plan: ComparePlan, source: Source, target: Target, run: Path, test: Sequence[Example]) -> Measured:
    """Train a source's expert on the target's few labels, and measure what comes of it."""
    start, training = source.expert, plan.tuning.training
    expert, _ = fit_expert(target.backbone, target.task, target.data, "lora", training, start, run)
    return measured(target.backbone, target.task, expert, test)
