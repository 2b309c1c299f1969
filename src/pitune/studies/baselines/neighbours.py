"""With the experts of other tasks: π-Tuning itself, and what else may be done with its neighbours."""

from __future__ import annotations

import numpy as np

from pitune.experts import Expert
from pitune.interpolation import best_scale, equal_shares, mix
from pitune.studies.baselines.baseline import PI, Baseline
from pitune.studies.sources import source_expert
from pitune.studies.trial import Trial
from pitune.tasks import expand
from pitune.tasks.metrics import worth
from pitune.training import evaluate_expert


def pi_tuning(trial: Trial) -> Expert:
    """Return what `pitune tune` returns."""
    return trial.tuned.expert


def best_neighbour(trial: Trial) -> Expert:
    """Return the neighbour that is best on validation data, unchanged; ties go to the nearest."""
    near, draw = trial.near(), trial.draw
    values = [evaluate_expert(trial.backbone, draw.task, expert, draw.validation) for expert in near]
    return near[max(range(len(near)), key=lambda i: (worth(draw.task.metric, values[i].value), -values[i].loss))]


def from_best_neighbour(trial: Trial) -> Expert:
    """Return the best neighbour, trained on as long as one of the target's own."""
    return trial.fitted("continued", start=best_neighbour(trial))


def uniform_mix(trial: Trial) -> Expert:
    """Return the neighbours mixed in equal shares."""
    near = trial.near()
    return mix(near, equal_shares(near), name="uniform")


def scaled_mix(trial: Trial) -> Expert:
    """Return the neighbours in equal shares times the scale that serves the labels best, 0 among them."""
    near = trial.near()
    return mix(near, equal_shares(near, best_scale(trial.backbone, trial.draw, near)), name="scaled")


def random_neighbours(trial: Trial) -> Expert:
    """Tune with neighbours drawn at random."""
    others = trial.neighbours.experts
    drawn = np.random.default_rng(trial.draw.seed).permutation(len(others))[: trial.plan.k]
    return trial.tuned_with([others[i] for i in drawn], "random").expert


def farthest_neighbours(trial: Trial) -> Expert:
    """Tune with the least similar tasks for neighbours."""
    return trial.tuned_with(trial.neighbours.experts[-trial.plan.k :], "farthest").expert


def multitask_source(trial: Trial) -> Expert:
    """Return one expert of all tasks but the target, trained on all their labels for as long as each of the pool."""
    others = [name for name in expand(trial.plan.tasks) if name != trial.name]
    return source_expert(trial.plan, others, trial.out)


def from_multitask_source(trial: Trial) -> Expert:
    """Return the multitask source, trained on as long as one of the target's own."""
    return trial.fitted("multitask", start=multitask_source(trial))


BEST = Baseline("best neighbour", best_neighbour, "the neighbour best on validation data", default=True, demo=True)
FROM_BEST = Baseline(
    "start from best neighbour", from_best_neighbour, "the best neighbour, trained on the labels", default=True
)
UNIFORM = Baseline("uniform mix", uniform_mix, "the neighbours in equal shares, untrained", default=True, demo=True)
SCALED = Baseline("scaled mix", scaled_mix, "the neighbours in equal shares, scaled by the labels", default=True)
RANDOM = Baseline("random neighbours", random_neighbours, "π-Tuning with neighbours drawn at random", default=True)
FARTHEST = Baseline("farthest neighbours", farthest_neighbours, "π-Tuning with the least similar tasks", default=True)
FROM_MULTITASK = Baseline(
    "start from a multitask source",
    from_multitask_source,
    "one expert of all other tasks, trained on the labels",
    once=multitask_source,
    learns_others=True,
    default=True,
)
PI_TUNING = Baseline(PI, pi_tuning, "π-Tuning", default=True, demo=True, title="π-Tuning")
