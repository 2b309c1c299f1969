"""Every metric by name, and computing one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pitune.errors import InputError
from pitune.registry import Registry
from pitune.tasks.metrics.metric import Chosen, Metric

if TYPE_CHECKING:
    from torch import Tensor

_HERE = "pitune.tasks.metrics"
METRICS: Registry[Metric] = Registry(
    "metric",
    group="pitune.metrics",
    known={
        "accuracy": f"{_HERE}.classification:ACCURACY",
        "mean-per-class": f"{_HERE}.classification:MEAN_PER_CLASS",
        "f1": f"{_HERE}.classification:F1",
        "matthews": f"{_HERE}.classification:MATTHEWS",
        "roc-auc": f"{_HERE}.classification:ROC_AUC",
        "11-point-map": f"{_HERE}.multi_label:ELEVEN_POINT_MAP",
        "elevater-map": f"{_HERE}.multi_label:ELEVATER_MAP",
        "spearman": f"{_HERE}.regression:SPEARMAN",
        "recall@1": f"{_HERE}.retrieval:RECALL_AT_1",
        "recall@5": f"{_HERE}.retrieval:RECALL_AT_5",
        "recall@10": f"{_HERE}.retrieval:RECALL_AT_10",
        "exact-match": f"{_HERE}.questions:EXACT_MATCH",
        "vqa-accuracy": f"{_HERE}.questions:VQA_ACCURACY",
        "bleu-4": f"{_HERE}.captions:BLEU_4",
        "cider": f"{_HERE}.captions:CIDER",
        "iou@0.5": f"{_HERE}.boxes:IOU_AT_HALF",
    },
)


def compute_metric(
    name: str, scores: Tensor, target: Tensor, relevant: Tensor | None = None, answers: Sequence[str] = ()
) -> float:
    """Return a metric of answers' scores (N, C) against the right answers' indices (N,).

    `relevant` (N, C) marks every right answer where there are several; `answers` are the C texts, which some
    metrics read as numbers. Raises `InputError` if there are no examples or the metric reads text.
    """
    metric = METRICS.get(name)
    if metric.reads != "scores":
        raise InputError(f"{name} reads written answers, found scores; choose a metric that reads scores")
    if not len(scores):
        raise InputError(f"{name}: found no examples, expected one or more")
    return metric.compute(Chosen(scores, target, relevant, tuple(answers)))


def compute_text_metric(name: str, written: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return a metric of N written answers against the right ones of each.

    Raises `InputError` if there are none, one has no right answer, or the metric reads scores.
    """
    metric = METRICS.get(name)
    if metric.reads != "text":
        raise InputError(f"{name} reads scores, found written answers; choose a metric that reads text")
    if len(written) != len(references) or not written or not all(references):
        known = sum(map(bool, references))
        raise InputError(
            f"{name}: {len(written)} answers, right ones for {known} examples; expected one or more of each"
        )
    return metric.compute(written, references)


def worth(name: str, value: float) -> float:
    """Return a metric's value such that more is better; of a metric that is not installed, more is taken to be."""
    return METRICS.get(name).worth(value) if name in METRICS.names() else value
