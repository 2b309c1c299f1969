"""Metrics of choosing one answer."""

from __future__ import annotations

from sklearn.metrics import f1_score, matthews_corrcoef, roc_auc_score

from pitune.errors import InputError
from pitune.tasks.metrics.chosen import Chosen


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
    predicted = found.scores.argmax(-1)
    return float(f1_score(found.target.numpy(), predicted.numpy(), average=average, zero_division=0.0))


def matthews(found: Chosen) -> float:
    """Return Matthews' correlation in [−1, 1], as GLUE has it for CoLA."""
    return float(matthews_corrcoef(found.target.numpy(), found.scores.argmax(-1).numpy()))


def roc_auc(found: Chosen) -> float:
    """Return the area under the ROC curve of the last of two answers, or the mean over more, one against the rest.

    Two answers are ranked by the difference of their scores, which is the log-odds. Raises `InputError` if
    not every answer is right somewhere.
    """
    scores, target = found.scores.double(), found.target.numpy()
    if len(set(target.tolist())) < scores.shape[1]:
        raise InputError("roc-auc needs examples of every class; found some classes without; measure on more examples")
    if scores.shape[1] == 2:
        return float(roc_auc_score(target, (scores[:, 1] - scores[:, 0]).numpy()))
    return float(roc_auc_score(target, scores.softmax(-1).numpy(), multi_class="ovr"))
