"""The formulas of transferability scores, on arrays: of Fisher information, of features, of labels and of names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
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
_BLOCK = 64  # embeddings that one is compared with at once, so that a block stays in the cache


def fisher_similarity(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """Return the mean over tensors of cos(a, b), `a = F_i / (F_i + F_j)` and `b = F_j / (F_i + F_j)` elementwise.

    Computed as a = σ(d), b = σ(−d) with d = log F_i − log F_j, so that tiny and huge values are safe
    (π-Tuning, step 2). Elements that are zero in both tasks say nothing and are left out. In [0, 1]; 1 for
    equal embeddings. Raise `InputError` naming the tensor that is missing, mis-shaped or not finite.
    """
    _check_same_tensors(first, second)
    cosines = [value for name in first if (value := _cosine(name, first[name], second[name])) is not None]
    if not cosines:
        raise InputError("two embeddings are zero everywhere; expected the Fisher information of real examples")
    return sum(cosines) / len(cosines)


def fisher_similarities(embeddings: Sequence[Mapping[str, Tensor]]) -> NDArray[np.float64]:
    """Return `fisher_similarity` of every two of N embeddings, a symmetric matrix (N, N), within 1e-5.

    In blocks of single precision, many times as fast as the pairs one by one. Raise `InputError` as they do.
    """
    for one in embeddings:
        _check_same_tensors(embeddings[0], one)
    n = len(embeddings)
    total, counted = torch.zeros(n, n, dtype=torch.float64), torch.zeros(n, n, dtype=torch.float64)
    for name, like in embeddings[0].items():
        for one in embeddings:
            _check(name, like, one[name])
        stacked = torch.stack([one[name].flatten() for one in embeddings]).double()
        scaled = (stacked / stacked.amax().clamp_min(torch.finfo(torch.float64).tiny)).float()  # its ratios stay
        for i in range(1, n):
            for first in range(0, i, _BLOCK):
                rows = slice(first, min(first + _BLOCK, i))
                others = scaled[rows]
                inverse = (others + scaled[i]).reciprocal_().nan_to_num_(posinf=0.0)
                a, b = scaled[i] * inverse, others * inverse
                ab, aa, bb = (torch.linalg.vecdot(x, y).double() for x, y in ((a, b), (a, a), (b, b)))
                cosine = ab / (aa * bb).sqrt().clamp_min(torch.finfo(torch.float32).tiny)
                some = (aa + bb) > 0
                total[i, rows] += cosine * some
                counted[i, rows] += some
    if n > 1 and bool((counted + torch.eye(n) + counted.T == 0).any()):
        raise InputError("two embeddings are zero everywhere; expected the Fisher information of real examples")
    lower = (total / counted.clamp_min(1)).tril(-1)
    return np.asarray((lower + lower.T + torch.eye(n, dtype=torch.float64)).numpy(), dtype=np.float64)


def _check_same_tensors(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
    """Raise `InputError` that names a tensor which only one of two embeddings has."""
    if first.keys() != second.keys():
        name = sorted(first.keys() ^ second.keys())[0]
        raise InputError(f"two embeddings differ in kind: tensor {name!r} is in one only; embed both by the same probe")


def _cosine(name: str, first: Tensor, second: Tensor) -> float | None:
    _check(name, first, second)
    positive = (first > 0) | (second > 0)
    if not positive.any():
        return None
    difference = first[positive].double().log() - second[positive].double().log()
    a, b = torch.sigmoid(difference), torch.sigmoid(-difference)
    return float(F.cosine_similarity(a, b, dim=0))


def _check(name: str, first: Tensor, second: Tensor) -> None:
    """Raise `InputError` if two embeddings cannot be compared at a tensor."""
    if first.shape != second.shape:
        shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise InputError(f"two embeddings differ in shape at tensor {name!r}: {shapes}; embed both by the same probe")
    for value in (first, second):
        if not torch.isfinite(value).all() or (value < 0).any():
            raise InputError(
                f"embedding tensor {name!r} holds values that are negative or not finite; embed the task again"
            )


def task2vec_distance(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """Return `d_sym = 1 − cos(F_i / (F_i + F_j), F_j / (F_i + F_j))` in [0, 1], 0 for equal embeddings.

    F is the diagonal Fisher information of all tensors, as one vector (Achille et al., ICCV 2019, arXiv
    1902.03545, section 3): large tensors count for more, where π-Tuning takes the mean over tensors of the same
    cosine. Their average within filters is left out, since the probe has none. Raise `InputError` as
    `fisher_similarity` does.
    """
    _check_same_tensors(first, second)
    whole = [{"all": torch.cat([one[name].flatten() for name in sorted(one)])} for one in (first, second)]
    return 1 - fisher_similarity(*whole)


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
