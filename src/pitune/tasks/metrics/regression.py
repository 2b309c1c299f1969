"""Metrics of answers that are numbers."""

from __future__ import annotations

import torch
from scipy.stats import spearmanr

from pitune.errors import InputError
from pitune.tasks.metrics.chosen import Chosen


def spearman(found: Chosen) -> float:
    """Return Spearman's rank correlation of the expected answer with the right one, as GLUE has it for STS-B.

    Raises `InputError` if an answer is not a number.
    """
    try:
        values = torch.tensor([float(answer) for answer in found.answers], dtype=torch.float64)
    except ValueError as error:
        raise InputError(f"spearman: the answers must be numbers ({error})") from error
    if len(values) != found.scores.shape[1]:
        raise InputError(f"spearman: {len(values)} answers for {found.scores.shape[1]} scores; expected as many")
    expected = found.scores.double().softmax(-1) @ values
    return float(spearmanr(expected.numpy(), values[found.target].numpy()).statistic)
