"""Metrics of answers that are numbers."""

from __future__ import annotations

import math

from pitune.errors import InputError
from pitune.extras import need
from pitune.tasks.metrics.metric import Chosen, Metric


def is_number(answer: str) -> bool:
    """Return whether an answer is written as a finite number."""
    try:
        return math.isfinite(float(answer))
    except ValueError:
        return False


def spearman(found: Chosen) -> float:
    """Return Spearman's rank correlation of the expected answer with the right one, as GLUE has it for STS-B.

    It is 0 where all examples have one right answer, or all get the same. Raises `InputError` if an answer is not a
    number.
    """
    if not all(map(is_number, found.answers)) or len(found.answers) != found.scores.shape[1]:
        raise InputError(
            f"spearman: the answers must be numbers, one for each of {found.scores.shape[1]} scores; "
            f"found {', '.join(found.answers)[:80] or 'none'}"
        )
    values = found.scores.new_tensor([float(answer) for answer in found.answers]).double()
    expected, right = found.scores.double().softmax(-1) @ values, values[found.target]
    if min(len(set(expected.tolist())), len(set(right.tolist()))) < 2:
        return 0.0
    return float(need("scipy.stats", "metrics").spearmanr(expected.numpy(), right.numpy()).statistic)


SPEARMAN = Metric(
    "spearman",
    "Spearman's rank correlation of answers that are numbers",
    spearman,
    low=-1.0,
    answers="numbers",
    accepts=is_number,
)
