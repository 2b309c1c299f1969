"""Mixing weights found without gradients, as LoraHub does (Huang et al., arXiv 2307.13269)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from pitune.backbones import Backbone
from pitune.experts import Expert
from pitune.interpolation import mix
from pitune.tasks import Task
from pitune.training import Data, evaluate_expert

_BOUND = 1.5
_PENALTY = 0.05
_TRIALS = 40
_MOST = 64  # support examples that a trial reads


def black_box(backbone: Backbone, task: Task, data: Data, experts: Sequence[Expert]) -> Expert:
    """Return the mix of all `experts` with one weight each in ±1.5, the best of 40 trials on the support examples.

    The loss is that of the examples plus 0.05 · mean |w|, as in LoraHub; the optimiser is scipy's COBYQA, and
    what is mixed is the product ΔW, where LoraHub mixes factors.
    """
    support = [*data.train, *data.validation][:_MOST]

    def loss(weights: NDArray[np.float64]) -> float:
        mixed = mix(experts, weights.tolist())
        found = evaluate_expert(backbone, task, mixed, support)
        return found.loss + _PENALTY * float(np.abs(weights).mean())

    start = np.zeros(len(experts))
    bounds = [(-_BOUND, _BOUND)] * len(experts)
    best = minimize(loss, start, method="COBYQA", bounds=bounds, options={"maxfev": _TRIALS, "initial_tr_radius": 0.5})
    return mix(experts, best.x.tolist(), name="black-box")
