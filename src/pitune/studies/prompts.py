"""Does a multitask source help? Each target alone and from a source over other tasks (MVLPT, stages 1 and 2).

Three protocols ask it: CoOp's shots, ELEVATER's shots and parts, and cross-task generalisation, where sources and
targets are different lists. Optimiser and steps are ours, the same for both arms. Both learn from every label of a
draw, those that others would stop by among them; ELEVATER's protocol alone says which are to stop by.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pitune.errors import InputError
from pitune.experts import Expert
from pitune.studies.plans import PromptPlan
from pitune.studies.results import PromptsResults
from pitune.studies.rows import Measured, Measures
from pitune.studies.sources import check_kind, joins_names, kind_of, source_expert, target_settings, vectors_of
from pitune.studies.statistics import method_means, summed_gains
from pitune.studies.study import Study, at_most, distinct, measured, open_backbone, open_task
from pitune.studies.workers import Spread
from pitune.tasks import Draw, Task, few_shot
from pitune.training import fit_every_label, fit_expert

ZERO_SHOT = "zero-shot"


@dataclass(frozen=True)
class Cell:
    """One kind of expert on one draw of a target's labels."""

    plan: PromptPlan
    out: Path
    task: str
    method: str
    shots: int | None
    seed: int

    def measures(self) -> Measures:
        """Return what is measured: the backbone alone, the target alone, and begun from a source."""
        name, zero_shot, alone, many = open_task(self.task).name, *arms(self.method)
        return {
            (name, zero_shot, self.shots, self.seed): partial(self._score, lambda: None),
            (name, alone, self.shots, self.seed): partial(self._score, partial(self._expert, alone, None)),
            (name, many, self.shots, self.seed): partial(self._score, lambda: self._expert(many, self.source())),
        }

    def source(self) -> Expert:
        """Return the expert of all sources but the target, trained if need be."""
        plan = self.plan
        own = {"mixing": plan.mixing, **vectors_of(plan, self.method)}
        tasks = sources_of(plan, self.task)
        return source_expert(plan, tasks, self.out, method=self.method, shots=plan.source_shots, **own)

    def _expert(self, arm: str, start: Expert | None) -> Expert:
        plan, draw = self.plan, drawn(self.plan, open_task(self.task), self.shots, self.seed)
        few = "all" if self.shots is None else self.shots
        run = self.out / "runs" / f"{draw.task.stem}-{few}-{self.seed}-{arm.replace(' ', '-')}"
        own = {"start": start, "run": run, **vectors_of(plan, self.method)}
        settings, kind = target_settings(plan, draw, self.method), kind_of(self.method)
        train = fit_expert if plan.protocol == "elevater" else fit_every_label
        return train(open_backbone(plan), draw, method=kind, settings=settings, **own)[0]

    def _score(self, expert: Callable[[], Expert | None]) -> Measured:
        task = open_task(self.task)
        test = at_most(task.examples("test"), self.plan.test)
        return measured(open_backbone(self.plan), task, expert(), test)


def run_prompts(plan: PromptPlan, out: Path, *, workers: int | Spread = 1, progress: bool = True) -> PromptsResults:
    """Train every source, then measure every target alone and from its source, on every draw.

    What is there already is kept: experts in `sources/`, rows in `rows.jsonl`, checkpoints in `runs/`. Raise
    `InputError` before anything is trained if the plan cannot be carried out.
    """
    _check(plan)
    study = Study(out, workers, progress)
    common = ("protocol", "source_shots", "mixing", "test", "length", "source_training", "training")
    names = joins_names(plan, plan.methods)
    study.keep(plan, common, sources=[open_task(source).name for source in plan.sources], **names)
    cells = [
        Cell(plan, out, task, method, shots, seed)
        for seed in plan.all_seeds
        for task in plan.targets
        for shots in plan.shots
        for method in plan.methods
    ]
    wanted = {(sources_of(plan, cell.task), cell.method): cell for cell in study.lacking(cells)}
    study.each(Cell.source, list(wanted.values()), "sources")
    rows = study.measure(cells)
    by_kind = [arms(method) for method in plan.methods]
    means = method_means(rows, [ZERO_SHOT, *(arm for _, *both in by_kind for arm in both)])
    gains = [gain for _, alone, many in by_kind for gain in summed_gains(rows, many, alone)]
    return study.write(PromptsResults, plan, rows, study=plan.protocol, means=means, gains=gains)


def arms(method: str) -> tuple[str, str, str]:
    """Return the names of what is measured: the backbone alone, the target alone, and begun from a source."""
    return ZERO_SHOT, f"{method} alone", f"{method} from multitask"


def sources_of(plan: PromptPlan, target: str) -> tuple[str, ...]:
    """Return the sources that a target may start from: all but itself."""
    name = open_task(target).name
    return tuple(source for source in plan.sources if open_task(source).name != name)


def drawn(plan: PromptPlan, task: Task, shots: int | None, seed: int) -> Draw:
    """Return the examples of one run; ELEVATER takes those to stop by from the shots themselves, one in five."""
    draw = few_shot(task, shots, seed)
    if plan.protocol != "elevater":
        return draw
    by_class: dict[str, list[str]] = {}
    for example in draw.train:
        by_class.setdefault(example.target, []).append(example.id)
    held = {name for ids in by_class.values() for name in ids[: len(ids) // 5]}
    return replace(
        draw,
        train=tuple(example for example in draw.train if example.id not in held),
        validation=tuple(example for example in draw.train if example.id in held),
    )


def _check(plan: PromptPlan) -> None:
    if not plan.targets or plan.seeds < 1:
        raise InputError(f"{len(plan.targets)} targets and {plan.seeds} seeds; expected 1 or more of each")
    distinct(plan.sources)
    names = distinct(plan.targets)
    for target in plan.targets:
        if not sources_of(plan, target):
            raise InputError(f"target {names[target]!r} has no source but itself; give more sources")
        for shots in plan.shots:
            few_shot(open_task(target), shots, plan.first_seed)
    for method in plan.methods:
        check_kind(open_backbone(plan), method)
