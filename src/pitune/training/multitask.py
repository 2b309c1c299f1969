"""Train one expert over many tasks, as a source for others or as the one expert of a group."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts import KINDS, Card, Expert, attached, make_settings
from pitune.files import sha256_bytes
from pitune.tasks import Draw, stem_of
from pitune.training.fit import continued, start_learner
from pitune.training.loop import Trained, train
from pitune.training.mixture import SCOPES, Mixture, Scope
from pitune.training.proportions import read_mixing
from pitune.training.settings import TrainingSettings

_LONGEST_STEM = 40


def fit_multitask(
    backbone: Backbone,
    draws: Sequence[Draw],
    *,
    method: str = "lora",
    mixing: str = "balanced",
    scope: Scope = "task",
    seed: int = 0,
    settings: TrainingSettings | None = None,
    start: Expert | None = None,
    run: Path | None = None,
    progress: bool = False,
    **config: Any,
) -> tuple[Expert, Trained]:
    """Train an expert of a kind over all draws, kept where its mean validation loss over tasks is lowest.

    From the common starting values, or from the expert `start`. Raise `InputError` naming the task that cannot
    be part of a mixture before anything is trained, or the setting that is wrong.
    """
    if scope not in SCOPES:
        raise InputError(f"unknown scope {scope!r}; expected task or union")
    settings = settings or TrainingSettings()
    mixture = Mixture(draws, read_mixing(mixing), scope, settings.batch_size, seed)
    kind = KINDS.get(method)
    own = make_settings(kind, backbone, **continued(start, backbone, method, config))
    with attached(backbone, kind, own) as place:
        mixture.check(place)
        learner = start_learner(place, kind, own, start.tensors if start else None)
        trained = train(place, learner, mixture, settings, run=run, title=mixture.name if progress else "")
    tasks = [draw.task for draw in draws]
    metrics = {task.metric for task in tasks}
    card = Card(
        name=multitask_name(draws, method, seed),
        backbone=backbone.fingerprint,
        base_model=backbone.name,
        task=mixture.name,
        data_hash=sha256_bytes("\n".join(task.data_hash for task in tasks).encode()),
        shots=draws[0].shots,
        seed=seed,
        metric=metrics.pop() if len(metrics) == 1 else "mean of metrics",
        validation=trained.validation if any(draw.validation for draw in draws) else None,
        hyperparameters={
            **settings.model_dump(),
            "best_step": trained.best_step,
            **({} if trained.stopped is None else {"stopped": trained.stopped}),
            "tasks": [task.name for task in tasks],
            "mixing": str(read_mixing(mixing)),
            "scope": scope,
            "curves": _curves(trained),
            **({"start": start.name} if start else {}),
        },
    )
    return Expert(kind, own, learner.finished(), card), trained


def multitask_name(draws: Sequence[Draw], method: str, seed: int) -> str:
    """Return the name of an expert after its tasks, or after how many they are where the names are too long."""
    names = [draw.task.name for draw in draws]
    stem = "-".join(stem_of(name) for name in names)
    if len(stem) > _LONGEST_STEM:
        stem = f"{len(names)}-tasks-{sha256_bytes(' '.join(names).encode())[:8]}"
    shots = draws[0].shots
    return f"{stem}-{method}-{'all' if shots is None else shots}-{seed}"


def _curves(trained: Trained) -> dict[str, list[list[float]]]:
    """Return each task's (step, metric, loss) on validation data at every look."""
    curves: dict[str, list[list[float]]] = {}
    for line in trained.history:
        for name, part in line.get("tasks", {}).items():
            curves.setdefault(name, []).append([line["step"], part["validation"], part["validation_loss"]])
    return curves
