"""Every metric, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor

from pitune.errors import InputError
from pitune.tasks.metrics import boxes, captions, classification, multi_label, questions, ranking, regression
from pitune.tasks.metrics.chosen import Chosen

_CHOICES: dict[str, Callable[[Chosen], float]] = {
    "accuracy": classification.accuracy,
    "mean-per-class": classification.mean_per_class,
    "f1": classification.f1,
    "matthews": classification.matthews,
    "roc-auc": classification.roc_auc,
    "11-point-map": multi_label.eleven_point_map,
    "spearman": regression.spearman,
    "recall@1": partial(ranking.recall_at, k=1),
    "recall@5": partial(ranking.recall_at, k=5),
    "recall@10": partial(ranking.recall_at, k=10),
}
_TEXTS: dict[str, Callable[[Sequence[str], Sequence[Sequence[str]]], float]] = {
    "exact-match": questions.exact_match,
    "vqa-accuracy": questions.vqa_accuracy,
    "bleu-4": captions.bleu4,
    "cider": captions.cider,
    "iou@0.5": boxes.iou_at_half,
}


def metric_names() -> tuple[str, ...]:
    """Return the names of all metrics."""
    return (*_CHOICES, *_TEXTS)


def reads_text(name: str) -> bool:
    """Return whether a metric compares written answers rather than the scores of listed ones."""
    return name in _TEXTS


def compute_metric(
    name: str, scores: Tensor, target: Tensor, relevant: Tensor | None = None, answers: Sequence[str] = ()
) -> float:
    """Return a metric of answers' scores (N, C) against the right answers' indices (N,).

    `relevant` (N, C) marks every right answer where there are several; `answers` are the C texts, which some
    metrics read as numbers. In [0, 1], but Matthews' and Spearman's coefficients in [−1, 1].
    """
    if name not in _CHOICES:
        raise InputError(f"unknown metric {name!r}; expected one of: {', '.join(_CHOICES)}")
    return _CHOICES[name](Chosen(scores, target, relevant, tuple(answers)))


def compute_text_metric(name: str, written: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return a metric of N written answers against the right ones of each; in [0, 1], but CIDEr in [0, 10]."""
    if name not in _TEXTS:
        raise InputError(f"unknown metric {name!r} of written answers; expected one of: {', '.join(_TEXTS)}")
    if len(written) != len(references) or not written:
        raise InputError(f"{name}: {len(written)} answers for {len(references)} examples; expected one each")
    return _TEXTS[name](written, references)
