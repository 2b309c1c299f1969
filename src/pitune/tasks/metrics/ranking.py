"""Metrics of retrieval."""

from __future__ import annotations

from pitune.tasks.metrics.chosen import Chosen


def recall_at(found: Chosen, k: int) -> float:
    """Return the share of queries with a right answer among the k best (R@k)."""
    best = found.scores.topk(min(k, found.scores.shape[1]), dim=-1).indices
    return float(found.right.gather(1, best).any(1).double().mean())
