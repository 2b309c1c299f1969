"""Metrics where a picture may have several labels."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pitune.errors import InputError
from pitune.tasks.metrics.metric import Chosen, Metric

if TYPE_CHECKING:
    from torch import Tensor


def eleven_point_map(found: Chosen, *, at_zero: float = 0.0) -> float:
    """Return the mean over labels of the average precision at recalls 0, 0.1, … 1 (PASCAL VOC 2007).

    The precision at a recall is the best at that recall or beyond, and at recall 0 no less than `at_zero`. Labels
    that no example has are left out. Raises `InputError` if there is none at all.
    """
    values = [
        _average_precision(found.scores[:, label].double(), found.right[:, label], at_zero)
        for label in range(found.scores.shape[1])
        if found.right[:, label].any()
    ]
    if not values:
        raise InputError("11-point mAP: no example has a label; expected one or more")
    return float(np.mean(values))


def _average_precision(scores: Tensor, right: Tensor, at_zero: float) -> float:
    """Return the mean of the best precision at each recall or beyond; ties are taken together."""
    order = scores.argsort(descending=True, stable=True)
    hits = right[order].double().cumsum(0).numpy()
    ends = np.append(np.diff(scores[order].numpy()) != 0, True)
    precision = (hits / np.arange(1, len(hits) + 1))[ends]
    recall = (hits / hits[-1])[ends]
    best = [precision[recall >= step / 10 - 1e-12].max() for step in range(11)]
    return float(np.mean([max(best[0], at_zero), *best[1:]]))


ELEVEN_POINT_MAP = Metric(
    "11-point-map",
    "mean over labels of average precision at 11 recalls, as VOC 2007 has it",
    eleven_point_map,
    several=True,
)
ELEVATER_MAP = Metric(
    "elevater-map",
    "the same with precision 1 at recall 0, as ELEVATER has it",
    partial(eleven_point_map, at_zero=1.0),
    several=True,
)
