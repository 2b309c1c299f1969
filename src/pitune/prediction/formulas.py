"""The formulas of transferability scores, on arrays: of features, of labels and of names."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from pitune.errors import InputError
from pitune.extras import need

Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]
_ITERATIONS = 200
_TOLERANCE = 1e-6
_TINY = 1e-12


def _labelled(values: ArrayLike, labels: ArrayLike) -> tuple[Matrix, Labels]:
    """Return values (N, D) and labels (N,) as arrays, the labels renumbered 0…K−1 over the classes that occur.

    Raise `InputError` if their lengths differ, a value is not finite, or fewer than two classes occur.
    """
    matrix, given = np.asarray(values, dtype=np.float64), np.asarray(labels)
    if matrix.ndim != 2 or given.shape != matrix.shape[:1]:
        raise InputError(f"found values {matrix.shape} with labels {given.shape}; expected (N, D) with (N,)")
    if not np.isfinite(matrix).all():
        raise InputError("a value of an example is not finite; check the expert that made it")
    classes, numbered = np.unique(given, return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"the examples are of {len(classes)} class(es); expected 2 or more to tell apart")
    return matrix, numbered.astype(np.int64)


def leep(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return `1/N Σ_i log Σ_z P̂(y_i | z) θ(x_i)_z`, at most 0, for θ (N, Z) over source answers and labels (N,).

    `P̂(y, z) = 1/N Σ_{i: y_i = y} θ(x_i)_z` and `P̂(y | z) = P̂(y, z) / P̂(z)` (Nguyen et al., ICML 2020,
    arXiv 2002.12462, equations 1 and 2). Raise `InputError` unless every row of θ is a distribution.
    """
    theta, numbered = _labelled(probabilities, labels)
    if (theta < 0).any() or not np.allclose(theta.sum(1), 1, atol=1e-4):
        raise InputError("LEEP needs a distribution over the source's answers for every example; rows must sum to 1")
    joint = np.eye(numbered.max() + 1)[numbered].T @ theta / len(theta)
    marginal = joint.sum(0)
    conditional = np.divide(joint, marginal, out=np.zeros_like(joint), where=marginal > 0)
    return float(np.log((conditional[numbered] * theta).sum(1)).mean())


def h_score(features: ArrayLike, labels: ArrayLike, shrunk: bool = True) -> float:
    """Return `tr(cov(f)⁻¹ cov(E[f | y]))` for features f (N, D) and labels (N,); between 0 and the number of classes.

    That is Bao et al., ICIP 2019, definition 2. With fewer examples than dimensions cov(f) is singular, so it
    is shrunk unless told otherwise: `(1 − λ) tr(Σ_λ⁻¹ cov(E[f | y]))`, `Σ_λ = (1 − λ) cov(f) + λ tr(cov(f))/D I`,
    λ by Ledoit and Wolf (Ibrahim et al., arXiv 2110.06893, equation 5). Raise `InputError` if a covariance that
    is not to be shrunk is singular.
    """
    matrix, numbered = _labelled(features, labels)
    centred = matrix - matrix.mean(0)
    counts = np.bincount(numbered)
    means = np.stack([centred[numbered == k].mean(0) for k in range(len(counts))])
    between = (means.T * (counts / len(matrix))) @ means
    covariance, share = centred.T @ centred / len(matrix), 0.0
    if shrunk:
        covariance, share = need("sklearn.covariance", "metrics").ledoit_wolf(centred, assume_centered=True)
    if np.linalg.matrix_rank(covariance, hermitian=True) < len(covariance):
        raise InputError(
            f"the covariance of {len(matrix)} examples in {matrix.shape[1]} dimensions is singular; shrink it"
        )
    return float((1 - share) * np.trace(np.linalg.solve(covariance, between)))


def logme(features: ArrayLike, labels: ArrayLike) -> float:
    """Return `mean_k max_{α,β} log p(y_k | F, α, β) / N` for features F (N, D) and labels (N,); higher is better.

    y_k is 1 for examples of class k and 0 for others; `p(y | F, α, β) = N(y; 0, β⁻¹ I + α⁻¹ F Fᵀ)`
    (You et al., ICML 2021, arXiv 2102.11005, equation 2). The maximum is found by their fixed point,
    `γ = Σ_i βσ_i² / (α + βσ_i²)`, `α ← γ / mᵀm`, `β ← (N − γ) / |Fm − y|²`, in F's singular basis.
    Classes without examples say nothing and are left out.
    """
    matrix, numbered = _labelled(features, labels)
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
        latest = _log_evidence(squares, target, alpha, beta)
        if abs(latest - best) <= _TOLERANCE * abs(best):
            return max(best, latest)
        best = max(best, latest)
    return best


def _log_evidence(squares: Matrix, target: Matrix, alpha: float, beta: float) -> float:
    variance = 1 / beta + squares / alpha
    return float(-0.5 * (np.log(2 * np.pi * variance) + target**2 / variance).sum())


def feature_similarity(first: Tensor, second: Tensor) -> float:
    """Return the cosine of the mean features of two tasks, (N, D) and (M, D); in [−1, 1].

    The visual similarity of MVLPT's study; its formula there is not public, this one is ours.
    """
    _check_rows("features", first, second)
    return float(F.cosine_similarity(first.double().mean(0), second.double().mean(0), dim=0))


def label_similarity(first: Tensor, second: Tensor) -> float:
    """Return the mean over names of the best cosine with a name of the other task, symmetrised; in [−1, 1].

    `½ (mean_i max_j cos(u_i, v_j) + mean_j max_i cos(u_i, v_j))` for class-name embeddings u (C, D) and v (K, D).
    The label similarity of MVLPT's study; its formula there is not public, this one is ours.
    """
    _check_rows("names", first, second)
    cosines = F.normalize(first.double(), dim=1) @ F.normalize(second.double(), dim=1).T
    return float((cosines.amax(1).mean() + cosines.amax(0).mean()) / 2)


def _check_rows(what: str, first: Tensor, second: Tensor) -> None:
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or not (len(first) and len(second)):
        shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise InputError(f"found {what} {shapes}; expected (N, D) and (M, D), not empty")
