"""A logistic regression on frozen features."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pitune.errors import InputError
from pitune.extras import need
from pitune.studies.baselines.baseline import Baseline
from pitune.studies.rows import Measured
from pitune.studies.trial import Trial
from pitune.tasks import Task
from pitune.tasks.metrics import compute_metric
from pitune.training import Features, features_of

_STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
_UNSEEN = -20.0  # log-probability of a class that nothing was learned of


def linear_probe(trial: Trial) -> Measured:
    """Fit on every label, at the strength that has the lowest validation loss when fit on those to train on."""
    task, draw = trial.task, trial.draw
    answers = task.answers
    if answers is None:
        raise InputError(f"task {task.name!r} has open answers; a linear probe needs a fixed set")
    train, validation, whole, test = (
        features_of(trial.backbone, task, part) for part in (draw.train, draw.validation, draw.labels, trial.test)
    )
    regression = need("sklearn.linear_model", "metrics").LogisticRegression

    def scores(strength: float, learned: Features, asked: Features) -> Tensor:
        model = regression(C=strength, max_iter=2000).fit(learned.values, learned.labels)
        found = np.full((len(asked.labels), len(answers)), _UNSEEN)
        found[:, model.classes_] = model.predict_log_proba(asked.values)
        return torch.from_numpy(found)

    def loss(strength: float) -> float:
        return float(F.cross_entropy(scores(strength, train, validation), validation.labels))

    found = scores(min(_STRENGTHS, key=loss), whole, test)
    value = compute_metric(task.metric, found, test.labels, test.relevant, answers)
    return Measured(task.metric, value, len(test.labels))


def _has_answers(task: Task) -> bool:
    return task.answers is not None


LINEAR_PROBE = Baseline(
    "linear probe",
    linear_probe,
    "a logistic regression on frozen features",
    applies=_has_answers,
    default=True,
    demo=True,
)
