"""Which settings of π-Tuning are best: each on the same few labels, judged by validation examples never drawn.

The test part is not touched, so that defaults may follow from what is found here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from pitune.experts import KINDS, Expert, ExpertPool
from pitune.files import sha256_bytes
from pitune.interpolation import TuneResult, TuneSettings
from pitune.prediction import EMBEDDED, embedding, fisher_similarity
from pitune.registry import unknown
from pitune.studies.compare import prepare_pool, trials_of
from pitune.studies.plans import ComparePlan
from pitune.studies.results import Gain, Row, SettingsResults
from pitune.studies.rows import Measured, Measures
from pitune.studies.sources import train_pool
from pitune.studies.statistics import method_means, summed_gains
from pitune.studies.study import Study, held_out, measured
from pitune.studies.trial import Trial
from pitune.studies.workers import Spread
from pitune.tasks import spread
from pitune.training import evaluate_expert

ROWS = "settings.jsonl"
RESULTS = "settings.json"
DEFAULT = "default"
_WITHOUT = {"joint": "alone", "soup": "alone", "neighbours": "backbone"}  # what candidates are where no neighbour helps
ALONE = f"{DEFAULT}: alone"
_UNRELATED = "pool-unrelated"


def _unlike(trial: Trial, k: int) -> list[Expert]:
    """Return k neighbours of which none is a near-duplicate of another."""
    experts = {expert.name: expert for expert in trial.neighbours.experts}
    probes = {name: embedding(expert) for name, expert in experts.items()}
    similarity = dict(trial.neighbours.pairs)
    names = most_relevant(similarity, lambda one, other: fisher_similarity(probes[one], probes[other]), k)
    return [experts[name] for name in names]


def _unrelated(trial: Trial, k: int) -> list[Expert]:
    """Return the experts of the k nearest tasks that did not start from common values."""
    pool = ExpertPool(trial.out / _UNRELATED)
    return [pool.get(name) for name, _ in trial.neighbours.pairs[:k]]


def _tried(trial: Trial, k: int) -> list[Expert]:
    """Return the k experts of all the pool that have the lowest calibrated losses on the few labels."""
    labels, experts = spread(trial.draw.labels, EMBEDDED), trial.near(len(trial.pool))
    losses = [float(evaluate_expert(trial.backbone, trial.task, one, labels).calibrated.sum()) for one in experts]
    return [experts[i] for i in np.argsort(losses, kind="stable")[:k]]


@dataclass(frozen=True)
class Variant:
    """One change of the defaults: of settings, of how many neighbours there are or which, or of how a run is trained.

    `longer` and `faster` are multiples of the steps and of the learning rate that the draw's labels ask for.
    """

    changes: Mapping[str, Any]
    k: int | None = None
    neighbours: Callable[[Trial, int], list[Expert]] = Trial.near
    longer: float = 1.0
    faster: float = 1.0

    def settings(self, trial: Trial) -> TuneSettings:
        """Return the defaults of a draw with the change."""
        base = trial.plan.tuning.on(trial.draw)
        changes = dict(self.changes)
        if (self.longer, self.faster) != (1.0, 1.0):
            usual = base.lasting(trial.draw.whole if base.folds else trial.draw, KINDS.get("lora"))
            steps, rate = round(self.longer * usual.steps), self.faster * usual.learning_rate
            changes["training"] = usual.model_copy(update={"steps": steps, "learning_rate": rate})
        return base.model_copy(update=changes)

    def ways(self, name: str, trial: Trial) -> list[str]:
        """Return the names of its rows on a draw: one for each of several candidates, and one for the choice."""
        candidates = self.settings(trial).tried
        return [name] if len(candidates) == 1 else [f"{name}: {one}" for one in (*candidates, "chosen")]


_LINEAR = r".*\.(query|key|value|dense)"  # every linear layer of the default backbone's
_JOINT = {"candidates": ("joint",)}
_PAPER = {"kind": "softmax", "select": False, "weight_rate": 3e-3, "own_weight": 0.25}
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
    "some labels kept to stop and choose by": Variant({"folds": 0}),
    "mean of all runs": Variant({"averaged": True}),
    "not pulled": Variant({"pull": 0.0}),
    "pulled at 0.3": Variant({"pull": 0.3}),
    "pulled at 3": Variant({"pull": 3.0}),
    "own expert of rank 2": Variant({"own": {"r": 2}}),
    "own expert of rank 4": Variant({"own": {"r": 4}}),
    "own expert on all linear layers": Variant({"own": {"target_modules": _LINEAR}}),
    "trained half as long": Variant({}, longer=0.5),
    "trained 2.5 times as long": Variant({}, longer=2.5),
    "trained 5 times as long": Variant({}, longer=5.0),
    "at a third of the learning rate": Variant({}, faster=1 / 3),
    "at 3 times the learning rate": Variant({}, faster=3.0),
    "neighbours by trial": Variant({}, neighbours=_tried),
    "neighbours by trial, k = 8": Variant({}, 8, neighbours=_tried),
}


@dataclass(frozen=True)
class Cell:
    """Some variants on one draw of a target's labels."""

    trial: Trial
    names: tuple[str, ...]

    def measures(self) -> Measures:
        """Return every way of every variant; a variant is tuned once for all its ways."""
        ways: Measures = {}
        for name in (name for name in VARIANTS if name in self.names):
            experts = cache(partial(self._tuned, name))
            for i, way in enumerate(VARIANTS[name].ways(name, self.trial)):
                ways[self.trial.key(way)] = partial(self._score, experts, i)
        return ways

    def _tuned(self, name: str) -> list[Expert]:
        """Return the expert of each candidate, and the chosen one."""
        tried = VARIANTS[name].settings(self.trial).tried
        result = self._result(name)
        return [*(result.folded.get(one) or result.folded[_WITHOUT[one]] for one in tried), result.expert]

    def _result(self, name: str) -> TuneResult:
        trial, variant = self.trial, VARIANTS[name]
        if name == DEFAULT:
            return trial.tuned
        near = variant.neighbours(trial, variant.k or trial.plan.k)
        settings, run = variant.settings(trial), f"variant-{sha256_bytes(name.encode())[:8]}"
        return trial.tuned_with(near, run, settings)

    def _score(self, experts: Callable[[], list[Expert]], i: int) -> Measured:
        trial = self.trial
        return measured(trial.backbone, trial.task, experts()[i], held_out(trial.draw, trial.plan.test))


def run_settings(
    plan: ComparePlan,
    out: Path,
    names: Sequence[str] = tuple(VARIANTS),
    *,
    workers: int | Spread = 1,
    progress: bool = True,
) -> SettingsResults:
    """Tune every (task, shots, seed) in every way; of several candidates each counts as a way of its own.

    Rows are kept in `settings.jsonl` beside the pool of `pitune study compare`, which is trained if need be.
    """
    for name in names:
        if name not in VARIANTS:
            raise unknown("variant", name, VARIANTS)
    study = Study(out, workers, progress, ROWS)
    tasks = prepare_pool(plan, study)
    if any(VARIANTS[name].neighbours is _unrelated for name in names):
        train_pool(study, plan, tasks, _UNRELATED, unrelated=True)
    study.measure([Cell(trial, tuple(names)) for trial in trials_of(plan, tasks, out)])
    rows = [row for row in study.rows() if row.method.split(": ")[0] in names]  # those of other tasks and seeds, too
    methods = tuple(dict.fromkeys(row.method for row in rows))
    gains = [gain for one in methods for gain in _gains(rows, one)]
    return study.write(SettingsResults, plan, rows, RESULTS, means=method_means(rows, methods), gains=gains)


def _gains(rows: Sequence[Row], method: str) -> list[Gain]:
    """Return the gains of a way over the own expert alone, and those of a change over what it changes."""
    name, _, candidate = method.partition(": ")
    baselines = [ALONE] if name == DEFAULT else [ALONE, f"{DEFAULT}: {candidate or 'joint'}"]
    return [gain for one in dict.fromkeys(baselines) for gain in summed_gains(rows, method, one)]


def most_relevant(similarity: Mapping[str, float], between: Callable[[str, str], float], k: int) -> list[str]:
    """Return k names by maximal marginal relevance (Carbonell and Goldstein, 1998), most relevant first.

    The next is the one whose similarity to the target exceeds most its greatest similarity to those that are taken.
    """
    taken: list[str] = []
    while len(taken) < min(k, len(similarity)):
        left = [name for name in similarity if name not in taken]
        taken.append(max(left, key=lambda name: similarity[name] - max((between(name, o) for o in taken), default=0.0)))
    return taken
