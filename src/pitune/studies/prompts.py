"""Does a multitask source help? Each target alone and from a source over other tasks (MVLPT, stages 1 and 2).

Three protocols ask it: CoOp's shots, ELEVATER's shots and parts, and cross-task generalisation, where sources and
targets are different lists. Optimiser and steps are ours, the same for both arms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from pitune.errors import InputError
from pitune.experts import get_method
from pitune.files import json_bytes, write_atomic
from pitune.prediction import spread
from pitune.studies.baselines import Measured, measured
from pitune.studies.prompt_sources import ADAPTATION, RESULTS, ROWS, SOURCE, adapted, source_expert, vectors_of
from pitune.studies.rows import Rows, environment
from pitune.studies.shared import distinct, keep_plan, open_backbone, open_task
from pitune.studies.statistics import method_means, summed_gains
from pitune.studies.workers import run_jobs
from pitune.tasks import Example, Task
from pitune.training import Data, TrainingSettings, expert_stem, sample

Protocol = Literal["coop", "elevater", "cross-task"]
KINDS = ("text_prompt", "visual_prompt", "unified_prompt")
SHOTS: dict[Protocol, tuple[int | None, ...]] = {
    "coop": (1, 2, 4, 8, 16),
    "elevater": (5, 20, 50),
    "cross-task": (5, 20, 50),
}
ZERO_SHOT = "zero-shot"


@dataclass(frozen=True)
class PromptPlan:
    """What is asked; every part of it is in the results. A target is never among its own sources."""

    protocol: Protocol
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    methods: tuple[str, ...] = KINDS
    shots: tuple[int | None, ...] = (4, 16)
    source_shots: int | None = None
    seeds: int = 3
    first_seed: int = 0
    test: int | None = None
    length: int | None = None
    mixing: str = "balanced"
    backbone: str = "pocket"
    device: str | None = None
    source_training: TrainingSettings = SOURCE
    training: TrainingSettings = ADAPTATION


@dataclass(frozen=True)
class Cell:
    """One kind of expert on one draw of a target's labels; without a seed, the source that it starts from."""

    plan: PromptPlan
    out: Path
    task: str
    method: str
    shots: int | None = None
    seed: int | None = None


def run_prompts(plan: PromptPlan, out: Path, workers: int = 1, progress: bool = True) -> dict[str, Any]:
    """Train every source, then measure every target alone and from its source, on every draw.

    What is there already is kept: experts in `sources/`, rows in `rows.jsonl`, checkpoints in `runs/`. Raise
    `InputError` before anything is trained if the plan cannot be carried out.
    """
    names = _checked(plan)
    backbone = open_backbone(plan.backbone, plan.device)
    keep_plan(out / "plan.json", {**_common(plan, names), "backbone": backbone.fingerprint})
    cells = [
        Cell(plan, out, task, method, shots, seed)
        for seed in range(plan.first_seed, plan.first_seed + plan.seeds)
        for task in plan.targets
        for shots in plan.shots
        for method in plan.methods
    ]
    rows = Rows(out / ROWS)
    waiting = [cell for cell in cells if any(_key(cell, arm) not in rows for arm in arms(cell.method))]
    wanted = {(sources_of(plan, cell.task), cell.method): Cell(plan, out, cell.task, cell.method) for cell in waiting}
    run_jobs(_train_source, list(wanted.values()), workers, "sources" if progress else "")
    run_jobs(_measure, waiting, workers, "targets" if progress else "")
    keys = {_key(cell, arm) for cell in cells for arm in arms(cell.method)}
    kept = [row for row in Rows(out / ROWS) if row.key in keys]
    found = {
        "schema": 1,
        "study": plan.protocol,
        "environment": environment(backbone),
        "plan": TypeAdapter(PromptPlan).dump_python(plan, mode="json"),
        "rows": [row.model_dump() for row in kept],
        "means": method_means(kept, [ZERO_SHOT, *(arm for method in plan.methods for arm in arms(method)[1:])]),
        "gains": [
            {"method": many, **gain}
            for method in plan.methods
            for _, alone, many in [arms(method)]
            for gain in summed_gains(kept, many, alone)
        ],
    }
    write_atomic(out / RESULTS, json_bytes(found))
    return found


def arms(method: str) -> tuple[str, str, str]:
    """Return the names of what is measured: the backbone alone, the target alone, and begun from a source."""
    return ZERO_SHOT, f"{method} alone", f"{method} from multitask"


def sources_of(plan: PromptPlan, target: str) -> tuple[str, ...]:
    """Return the sources that a target may start from: all but itself."""
    name = open_task(target).name
    return tuple(source for source in plan.sources if open_task(source).name != name)


def drawn(plan: PromptPlan, task: Task, shots: int | None, seed: int) -> Data:
    """Return the examples of one run; ELEVATER takes those to stop by from the shots themselves, one in five."""
    data = sample(task, shots, seed)
    if plan.protocol != "elevater":
        return data
    by_class: dict[str, list[Example]] = {}
    for example in data.train:
        by_class.setdefault(example.target, []).append(example)
    held = {example.id for found in by_class.values() for example in found[: len(found) // 5]}
    train = tuple(example for example in data.train if example.id not in held)
    return Data(train, tuple(example for example in data.train if example.id in held), shots, seed)


def _checked(plan: PromptPlan) -> dict[str, str]:
    for method in plan.methods:
        get_method(method)
    if not plan.targets or plan.seeds < 1:
        raise InputError(f"{len(plan.targets)} targets and {plan.seeds} seeds; expected 1 or more of each")
    distinct(plan.sources)
    names = distinct(plan.targets)
    for target in plan.targets:
        if not sources_of(plan, target):
            raise InputError(f"target {names[target]!r} has no source but itself; give more sources")
        for shots in plan.shots:
            sample(open_task(target), shots, plan.first_seed)
    backbone = open_backbone(plan.backbone, plan.device)
    for method in plan.methods:
        backbone.attachment(method)
    return names


def _common(plan: PromptPlan, names: dict[str, str]) -> dict[str, Any]:
    """Return what all rows of a folder share; more targets, kinds, shots or seeds may join it."""
    return {
        "protocol": plan.protocol,
        "sources": [open_task(source).name for source in plan.sources],
        "source_shots": plan.source_shots,
        "mixing": plan.mixing,
        "test": plan.test,
        "length": plan.length,
        "source_training": plan.source_training.model_dump(),
        "training": plan.training.model_dump(),
    }


def _key(cell: Cell, arm: str) -> tuple[str, str, int | None, int]:
    assert cell.seed is not None
    return open_task(cell.task).name, arm, cell.shots, cell.seed


def _train_source(cell: Cell) -> None:
    plan = cell.plan
    source_expert(
        open_backbone(plan.backbone, plan.device),
        sources_of(plan, cell.task),
        cell.method,
        plan.source_shots,
        plan.source_training,
        cell.out,
        mixing=plan.mixing,
        **vectors_of(cell.method, plan.length),
    )


def _measure(cell: Cell) -> None:
    """Measure what the rows lack of one cell."""
    assert cell.seed is not None
    task, rows = open_task(cell.task), Rows(cell.out / ROWS)
    for arm in arms(cell.method):
        rows.measure(task.name, arm, cell.shots, cell.seed, partial(_run, cell, arm))


def _run(cell: Cell, arm: str) -> Measured:
    plan, task = cell.plan, open_task(cell.task)
    backbone = open_backbone(plan.backbone, plan.device)
    test = _test(plan, task)
    if arm == ZERO_SHOT:
        return measured(backbone, task, None, test)
    start = None
    if arm == arms(cell.method)[2]:
        start = source_expert(
            backbone,
            sources_of(plan, cell.task),
            cell.method,
            plan.source_shots,
            plan.source_training,
            cell.out,
            mixing=plan.mixing,
            **vectors_of(cell.method, plan.length),
        )
    assert cell.seed is not None
    data = drawn(plan, task, cell.shots, cell.seed)
    few = "all" if cell.shots is None else cell.shots
    run = cell.out / "runs" / f"{expert_stem(task.name)}-{few}-{cell.seed}-{arm.replace(' ', '-')}"
    own = vectors_of(cell.method, plan.length)
    return measured(backbone, task, adapted(backbone, task, data, cell.method, plan.training, start, run, **own), test)


def _test(plan: PromptPlan, task: Task) -> Sequence[Example]:
    examples = task.examples("test")
    return examples if plan.test is None else spread(examples, plan.test)
