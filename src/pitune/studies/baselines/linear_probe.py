"""A logistic regression on frozen features."""

from __future__ import annotations

import numpy as np
import torch

from pitune.errors import InputError
from pitune.extras import need
from pitune.studies.baselines.baseline import Baseline
from pitune.studies.rows import Measured
from pitune.studies.trial import Trial
from pitune.tasks import Task
from pitune.tasks.metrics import compute_metric
from pitune.training import features_of

_STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)


def linear_probe(trial: Trial) -> Measured:
    """Fit on the labels to train on; the strength is chosen on those to validate by."""
    task, draw = trial.task, trial.draw
    answers = task.answers
    if answers is None:
        raise InputError(f"task {task.name!r} has open answers; a linear probe needs a fixed set")
    train, validation, test = (
        features_of(trial.backbone, task, part) for part in (draw.train, draw.validation, trial.test)
    )
    regression = need("sklearn.linear_model", "metrics").LogisticRegression
    models = [regression(C=strength, max_iter=2000).fit(train.values, train.labels) for strength in _STRENGTHS]
    best = max(models, key=lambda model: float(model.score(validation.values, validation.labels)))
    scores = np.full((len(test.labels), len(answers)), -np.inf)
    scores[:, best.classes_] = best.predict_log_proba(test.values)
    value = compute_metric(task.metric, torch.from_numpy(scores), test.labels, test.relevant, answers)
    return task.metric, value, len(test.labels)


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
