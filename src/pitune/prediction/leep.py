"""LEEP: how well a source's answers, seen on the target's examples, tell the target's labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pitune.errors import InputError
from pitune.prediction.labelled import labelled


def leep(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return `1/N Σ_i log Σ_z P̂(y_i | z) θ(x_i)_z`, at most 0, for θ (N, Z) over source answers and labels (N,).

    `P̂(y, z) = 1/N Σ_{i: y_i = y} θ(x_i)_z` and `P̂(y | z) = P̂(y, z) / P̂(z)` (Nguyen et al., ICML 2020,
    arXiv 2002.12462, equations 1 and 2). Raise `InputError` unless every row of θ is a distribution.
    """
    theta, numbered = labelled(probabilities, labels)
    if (theta < 0).any() or not np.allclose(theta.sum(1), 1, atol=1e-4):
        raise InputError("LEEP needs a distribution over the source's answers for every example; rows must sum to 1")
    joint = np.eye(numbered.max() + 1)[numbered].T @ theta / len(theta)
    marginal = joint.sum(0)
    conditional = np.divide(joint, marginal, out=np.zeros_like(joint), where=marginal > 0)
    return float(np.log((conditional[numbered] * theta).sum(1)).mean())
