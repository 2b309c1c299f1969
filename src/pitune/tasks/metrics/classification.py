"""Metrics of choosing one answer."""

from __future__ import annotations

from pitune.errors import InputError
from pitune.extras import need
from pitune.tasks.metrics.metric import Chosen, Metric


def accuracy(found: Chosen) -> float:
    """Return the share of examples whose best-scored answer is right."""
    return float((found.scores.argmax(-1) == found.target).double().mean())


def mean_per_class(found: Chosen) -> float:
    """Return the mean over classes of the share of a class's examples that are right."""
    right = (found.scores.argmax(-1) == found.target).double()
    classes = sorted(set(found.target.tolist()))
    return sum(float(right[found.target == label].mean()) for label in classes) / len(classes)


def f1(found: Chosen) -> float:
    """Return F1 of the last of two answers, as GLUE has it, or the mean over more."""
    average = "binary" if found.scores.shape[1] == 2 else "macro"
    chosen = found.scores.argmax(-1)
    sklearn = need("sklearn.metrics", "metrics")
    return float(sklearn.f1_score(found.target.numpy(), chosen.numpy(), average=average, zero_division=0.0))


def matthews(found: Chosen) -> float:
    """Return Matthews' correlation, as GLUE has it for CoLA; 0 where all are one class, or all are taken for one."""
    target, chosen = found.target.numpy(), found.scores.argmax(-1).numpy()
    if min(len(set(target.tolist())), len(set(chosen.tolist()))) < 2:
        return 0.0
    return float(need("sklearn.metrics", "metrics").matthews_corrcoef(target, chosen))


def roc_auc(found: Chosen) -> float:
    """Return the area under the ROC curve of the last of two answers, or the mean over more, one against the rest.

    Two answers are ranked by the difference of their scores, which is the log-odds. Raises `InputError` if
    not every answer is right somewhere.
    """
    scores, target = found.scores.double(), found.target.numpy()
    if len(set(target.tolist())) < max(scores.shape[1], 2):
        raise InputError("roc-auc needs examples of every class; found some classes without; measure on more examples")
    sklearn = need("sklearn.metrics", "metrics")
    if scores.shape[1] == 2:
        return float(sklearn.roc_auc_score(target, (scores[:, 1] - scores[:, 0]).numpy()))
    return float(sklearn.roc_auc_score(target, scores.softmax(-1).numpy(), multi_class="ovr"))


ACCURACY = Metric("accuracy", "share of examples answered right", accuracy, mean=True)
MEAN_PER_CLASS = Metric("mean-per-class", "mean over classes of the share answered right", mean_per_class)
F1 = Metric("f1", "F1 of the last of two classes, or the mean over more", f1)
MATTHEWS = Metric("matthews", "Matthews' correlation of chosen and right classes", matthews, low=-1.0)
ROC_AUC = Metric("roc-auc", "area under the ROC curve, the mean over more than two classes", roc_auc)
