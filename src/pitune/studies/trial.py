"""What `pitune study compare` asks, and every method on one draw of a target's labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import copytree

import numpy as np

from pitune.backbones import Backbone
from pitune.experts import Expert, ExpertPool, digest
from pitune.interpolation import TuneResult, TuneSettings, mix, tune_expert
from pitune.prediction import find_neighbours, spread
from pitune.studies.baselines import Measured, best_neighbour, linear_probe, measured, uniform_mix
from pitune.studies.black_box import black_box
from pitune.studies.full import full_fine_tuning
from pitune.studies.peft_mixes import with_peft
from pitune.studies.prompt_sources import source_expert
from pitune.studies.shared import open_backbone, open_task
from pitune.tasks import expand
from pitune.training import TrainingSettings, expert_name, fit_expert, sample

MULTITASK = "start from a multitask source"
METHODS = (
    "zero-shot",
    "linear probe",
    "single",
    "mean of two singles",
    "full fine-tuning",
    "best neighbour",
    "start from best neighbour",
    "uniform mix",
    "random neighbours",
    "farthest neighbours",
    "black-box weights",
    "PEFT linear",
    "PEFT ties",
    MULTITASK,
    "pi",
)
_BLACK_BOX_EXPERTS = 5
_ANOTHER_ORDER = 1000  # added to the seed, for a second run on the same examples


@dataclass(frozen=True)
class ComparePlan:
    """What is compared; every part of it is in the results."""

    tasks: tuple[str, ...] = ("pocket-20",)
    shots: tuple[int | None, ...] = (4, 16)
    seeds: int = 5
    first_seed: int = 0
    methods: tuple[str, ...] = METHODS
    k: int = 4
    test: int = 200
    validation: int = 128
    backbone: str = "pocket"
    device: str | None = None
    source_training: TrainingSettings = field(default_factory=lambda: TrainingSettings(steps=120, evaluations=4))
    tuning: TuneSettings = field(default_factory=TuneSettings)


QUICK = ComparePlan(
    tasks=("pocket/mnist", "pocket/digits", "pocket/emoji-names", "pocket/tweets", "pocket/nyt"),
    shots=(4,),
    seeds=2,
    k=2,  # of the four others, so that nearest, random and farthest differ
    test=100,
    source_training=TrainingSettings(steps=30, evaluations=2),
    tuning=TuneSettings(training=TrainingSettings(steps=20, batch_size=16, evaluations=4)),
)


@dataclass(frozen=True)
class Cell:
    """One target with some labels: what a worker does at a time. Without shots and seed, the task's own source."""

    plan: ComparePlan
    out: Path
    task: str
    shots: int | None = None
    seed: int | None = None


def open_backbone_of(plan: ComparePlan) -> Backbone:
    """Return the plan's backbone, loaded once a process."""
    return open_backbone(plan.backbone, plan.device)


def multitask_source(cell: Cell) -> Expert:
    """Return one expert of all tasks but the cell's, trained on all their labels for as long as each of the pool."""
    plan = cell.plan
    others = [name for name in expand(plan.tasks) if name != cell.task]
    return source_expert(open_backbone_of(plan), others, "lora", None, plan.source_training, cell.out)


class Trial:
    """All methods on one draw of a target's labels; what two of them share is done once."""

    def __init__(self, cell: Cell) -> None:
        assert cell.seed is not None
        plan = cell.plan
        self.cell, self.plan, self.task = cell, plan, open_task(cell.task)
        self.backbone = open_backbone_of(plan)
        self.data = sample(self.task, cell.shots, cell.seed)
        self.test = spread(self.task.examples("test"), plan.test)
        self.folder = cell.out / "runs" / expert_name(self.task, "lora", cell.shots, cell.seed)
        self.pool = ExpertPool(cell.out / "pool")
        self.order = find_neighbours(self.backbone, self.task, self.data, self.pool, len(self.pool), "lora")
        self._result: TuneResult | None = None
        self._scored: dict[str, Measured] = {}

    def near(self, k: int) -> list[Expert]:
        """Return the experts of the k nearest tasks."""
        return [self.pool.get(name) for name, _ in self.order[:k]]

    def tuned(self) -> TuneResult:
        """Return π-Tuning's candidates and its choice; the target's own expert alone is the single expert."""
        if self._result is None:
            near = self.near(self.plan.k)
            result = tune_expert(self.backbone, self.task, self.data, near, self.plan.tuning, self.folder / "pi")
            self._result = replace(result, neighbours=tuple(self.order[: self.plan.k]))
        return self._result

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
                return self.tuned().folded["alone"]
            case "mean of two singles":
                return mix([self.tuned().folded["alone"], self._single_again()], [0.5, 0.5])
            case "pi":
                return self.tuned().expert
            case "best neighbour":
                return best_neighbour(self.backbone, self.task, self.data, near)
            case "start from best neighbour":
                return self._continued(best_neighbour(self.backbone, self.task, self.data, near), "continued")
            case _ if method == MULTITASK:
                return self._continued(multitask_source(self.cell), "multitask")
            case "uniform mix":
                return uniform_mix(near)
            case "random neighbours":
                drawn = np.random.default_rng(self.data.seed).permutation(len(self.order))[: self.plan.k]
                others = [self.pool.get(self.order[i][0]) for i in drawn]
                return self.tuned_with(others, self.plan.tuning, "random").expert
            case "farthest neighbours":
                others = [self.pool.get(name) for name, _ in self.order[-self.plan.k :]]
                return self.tuned_with(others, self.plan.tuning, "farthest").expert
            case "black-box weights":
                return black_box(self.backbone, self.task, self.data, self.near(_BLACK_BOX_EXPERTS))
            case _:
                return with_peft(self.backbone, near, [1 / len(near)] * len(near))(method.removeprefix("PEFT "))

    def _score(self, expert: Expert | None) -> Measured:
        key = digest(expert) if expert else ""
        if key not in self._scored:
            self._scored[key] = measured(self.backbone, self.task, expert, self.test)
        return self._scored[key]

    def tuned_with(self, others: Sequence[Expert], settings: TuneSettings, name: str) -> TuneResult:
        """Tune with other experts for neighbours, or otherwise; the target's own expert alone is trained already."""
        run = self.folder / name
        if "alone" in settings.candidates and not run.exists():
            self.tuned()
            part = self.folder / f"{name}.part"  # whole once it has its name
            copytree(self.folder / "pi" / "alone", part / "alone", dirs_exist_ok=True)
            part.rename(run)
        return tune_expert(self.backbone, self.task, self.data, others, settings, run)

    def _single_again(self) -> Expert:
        """Train the target's own expert on its examples in another order: two runs are what π-Tuning costs."""
        data = replace(self.data, seed=self.data.seed + _ANOTHER_ORDER)
        training = self.plan.tuning.training
        return fit_expert(self.backbone, self.task, data, "lora", training, run=self.folder / "again")[0]

    def _continued(self, expert: Expert, name: str) -> Expert:
        """Train an expert on the target, for as many steps as one of the target's own."""
        training = self.plan.tuning.training
        return fit_expert(self.backbone, self.task, self.data, "lora", training, expert, self.folder / name)[0]
