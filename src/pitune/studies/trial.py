"""One draw of a target's labels, and what methods need of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from shutil import copy2, copytree
from typing import Any

from pitune.backbones import Backbone
from pitune.experts import Expert, ExpertPool, digest
from pitune.files import atomic_folder
from pitune.interpolation import TuneResult, TuneSettings, tune_expert
from pitune.prediction import Neighbours, neighbours
from pitune.studies.plans import ComparePlan
from pitune.studies.results import Key
from pitune.studies.rows import Measured
from pitune.studies.study import POOL, at_most, measured, open_backbone, open_task
from pitune.tasks import Draw, Example, Task, few_shot
from pitune.training import fit_expert


@dataclass(frozen=True)
class Trial:
    """A target with a few labels, beside a pool of other tasks' experts; what two methods share is done once.

    Nothing is computed before it is asked for, and another process is told no more than the five fields.
    """

    plan: ComparePlan
    out: Path
    name: str
    shots: int | None
    seed: int

    def __reduce__(self) -> tuple[Any, ...]:
        return Trial, (self.plan, self.out, self.name, self.shots, self.seed)

    def key(self, method: str) -> Key:
        """Return what a row of a method on these labels is found by."""
        return self.task.name, method, self.shots, self.seed

    @property
    def task(self) -> Task:
        """The target."""
        return open_task(self.name)

    @property
    def backbone(self) -> Backbone:
        """The plan's backbone."""
        return open_backbone(self.plan)

    @property
    def pool(self) -> ExpertPool:
        """The experts of all tasks, the target's own data-rich one among them, or those that the plan was given."""
        return ExpertPool(Path(self.plan.pool) if self.plan.pool else self.out / POOL)

    @cached_property
    def draw(self) -> Draw:
        """The labels that every method may see."""
        return few_shot(self.task, self.shots, self.seed)

    @cached_property
    def test(self) -> list[Example]:
        """The examples that every method is scored by, and that none may see."""
        return at_most(self.task.examples("test"), self.plan.test)

    @cached_property
    def folder(self) -> Path:
        """Where runs on these labels are kept."""
        return self.out / "runs" / self.draw.expert_name("lora")

    @cached_property
    def neighbours(self) -> Neighbours:
        """The experts of all other tasks, nearest first."""
        return neighbours(self.backbone, self.draw, self.pool, k=len(self.pool), method="lora")

    def near(self, k: int | None = None) -> list[Expert]:
        """Return the experts of the k nearest tasks, as many as the plan says unless given."""
        return list(self.neighbours.experts[: k or self.plan.k])

    @cached_property
    def tuned(self) -> TuneResult:
        """π-Tuning's candidates and its choice."""
        result = tune_expert(self.backbone, self.draw, self.near(), settings=self.plan.tuning, run=self.folder / "pi")
        return replace(result, neighbours=tuple(self.neighbours.pairs[: self.plan.k]))

    def tuned_with(self, others: Sequence[Expert], name: str, settings: TuneSettings | None = None) -> TuneResult:
        """Tune with other experts for neighbours, or otherwise; the target's own expert alone is trained already."""
        settings, run = settings or self.plan.tuning, self.folder / name
        usual = self.plan.tuning.on(self.draw)
        alike = (settings.on(self.draw).folds, settings.pull) == (usual.folds, usual.pull)
        names = ["alone", *(["joint"] if others == self.near() else [])]
        if "alone" in settings.tried and alike and not run.exists() and self.tuned:
            with atomic_folder(run) as folder:
                for kept in (one for name in names for one in (self.folder / "pi").glob(f"{name}*")):
                    copytree(kept, folder / kept.name, copy_function=_share)
        return tune_expert(self.backbone, self.draw, others, settings=settings, run=run)

    def fitted(self, name: str, start: Expert | None = None, draw: Draw | None = None) -> Expert:
        """Train a LoRA on the labels, as long as every method, from the common starting values or from an expert."""
        draw, run = draw or self.draw, self.folder / name
        return fit_expert(self.backbone, draw, settings=self.plan.training(draw), start=start, run=run)[0]

    def score(self, expert: Expert | None) -> Measured:
        """Return what an expert scores on the test examples, or the backbone alone; each is run once."""
        key = digest(expert) if expert else ""
        if key not in self._scored:
            self._scored[key] = measured(self.backbone, self.task, expert, self.test)
        return self._scored[key]

    @cached_property
    def _scored(self) -> dict[str, Measured]:
        return {}


def _share(source: str, target: str) -> None:
    """Let a file be there twice, as one where the disk can: a run that goes on replaces files whole."""
    try:
        os.link(source, target)
    except OSError:
        copy2(source, target)
