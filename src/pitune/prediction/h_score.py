"""H-score: how much of the features' variance lies between classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.covariance import ledoit_wolf

from pitune.errors import InputError
from pitune.prediction.labelled import labelled


def h_score(features: ArrayLike, labels: ArrayLike, shrunk: bool = True) -> float:
    """Return `tr(cov(f)⁻¹ cov(E[f | y]))` for features f (N, D) and labels (N,); between 0 and the number of classes.

    That is Bao et al., ICIP 2019, definition 2. With fewer examples than dimensions cov(f) is singular, so it
    is shrunk unless told otherwise: `(1 − λ) tr(Σ_λ⁻¹ cov(E[f | y]))`, `Σ_λ = (1 − λ) cov(f) + λ tr(cov(f))/D I`,
    λ by Ledoit and Wolf (Ibrahim et al., arXiv 2110.06893, equation 5). Raise `InputError` if a covariance that
    is not to be shrunk is singular.
    """
    matrix, numbered = labelled(features, labels)
    centred = matrix - matrix.mean(0)
    counts = np.bincount(numbered)
    means = np.stack([centred[numbered == k].mean(0) for k in range(len(counts))])
    between = (means.T * (counts / len(matrix))) @ means
    covariance, share = ledoit_wolf(centred, assume_centered=True) if shrunk else (centred.T @ centred / len(matrix), 0)
    if np.linalg.matrix_rank(covariance, hermitian=True) < len(covariance):
        raise InputError(
            f"the covariance of {len(matrix)} examples in {matrix.shape[1]} dimensions is singular; shrink it"
        )
    return float((1 - share) * np.trace(np.linalg.solve(covariance, between)))
