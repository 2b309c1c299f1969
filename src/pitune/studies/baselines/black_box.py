"""Mixing weights found without gradients, as LoraHub does (Huang et al., arXiv 2307.13269)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pitune.experts import Expert
from pitune.extras import need
from pitune.interpolation import mix
from pitune.studies.baselines.baseline import Baseline
from pitune.studies.trial import Trial
from pitune.training import evaluate_expert

_BOUND = 1.5
_PENALTY = 0.05
_TRIALS = 40
_EXPERTS = 5
_MOST = 64  # support examples that a trial reads


def black_box(trial: Trial) -> Expert:
    """Return the mix of the nearest experts with one weight each in ±1.5, the best of 40 trials on the few labels.

    The loss is that of the examples plus 0.05 · mean |w|, as in LoraHub; the optimiser is scipy's COBYQA, and
    what is mixed is the product ΔW, where LoraHub mixes factors.
    """
    experts, support = trial.near(_EXPERTS), trial.draw.labels[:_MOST]

    def loss(weights: NDArray[np.float64]) -> float:
        evaluation = evaluate_expert(trial.backbone, trial.task, mix(experts, weights.tolist()), support)
        return evaluation.loss + _PENALTY * float(np.abs(weights).mean())

    start = np.zeros(len(experts))
    bounds = [(-_BOUND, _BOUND)] * len(experts)
    minimize = need("scipy.optimize", "metrics").minimize
    best = minimize(loss, start, method="COBYQA", bounds=bounds, options={"maxfev": _TRIALS, "initial_tr_radius": 0.5})
    return mix(experts, best.x.tolist(), name="black-box")


BLACK_BOX = Baseline("black-box weights", black_box, "the nearest five, weights found without gradients", default=True)
