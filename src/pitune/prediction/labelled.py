"""What scores that read labelled features have in common."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pitune.errors import InputError

Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]


def labelled(values: ArrayLike, labels: ArrayLike) -> tuple[Matrix, Labels]:
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
