"""Train one expert over many tasks, as a source for others or as the one expert of a group."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts import Card, Expert, attached, get_method, make_config
from pitune.files import sha256_bytes
from pitune.training.fit import continued, expert_stem, start_learner
from pitune.training.loop import Trained, train_on
from pitune.training.mixture import SCOPES, Member, Mixture, Scope
from pitune.training.proportions import read_mixing
from pitune.training.settings import TrainingSettings

_LONGEST_STEM = 40


def fit_multitask(
    backbone: Backbone,
    members: Sequence[Member],
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
    """Train an expert of a kind over all members, kept where its mean validation loss over tasks is lowest.

    From the common starting values, or from the expert `start`. Raise `InputError` naming the task that cannot
    be part of a mixture before anything is trained, or the setting that is wrong.
    """
    if scope not in SCOPES:
        raise InputError(f"unknown scope {scope!r}; expected task or union")
    settings = settings or TrainingSettings()
    mixture = Mixture(members, read_mixing(mixing), scope, settings.batch_size, seed)
    kind = get_method(method)
    chosen = make_config(kind, backbone, **continued(start, backbone, method, config))
    with attached(backbone, kind, chosen) as place:
        mixture.check(place)
        learner = start_learner(place, kind, chosen, start.tensors if start else None)
        trained = train_on(place, learner, mixture, settings, run, mixture.name if progress else "")
    tasks = [member.task for member in members]
    metrics = {task.metric for task in tasks}
    card = Card(
        name=multitask_name(members, method, seed),
        backbone=backbone.fingerprint,
        base_model=backbone.name,
        task=mixture.name,
        data_hash=sha256_bytes("\n".join(task.data_hash for task in tasks).encode()),
        shots=members[0].data.shots,
        seed=seed,
        metric=metrics.pop() if len(metrics) == 1 else "mean of metrics",
        validation=trained.validation if any(member.validation for member in members) else None,
        hyperparameters={
            **settings.model_dump(),
            "best_step": trained.best_step,
            "tasks": [task.name for task in tasks],
            "mixing": str(read_mixing(mixing)),
            "scope": scope,
            "curves": _curves(trained),
            **({"start": start.name} if start else {}),
        },
    )
    return Expert(method, chosen.model_dump(mode="json"), learner.finished(), card), trained


def multitask_name(members: Sequence[Member], method: str, seed: int) -> str:
    """Return the name of an expert after its tasks, or after how many they are where the names are too long."""
    names = [member.task.name for member in members]
    stem = "-".join(expert_stem(name) for name in names)
    if len(stem) > _LONGEST_STEM:
        stem = f"{len(names)}-tasks-{sha256_bytes(' '.join(names).encode())[:8]}"
    shots = members[0].data.shots
    return f"{stem}-{method}-{'all' if shots is None else shots}-{seed}"


def _curves(trained: Trained) -> dict[str, list[list[float]]]:
    """Return each task's (step, metric, loss) on validation data at every look."""
    curves: dict[str, list[list[float]]] = {}
    for line in trained.history:
        for name, part in line.get("tasks", {}).items():
            curves.setdefault(name, []).append([line["step"], part["validation"], part["validation_loss"]])
    return curves
