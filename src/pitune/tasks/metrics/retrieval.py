"""Metrics of retrieval."""

from __future__ import annotations

from functools import partial

from pitune.tasks.metrics.metric import Chosen, Metric


def recall_at(found: Chosen, k: int) -> float:
    """Return the share of queries with a right answer among the k best (R@k)."""
    best = found.scores.topk(min(k, found.scores.shape[1]), dim=-1).indices
    return float(found.right.gather(1, best).any(1).double().mean())


def _recall(k: int) -> Metric:
    about = f"share of queries with a right answer {'first' if k == 1 else f'among the first {k}'}"
    return Metric(f"recall@{k}", about, partial(recall_at, k=k), several=True, mean=True)


RECALL_AT_1, RECALL_AT_5, RECALL_AT_10 = _recall(1), _recall(5), _recall(10)
