"""LogME: how likely labels are under a Bayesian linear model on features, its two scales chosen at their best."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pitune.prediction.labelled import Matrix, labelled

_ITERATIONS = 200
_TOLERANCE = 1e-6
_TINY = 1e-12


def logme(features: ArrayLike, labels: ArrayLike) -> float:
    """Return `mean_k max_{α,β} log p(y_k | F, α, β) / N` for features F (N, D) and labels (N,); higher is better.

    y_k is 1 for examples of class k and 0 for others; `p(y | F, α, β) = N(y; 0, β⁻¹ I + α⁻¹ F Fᵀ)`
    (You et al., ICML 2021, arXiv 2102.11005, equation 2). The maximum is found by their fixed point,
    `γ = Σ_i βσ_i² / (α + βσ_i²)`, `α ← γ / mᵀm`, `β ← (N − γ) / |Fm − y|²`, in F's singular basis.
    Classes without examples say nothing and are left out.
    """
    matrix, numbered = labelled(features, labels)
    one_hot = np.eye(numbered.max() + 1)[numbered]
    left, singular, _ = np.linalg.svd(matrix, full_matrices=True)
    squares = np.zeros(len(matrix))
    squares[: len(singular)] = singular**2
    turned = left.T @ one_hot
    return float(np.mean([_evidence(squares, turned[:, k]) for k in range(turned.shape[1])])) / len(matrix)


def _evidence(squares: Matrix, target: Matrix) -> float:
    """Return the largest log evidence of a target (N,) given F Fᵀ's eigenvalues (N,), both in its eigenbasis."""
    alpha = beta = 1.0
    floor = _TINY * float(target @ target)
    best = _log_evidence(squares, target, alpha, beta)
    for _ in range(_ITERATIONS):
        spread = alpha + beta * squares
        gamma = float((beta * squares / spread).sum())
        weights = float((squares * (beta * target / spread) ** 2).sum())
        residual = float(((alpha * target / spread) ** 2).sum())
        alpha = max(gamma, _TINY) / max(weights, floor)
        beta = max(len(target) - gamma, _TINY) / max(residual, floor)
        found = _log_evidence(squares, target, alpha, beta)
        if abs(found - best) <= _TOLERANCE * abs(best):
            return max(best, found)
        best = max(best, found)
    return best


def _log_evidence(squares: Matrix, target: Matrix, alpha: float, beta: float) -> float:
    variance = 1 / beta + squares / alpha
    return float(-0.5 * (np.log(2 * np.pi * variance) + target**2 / variance).sum())
