"""What one would do without π-Tuning: every baseline turns the same data into one number on the test part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts import Expert
from pitune.interpolation import mix
from pitune.tasks import Example, Task
from pitune.tasks.metrics import compute_metric
from pitune.training import Data, by_length, evaluate_expert

Measured = tuple[str, float, int]
_STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)


def measured(backbone: Backbone, task: Task, expert: Expert | None, test: Sequence[Example]) -> Measured:
    """Return (metric, value, n) of an expert, or zero-shot with none."""
    found = evaluate_expert(backbone, task, expert, test)
    return found.metric, found.value, len(found.ids)


def linear_probe(backbone: Backbone, task: Task, data: Data, test: Sequence[Example]) -> Measured:
    """Fit a logistic regression on frozen features; its strength is chosen on validation data."""
    answers = task.answers
    if answers is None:
        raise InputError(f"task {task.name!r} has open answers; a linear probe needs a fixed set")
    train = _features(backbone, task, data.train)
    validation = _features(backbone, task, data.validation)
    best: tuple[float, float, LogisticRegression] | None = None
    for strength in _STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=2000)
        model.fit(train[0], train[1])
        value = float(model.score(validation[0], validation[1]))
        if best is None or value > best[0]:
            best = (value, strength, model)
    assert best is not None
    features, target, relevant = _features(backbone, task, test)
    scores = np.full((len(target), len(answers)), -np.inf)
    scores[:, best[2].classes_] = best[2].predict_log_proba(features)
    value = compute_metric(task.metric, torch.from_numpy(scores), torch.from_numpy(target), relevant, answers)
    return task.metric, value, len(target)


def best_neighbour(backbone: Backbone, task: Task, data: Data, experts: Sequence[Expert]) -> Expert:
    """Return the neighbour that is best on validation data, unchanged; ties go to the nearest."""
    values = [evaluate_expert(backbone, task, expert, data.validation) for expert in experts]
    order = max(range(len(experts)), key=lambda i: (values[i].value, -values[i].loss))
    return experts[order]


def uniform_mix(experts: Sequence[Expert]) -> Expert:
    """Return the neighbours mixed in equal shares."""
    return mix(experts, [1 / len(experts)] * len(experts), name="uniform")


@torch.no_grad()
def _features(
    backbone: Backbone, task: Task, examples: Sequence[Example]
) -> tuple[NDArray[np.float32], NDArray[np.int64], Tensor | None]:
    """Return features (N, D), targets (N,), and where examples have several right answers which they are (N, C)."""
    features, target, relevant = [], [], []
    for chunk in by_length(examples, 64):
        batch = backbone.prepare(chunk, task)
        features.append(backbone.features(batch).cpu().numpy())
        target.append(batch.target.cpu().numpy())
        if batch.relevant is not None:
            relevant.append(batch.relevant.cpu())
    return np.concatenate(features), np.concatenate(target), torch.cat(relevant) if relevant else None
