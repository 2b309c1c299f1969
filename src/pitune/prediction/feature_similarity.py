"""How alike the inputs of two tasks are, in a frozen backbone's eyes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pitune.errors import InputError


def feature_similarity(first: Tensor, second: Tensor) -> float:
    """Return the cosine of the mean features of two tasks, (N, D) and (M, D); in [−1, 1].

    The visual similarity of MVLPT's study; its formula there is not public, this one is ours.
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or not (len(first) and len(second)):
        raise InputError(
            f"found features {tuple(first.shape)} and {tuple(second.shape)}; expected (N, D) and (M, D), not empty"
        )
    means = [torch.mean(one.double(), 0) for one in (first, second)]
    return float(F.cosine_similarity(means[0], means[1], dim=0))
