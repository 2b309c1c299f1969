"""Train one expert for one task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pitune.backbones import Backbone
from pitune.experts import Card, Expert, Tensors, attached, get_method, initial_tensors, make_config
from pitune.tasks import Example, Task, few_shot
from pitune.training._loop import Trained, train
from pitune.training._settings import TrainingSettings

INITIAL_SEED = 0  # of every expert, whatever its task, so that experts stay mixable


@dataclass(frozen=True)
class SingleLearner:
    """An expert that trains by itself."""

    values: dict[str, Tensor]

    def parameters(self) -> list[tuple[Tensor, float]]:
        return [(value, 1.0) for value in self.values.values()]

    def tensors(self) -> Tensors:
        return self.values

    def penalty(self) -> Tensor:
        return torch.zeros(())


@dataclass(frozen=True)
class Data:
    """The examples a run may use, and how they were drawn."""

    train: Sequence[Example]
    validation: Sequence[Example]
    shots: int | None = None
    seed: int = 0


def sample(task: Task, shots: int | None, seed: int) -> Data:
    """Draw the examples that a few-shot run may use; all of them where `shots` is None."""
    drawn = few_shot(task, shots, seed)
    return Data(drawn.train, drawn.validation, shots, seed)


def expert_name(task: Task, method: str, shots: int | None, seed: int) -> str:
    """Return the name of an expert after what it was trained on."""
    stem = task.name.removeprefix("pocket/").lower().replace("/", "-").replace(" ", "-")
    return f"{stem}-{method}-{'all' if shots is None else shots}-{seed}"


def fit_expert(
    backbone: Backbone,
    task: Task,
    data: Data,
    method: str = "lora",
    settings: TrainingSettings | None = None,
    start: Tensors | None = None,
    run: Path | None = None,
    progress: bool = False,
    **config: Any,
) -> tuple[Expert, Trained]:
    """Train an expert of a kind on `data`, from the common starting values or from `start`."""
    settings = settings or TrainingSettings()
    kind = get_method(method)
    chosen = make_config(kind, backbone, **config)
    with attached(backbone, kind, chosen) as place:
        first = start or initial_tensors(kind, place.shapes, INITIAL_SEED, chosen)
        learner = SingleLearner({name: value.clone().to(backbone.device) for name, value in first.items()})
        title = task.name if progress else ""
        trained = train(place, learner, task, data.train, data.validation, settings, data.seed, run, title)
    card = Card(
        name=expert_name(task, method, data.shots, data.seed),
        backbone=backbone.fingerprint,
        base_model=backbone.name,
        task=task.name,
        data_hash=task.data_hash,
        shots=data.shots,
        seed=data.seed,
        metric=task.metric,
        validation=trained.validation if data.validation else None,
        hyperparameters={**settings.model_dump(), "best_step": trained.best_step},
    )
    return Expert(method, chosen.model_dump(mode="json"), dict(learner.values), card), trained
