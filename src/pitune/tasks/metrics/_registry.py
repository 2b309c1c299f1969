"""Every metric, by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from pitune.errors import InputError
from pitune.tasks.metrics import classification

_METRICS: dict[str, Callable[[Tensor, Tensor], float]] = {
    "accuracy": classification.accuracy,
    "mean-per-class": classification.mean_per_class,
}


def metric_names() -> tuple[str, ...]:
    """Return the names of all metrics."""
    return tuple(_METRICS)


def compute_metric(name: str, scores: Tensor, target: Tensor) -> float:
    """Return a metric in [0, 1] of answers' scores (N, C) against the right answers' indices (N,)."""
    if name not in _METRICS:
        raise InputError(f"unknown metric {name!r}; expected one of: {', '.join(_METRICS)}")
    return _METRICS[name](scores, target)
