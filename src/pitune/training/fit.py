"""Train one expert for one task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts import (
    Attached,
    Card,
    Expert,
    Method,
    MethodConfig,
    Tensors,
    attached,
    check_tensors,
    get_method,
    initial_tensors,
    make_config,
)
from pitune.tasks import Example, Task, few_shot, short_name
from pitune.training.evaluate import check_backbone
from pitune.training.loop import Trained, train
from pitune.training.settings import TrainingSettings

INITIAL_SEED = 0  # of every expert, whatever its task, so that experts stay mixable


@dataclass(frozen=True)
class SingleLearner:
    """An expert that trains by itself."""

    values: dict[str, Tensor]

    def parameters(self) -> list[tuple[Tensor, float]]:
        return [(value, 1.0) for value in self.values.values()]

    def tensors(self) -> Tensors:
        return self.values

    def finished(self) -> dict[str, Tensor]:
        """Return the values as an expert holds them, off the device that they were trained on."""
        return {name: value.detach().cpu() for name, value in self.values.items()}


def continued(start: Expert | None, backbone: Backbone, method: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an expert that goes on from `start`: those of the start, whatever else is given.

    Raise `InputError` if `start` is of another backbone or kind, or differs in a setting that was asked for.
    """
    if start is None:
        return dict(config)
    check_backbone(start, backbone)
    if start.method != method:
        raise InputError(f"cannot start from {start.name!r}: it is of kind {start.method!r}, expected {method!r}")
    for name, value in config.items():
        if start.config.get(name) != value:
            raise InputError(
                f"{name} is {value!r}, but {start.name!r}, to start from, has {start.config.get(name)!r}; leave it out"
            )
    return dict(start.config)


def start_learner(place: Attached, kind: Method, config: MethodConfig, start: Tensors | None) -> SingleLearner:
    """Return an expert about to train, from the common starting values or from `start`, all of whose keys must fit."""
    if start is not None:
        check_tensors(place.shapes, start, f"the {kind.name} expert to start from")
    first = initial_tensors(kind, place.shapes, INITIAL_SEED, config) if start is None else start
    return SingleLearner({name: value.clone().to(place.backbone.device) for name, value in first.items()})


def untrained(backbone: Backbone, method: Method, config: MethodConfig, card: Card, seed: int = INITIAL_SEED) -> Expert:
    """Return an expert before training; without a seed, of the values that all experts of a pool start from."""
    with attached(backbone, method, config) as place:
        tensors = initial_tensors(method, place.shapes, seed, config)
    return Expert(method.name, config.model_dump(mode="json"), tensors, card)


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
    return f"{expert_stem(task.name)}-{method}-{'all' if shots is None else shots}-{seed}"


def expert_stem(task: str) -> str:
    """Return the part of an expert's name that says which task it is for."""
    return short_name(task).lower().replace("/", "-").replace(" ", "-")


def fit_expert(
    backbone: Backbone,
    task: Task,
    data: Data,
    method: str = "lora",
    settings: TrainingSettings | None = None,
    start: Expert | None = None,
    run: Path | None = None,
    progress: bool = False,
    **config: Any,
) -> tuple[Expert, Trained]:
    """Train an expert of a kind on `data`, from the common starting values or from the expert `start`.

    Raise `InputError` naming the first tensor of `start` that is missing, extra or of another shape: nothing of
    it is passed over.
    """
    settings = settings or TrainingSettings()
    kind = get_method(method)
    chosen = make_config(kind, backbone, **continued(start, backbone, method, config))
    with attached(backbone, kind, chosen) as place:
        learner = start_learner(place, kind, chosen, start.tensors if start else None)
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
        hyperparameters={
            **settings.model_dump(),
            "best_step": trained.best_step,
            **({"start": start.name} if start else {}),
        },
    )
    return Expert(method, chosen.model_dump(mode="json"), learner.finished(), card), trained
