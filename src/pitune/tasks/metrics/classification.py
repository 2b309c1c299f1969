"""Metrics of choosing one answer."""

from __future__ import annotations

from torch import Tensor


def accuracy(scores: Tensor, target: Tensor) -> float:
    """Return the share of examples whose best-scored answer is right."""
    return float((scores.argmax(-1) == target).double().mean())


def mean_per_class(scores: Tensor, target: Tensor) -> float:
    """Return the mean over classes of the share of a class's examples that are right."""
    right = (scores.argmax(-1) == target).double()
    classes = sorted(set(target.tolist()))
    return sum(float(right[target == label].mean()) for label in classes) / len(classes)
