"""Which task's expert helps which: N × N transfer for one kind of expert, beside what predicts it (MVLPT's study).

`T[s,t] = (m_{s→t} − m_{zs,t}) / (m_{t→t} − m_{zs,t})` with m a metric, zs the backbone alone, and nothing where the
denominator is small. The normalisation and the similarities are ours; the paper's are not public.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pitune.errors import InputError
from pitune.experts import Expert
from pitune.extras import need
from pitune.studies.plans import STAGES, Stage, TransferPlan
from pitune.studies.results import Correlation, Half, PairValues, Row, TransferResults
from pitune.studies.rows import Measured, Measures
from pitune.studies.similarities import similarities
from pitune.studies.sources import check_kind, joins_names, kind_of, source_expert, target_settings, vectors_of
from pitune.studies.study import (
    Study,
    at_most,
    distinct,
    held_out,
    measured,
    open_backbone,
    open_task,
)
from pitune.studies.workers import Spread
from pitune.tasks import few_shot, stem_of
from pitune.training import fit_every_label

HALVES: tuple[Half, ...] = ("validation", "test")
ALONE = "alone"
ZERO_SHOT = "zero-shot"
SMALL = 0.02  # of a metric: a gain of the target's own expert below this is no measure for others


@dataclass(frozen=True)
class Pair:
    """One source and one target at one stage; a task with itself is its own expert."""

    plan: TransferPlan
    out: Path
    source: str
    target: str
    seed: int
    stage: Stage

    def measures(self) -> Measures:
        """Return what is measured of the pair, on either half; an expert is scored on both while it is there."""
        source, itself = open_task(self.source).name, self.source == self.target
        experts: dict[str, Callable[[], Expert | None]] = {}
        if self.stage == "adapted":
            experts[ALONE if itself else f"from {source}, adapted"] = cache(self._adapted)
        else:
            if itself:
                experts[ZERO_SHOT] = lambda: None
            experts[f"from {source}"] = cache(self._unchanged)
        task = open_task(self.target).name
        return {
            (task, f"{name} ({half})", self.plan.shots, self.seed): partial(self._score, expert, half)
            for name, expert in experts.items()
            for half in HALVES
        }

    def _unchanged(self) -> Expert:
        return _source(self.plan, self.out, self.source)

    def _adapted(self) -> Expert:
        plan, draw = self.plan, few_shot(open_task(self.target), self.plan.shots, self.seed)
        start = None if self.source == self.target else self._unchanged()
        name = f"{draw.task.stem}-{self.seed}-from-{stem_of(start.name if start else ALONE)}"
        own = {"start": start, "run": self.out / "runs" / name, **vectors_of(plan, plan.method)}
        settings, kind = target_settings(plan, draw, plan.method), kind_of(plan.method)
        return fit_every_label(open_backbone(plan), draw, method=kind, settings=settings, **own)[0]

    def _score(self, expert: Callable[[], Expert | None], half: Half) -> Measured:
        """Score by examples of a part: of the validation part those that no run of the seed has drawn, if any."""
        plan, task = self.plan, open_task(self.target)
        if half == "validation":
            examples = held_out(few_shot(task, plan.shots, self.seed), plan.test)
        else:
            examples = at_most(task.examples("test"), plan.test)
        return measured(open_backbone(plan), task, expert(), examples)


def run_transfer(plan: TransferPlan, out: Path, *, workers: int | Spread = 1, progress: bool = True) -> TransferResults:
    """Train each task's own expert, then measure every pair as it is, and at last adapted to the target's few labels.

    Each pair is a row as soon as it is known, and `results.json` is there after either stage. Raise `InputError`
    before anything is trained if the plan cannot be carried out.
    """
    names = _check(plan)
    study = Study(out, workers, progress)
    common = ("method", "shots", "source_shots", "test", "length", "source_training", "training")
    study.keep(plan, common, study="transfer", **joins_names(plan, (plan.method,)))
    study.each(partial(_source, plan, out), plan.tasks, "sources")
    draws = [few_shot(open_task(task), plan.shots, 0) for task in plan.tasks]
    alike = similarities(open_backbone(plan), draws)
    rows: list[Row] = []
    for stage in STAGES if "adapted" in plan.stages else STAGES[:1]:
        pairs = [
            Pair(plan, out, source, target, seed, stage)
            for seed in plan.all_seeds
            for target in plan.tasks
            for source in plan.tasks
        ]
        rows += study.measure(pairs, stage)
        matrices = {half: {stage: transfer_matrix(rows, names, half, stage) for stage in STAGES} for half in HALVES}
        results = study.write(
            TransferResults,
            plan,
            rows,
            study="transfer",
            tasks=tuple(names),
            transfer=matrices,
            similarity={name: matrix.tolist() for name, matrix in alike.items()},
            correlations={
                stage: {name: correlation(matrices["test"][stage], matrix) for name, matrix in alike.items()}
                for stage in STAGES
            },
        )
    return results


def transfer_matrix(rows: Sequence[Row], names: Sequence[str], half: Half, stage: Stage) -> PairValues:
    """Return T (N, N), source by target, of means over seeds.

    None where the target's own gain is below `SMALL`, or the pair is not measured yet.
    """
    values: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        values.setdefault((row.task, row.method), []).append(row.value)

    def mean(task: str, method: str) -> float:
        return float(np.mean(values.get((task, f"{method} ({half})"), [np.nan])))

    def share(source: str, target: str) -> float | None:
        before = mean(target, ZERO_SHOT)
        own = mean(target, f"from {target}" if stage == "zero-adaptation" else ALONE) - before
        adaptation = ", adapted" if stage == "adapted" else ""
        gain = mean(target, f"from {source}{adaptation}") - before if source != target else own
        return gain / own if abs(own) >= SMALL and np.isfinite(gain) else None

    return tuple(tuple(share(source, target) for target in names) for source in names)


def correlation(matrix: PairValues, alike: NDArray[np.float64]) -> Correlation:
    """Return Spearman's rank correlation of transfer and similarity over all pairs of two tasks with a transfer."""
    pairs = [
        (value, alike[i, j])
        for i, line in enumerate(matrix)
        for j, value in enumerate(line)
        if i != j and value is not None
    ]
    if len(pairs) < 3 or any(np.ptp(column) == 0 for column in zip(*pairs, strict=True)):
        return Correlation(rho=None, pairs=len(pairs))
    first, second = zip(*pairs, strict=True)
    rho = need("scipy.stats", "metrics").spearmanr(first, second).statistic
    return Correlation(rho=float(rho), pairs=len(pairs))


def read_transfer(path: Path, names: Sequence[str]) -> NDArray[np.float64]:
    """Return the measured transfer (N, N) between tasks out of a study's `results.json`, by validation data.

    Raise `InputError` if the file is no such study, lacks a task, or has no measure for a pair.
    """
    results = TransferResults.read(path)
    tasks, matrix = results.tasks, results.transfer.get("validation", {}).get("adapted")
    if matrix is None:
        raise InputError(f"{path}: has no transfer of adapted experts by validation data; run `pitune study transfer`")
    for name in names:
        if name not in tasks:
            raise InputError(f"{path}: has no task {name!r}; it has: {', '.join(tasks)}")
    order = [tasks.index(name) for name in names]
    chosen = [[1.0 if i == j else matrix[i][j] for j in order] for i in order]
    for i, row in enumerate(chosen):
        for j, value in enumerate(row):
            if value is None:
                raise InputError(
                    f"{path}: has no transfer from {names[i]!r} to {names[j]!r}, whose own gain is too small to "
                    "measure by; leave that task out"
                )
    return np.asarray(chosen, dtype=np.float64)


def _check(plan: TransferPlan) -> list[str]:
    """Return the tasks' names; raise `InputError` if the plan cannot be carried out."""
    if len(plan.tasks) < 2 or plan.seeds < 1:
        raise InputError(f"{len(plan.tasks)} task(s) and {plan.seeds} seed(s); expected 2 tasks and 1 seed or more")
    names = list(distinct(plan.tasks).values())
    for task in plan.tasks:
        few_shot(open_task(task), plan.shots, plan.first_seed)
    check_kind(open_backbone(plan), plan.method)
    return names


def _source(plan: TransferPlan, out: Path, task: str) -> Expert:
    own = vectors_of(plan, plan.method)
    return source_expert(plan, [task], out, method=plan.method, shots=plan.source_shots, **own)
