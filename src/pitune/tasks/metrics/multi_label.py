"""Metrics where a picture may have several labels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pitune.errors import InputError
from pitune.tasks.metrics.chosen import Chosen


def eleven_point_map(found: Chosen) -> float:
    """Return the mean over labels of the average precision at recalls 0, 0.1, … 1 (PASCAL VOC 2007).

    Labels that no example has are left out. Raises `InputError` if there is none at all.
    """
    values = [
        _average_precision(found.scores[:, label].double(), found.right[:, label])
        for label in range(found.scores.shape[1])
        if found.right[:, label].any()
    ]
    if not values:
        raise InputError("11-point-map: no example has a label; expected one or more")
    return float(np.mean(values))


def _average_precision(scores: Tensor, right: Tensor) -> float:
    """Return the mean of the best precision at each recall or beyond; ties are taken together."""
    order = scores.argsort(descending=True, stable=True)
    hits = right[order].double().cumsum(0)
    ends = torch.ones(len(order), dtype=torch.bool)
    ends[:-1] = scores[order].diff() != 0
    precision = (hits / torch.arange(1, len(order) + 1))[ends]
    recall = (hits / hits[-1])[ends]
    steps = torch.arange(11, dtype=torch.float64) / 10
    best = [float(precision[recall >= step - 1e-12].max()) for step in steps]
    return float(np.mean(best))
