"""How alike the answers of two tasks are, by their texts."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from pitune.errors import InputError


def label_similarity(first: Tensor, second: Tensor) -> float:
    """Return the mean over names of the best cosine with a name of the other task, symmetrised; in [−1, 1].

    `½ (mean_i max_j cos(u_i, v_j) + mean_j max_i cos(u_i, v_j))` for class-name embeddings u (C, D) and v (K, D).
    The label similarity of MVLPT's study; its formula there is not public, this one is ours.
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or not (len(first) and len(second)):
        raise InputError(
            f"found names {tuple(first.shape)} and {tuple(second.shape)}; expected (C, D) and (K, D), not empty"
        )
    cosines = F.normalize(first.double(), dim=1) @ F.normalize(second.double(), dim=1).T
    return float((cosines.amax(1).mean() + cosines.amax(0).mean()) / 2)
