"""Which task's expert helps which: N × N transfer for one kind of expert, beside what predicts it (MVLPT's study).

`T[s,t] = (m_{s→t} − m_{zs,t}) / (m_{t→t} − m_{zs,t})` with m a metric, zs the backbone alone, and nothing where the
denominator is small. The normalisation and the similarities are ours; the paper's are not public.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from scipy.stats import spearmanr

from pitune.errors import InputError
from pitune.experts import Expert, get_method
from pitune.files import json_bytes, write_atomic
from pitune.prediction import spread
from pitune.studies.baselines import Measured, measured
from pitune.studies.prompt_sources import ADAPTATION, RESULTS, ROWS, SOURCE, adapted, source_expert, vectors_of
from pitune.studies.rows import Row, Rows, environment
from pitune.studies.shared import distinct, held_out, keep_plan, open_backbone, open_task
from pitune.studies.similarities import similarities
from pitune.studies.workers import run_jobs
from pitune.tasks import Example, Task
from pitune.training import TrainingSettings, expert_stem, sample

Part = Literal["validation", "test"]
Stage = Literal["zero-adaptation", "adapted"]
PARTS: tuple[Part, ...] = ("validation", "test")
STAGES: tuple[Stage, ...] = ("zero-adaptation", "adapted")
ALONE = "alone"
ZERO_SHOT = "zero-shot"
SMALL = 0.02  # of a metric: a gain of the target's own expert below this is no measure for others


@dataclass(frozen=True)
class TransferPlan:
    """What is measured; every part of it is in the results."""

    tasks: tuple[str, ...]
    method: str = "visual_prompt"
    shots: int | None = 16
    source_shots: int | None = None
    seeds: int = 1
    first_seed: int = 0
    test: int = 200
    stages: tuple[Stage, ...] = STAGES
    length: int | None = None
    backbone: str = "pocket"
    device: str | None = None
    source_training: TrainingSettings = SOURCE
    training: TrainingSettings = ADAPTATION


@dataclass(frozen=True)
class Pair:
    """One source and one target at one stage; without a target, the source's own expert; with itself, the target."""

    plan: TransferPlan
    out: Path
    source: str
    target: str = ""
    seed: int = 0
    stage: Stage = "zero-adaptation"


def run_transfer(plan: TransferPlan, out: Path, workers: int = 1, progress: bool = True) -> dict[str, Any]:
    """Train each task's own expert, then measure every pair as it is, and at last adapted to the target's few labels.

    Each pair is a row as soon as it is known, and `results.json` is there after either stage. Raise `InputError`
    before anything is trained if the plan cannot be carried out.
    """
    names = _checked(plan)
    backbone = open_backbone(plan.backbone, plan.device)
    keep_plan(out / "plan.json", {**_common(plan), "backbone": backbone.fingerprint})
    run_jobs(_train_source, [Pair(plan, out, task) for task in plan.tasks], workers, "sources" if progress else "")
    alike = similarities(backbone, [open_task(task) for task in plan.tasks], plan.shots)
    pairs: list[Pair] = []
    found: dict[str, Any] = {}
    for stage in STAGES if "adapted" in plan.stages else STAGES[:1]:
        new = [
            Pair(plan, out, source, target, seed, stage)
            for seed in range(plan.first_seed, plan.first_seed + plan.seeds)
            for target in plan.tasks
            for source in plan.tasks
        ]
        rows = Rows(out / ROWS)
        waiting = [pair for pair in new if any(_key(pair, name, part) not in rows for name, part in _measures(pair))]
        run_jobs(_measure, waiting, workers, stage if progress else "")
        pairs += new
        found = _results(plan, names, pairs, alike, out)
        write_atomic(out / RESULTS, json_bytes(found))
    return found


def _results(
    plan: TransferPlan, names: list[str], pairs: Sequence[Pair], alike: Mapping[str, NDArray[np.float64]], out: Path
) -> dict[str, Any]:
    wanted = {_key(pair, name, part) for pair in pairs for name, part in _measures(pair)}
    kept = [row for row in Rows(out / ROWS) if row.key in wanted]
    matrices = {part: {stage: transfer_matrix(kept, names, part, stage) for stage in STAGES} for part in PARTS}
    return {
        "schema": 1,
        "study": "transfer",
        "environment": environment(open_backbone(plan.backbone, plan.device)),
        "plan": TypeAdapter(TransferPlan).dump_python(plan, mode="json"),
        "tasks": names,
        "rows": [row.model_dump() for row in kept],
        "transfer": matrices,
        "similarity": {name: matrix.tolist() for name, matrix in alike.items()},
        "correlations": {
            stage: {name: correlation(matrices["test"][stage], matrix) for name, matrix in alike.items()}
            for stage in STAGES
        },
    }


def transfer_matrix(rows: Sequence[Row], names: Sequence[str], part: Part, stage: Stage) -> list[list[float | None]]:
    """Return T (N, N), source by target, of means over seeds.

    None where the target's own gain is below `SMALL`, or the pair is not measured yet.
    """
    values: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        values.setdefault((row.task, row.method), []).append(row.value)

    def mean(task: str, method: str) -> float:
        return float(np.mean(values.get((task, f"{method} ({part})"), [np.nan])))

    def share(source: str, target: str) -> float | None:
        before = mean(target, ZERO_SHOT)
        own = mean(target, f"from {target}" if stage == "zero-adaptation" else ALONE) - before
        adaptation = ", adapted" if stage == "adapted" else ""
        gain = mean(target, f"from {source}{adaptation}") - before if source != target else own
        return gain / own if abs(own) >= SMALL and np.isfinite(gain) else None

    return [[share(source, target) for target in names] for source in names]


def correlation(matrix: Sequence[Sequence[float | None]], alike: NDArray[np.float64]) -> dict[str, float | int | None]:
    """Return Spearman's rank correlation of transfer and similarity over all pairs of two tasks with a transfer."""
    pairs = [
        (value, alike[i, j])
        for i, line in enumerate(matrix)
        for j, value in enumerate(line)
        if i != j and value is not None
    ]
    if len(pairs) < 3 or any(np.ptp(column) == 0 for column in zip(*pairs, strict=True)):
        return {"rho": None, "pairs": len(pairs)}
    first, second = zip(*pairs, strict=True)
    return {"rho": float(spearmanr(first, second).statistic), "pairs": len(pairs)}


def read_transfer(path: Path, names: Sequence[str]) -> NDArray[np.float64]:
    """Return the measured transfer (N, N) between tasks out of a study's `results.json`, by validation data.

    Raise `InputError` if the file is no such study, lacks a task, or has no measure for a pair.
    """
    try:
        found = json.loads(path.read_bytes())
        tasks, matrix = list(found["tasks"]), found["transfer"]["validation"]["adapted"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is not the results.json of `pitune study transfer` ({error!r})") from error
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


def _checked(plan: TransferPlan) -> list[str]:
    get_method(plan.method)
    if len(plan.tasks) < 2 or plan.seeds < 1:
        raise InputError(f"{len(plan.tasks)} task(s) and {plan.seeds} seed(s); expected 2 tasks and 1 seed or more")
    names = list(distinct(plan.tasks).values())
    for task in plan.tasks:
        sample(open_task(task), plan.shots, plan.first_seed)
    open_backbone(plan.backbone, plan.device).attachment(plan.method)
    return names


def _common(plan: TransferPlan) -> dict[str, Any]:
    """Return what all rows of a folder share; more tasks and seeds may join it."""
    return {
        "study": "transfer",
        "method": plan.method,
        "shots": plan.shots,
        "source_shots": plan.source_shots,
        "test": plan.test,
        "length": plan.length,
        "source_training": plan.source_training.model_dump(),
        "training": plan.training.model_dump(),
    }


def _key(pair: Pair, name: str, part: Part) -> tuple[str, str, int | None, int]:
    return open_task(pair.target).name, f"{name} ({part})", pair.plan.shots, pair.seed


def _measures(pair: Pair) -> list[tuple[str, Part]]:
    """Return what is measured of a pair, on either part."""
    source, itself = open_task(pair.source).name, pair.source == pair.target
    if pair.stage == "adapted":
        names = [ALONE if itself else f"from {source}, adapted"]
    else:
        names = [*([ZERO_SHOT] if itself else []), f"from {source}"]
    return [(name, part) for name in names for part in PARTS]


def _train_source(pair: Pair) -> None:
    _source(pair)


def _source(pair: Pair) -> Expert:
    plan = pair.plan
    backbone = open_backbone(plan.backbone, plan.device)
    own = vectors_of(plan.method, plan.length)
    return source_expert(backbone, [pair.source], plan.method, plan.source_shots, plan.source_training, pair.out, **own)


def _measure(pair: Pair) -> None:
    """Measure what the rows lack of one pair; an expert is scored on both parts while it is there."""
    rows, made = Rows(pair.out / ROWS), dict[str, Expert | None]()
    for name, part in _measures(pair):
        rows.measure(*_key(pair, name, part), partial(_run, pair, name, part, made))


def _run(pair: Pair, name: str, part: Part, made: dict[str, Expert | None]) -> Measured:
    plan, task = pair.plan, open_task(pair.target)
    backbone = open_backbone(plan.backbone, plan.device)
    if name not in made:
        made[name] = _expert(pair, name, task)
    return measured(backbone, task, made[name], _examples(plan, task, part, pair.seed))


def _expert(pair: Pair, name: str, task: Task) -> Expert | None:
    if name == ZERO_SHOT:
        return None
    if name != ALONE and not name.endswith(", adapted"):
        return _source(pair)
    plan = pair.plan
    start = None if name == ALONE else _source(pair)
    data = sample(task, plan.shots, pair.seed)
    run = pair.out / "runs" / f"{expert_stem(task.name)}-{pair.seed}-from-{expert_stem(start.name if start else ALONE)}"
    own, backbone = vectors_of(plan.method, plan.length), open_backbone(plan.backbone, plan.device)
    return adapted(backbone, task, data, plan.method, plan.training, start, run, **own)


def _examples(plan: TransferPlan, task: Task, part: Part, seed: int) -> Sequence[Example]:
    """Return examples to score by: of the validation part those that no run of the seed has drawn, if any."""
    if part == "validation":
        return held_out(task, sample(task, plan.shots, seed), plan.test)
    return spread(task.examples(part), plan.test)
