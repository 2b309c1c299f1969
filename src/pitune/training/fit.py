"""Train one expert for one task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts import (
    KINDS,
    Attached,
    Card,
    Expert,
    Kind,
    KindSettings,
    Tensors,
    attached,
    check_tensors,
    initial_tensors,
    make_settings,
    squared_distance,
)
from pitune.tasks import Draw, Example, asked_of
from pitune.training.evaluate import check_backbone, evaluate_parts
from pitune.training.loop import OneTask, Trained, train
from pitune.training.settings import PULL, TrainingSettings, folds_of, target_training

INITIAL_SEED = 0  # of every expert, whatever its task, so that experts stay mixable


@dataclass(frozen=True)
class SingleLearner:
    """An expert that trains by itself; `apart` tells how far two of its kind are from each other, squared."""

    values: dict[str, Tensor]
    apart: Callable[[Tensors, Tensors], Tensor] = squared_distance
    start: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", {name: value.detach().clone() for name, value in self.values.items()})

    def parameters(self) -> list[tuple[Tensor, float]]:
        """Return every tensor, at the full learning rate."""
        return [(value, 1.0) for value in self.values.values()]

    def tensors(self) -> Tensors:
        """Return the values that train, by their names in an expert."""
        return self.values

    def moved(self, tensors: Tensors) -> Tensor:
        """Return how far the values are from where training began, squared: a scalar."""
        return self.apart(tensors, self.start)

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
    for name, value in start.kind.resolved(backbone, config).items():
        if _plain(start.config.get(name)) != _plain(value):
            raise InputError(
                f"{name} is {value!r}, but {start.name!r}, to start from, has {start.config.get(name)!r}; leave it out"
            )
    return dict(start.config)


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it."""
    return list(value) if isinstance(value, tuple) else value


def start_learner(place: Attached, kind: Kind, settings: KindSettings, start: Tensors | None) -> SingleLearner:
    """Return an expert about to train, from the common starting values or from `start`, all of whose keys must fit."""
    if start is not None:
        check_tensors(place.shapes, start, f"the {kind.name} expert to start from")
    first = initial_tensors(kind, place.shapes, INITIAL_SEED, settings) if start is None else start
    values = {name: value.clone().to(place.backbone.device) for name, value in first.items()}
    return SingleLearner(values, partial(kind.distance, settings))


def untrained(
    backbone: Backbone, kind: Kind, settings: KindSettings, card: Card, *, seed: int = INITIAL_SEED
) -> Expert:
    """Return an expert before training; without a seed, of the values that all experts of a pool start from."""
    with attached(backbone, kind, settings) as place:
        tensors = initial_tensors(kind, place.shapes, seed, settings)
    return Expert(kind, settings, tensors, card)


def fit_by_folds(
    backbone: Backbone,
    draw: Draw,
    *,
    method: str = "lora",
    folds: int | None = None,
    settings: TrainingSettings | None = None,
    run: Path | None = None,
    **how: Any,
) -> tuple[Expert, Trained]:
    """Train an expert on every label of a draw, and judge the way it was trained by folds of them.

    The run has nothing to stop by and is held near its start instead (`TrainingSettings.pull`). The card's
    `validation` is the metric over all held-out labels, each as a run on the other folds answers it. With 0 folds, or
    nothing to hold out, this is `fit_expert`; `folds_of` says how many there are unless told. `how` is the rest of
    what `fit_expert` takes.
    """
    folds = folds_of(len(draw.labels)) if folds is None else folds
    if not folds or not draw.validation:
        return fit_expert(backbone, draw, method=method, settings=settings, run=run, **how)

    def fitted(labels: Sequence[Example], number: int) -> tuple[Expert, Trained]:
        part = replace(draw, train=tuple(labels), validation=())
        kept = run / (f"fold-{number}" if number else "all") if run else None
        title = f"{draw.task.name}, run {number + 1} of {folds + 1}"
        usual = target_training(len(labels), KINDS.get(method), stopped=False, whole=len(draw.labels))
        return fit_every_label(backbone, part, method=method, settings=settings or usual, run=kept, title=title, **how)

    parts = draw.folds(folds)
    expert, trained = fitted(draw.labels, 0)
    judges = [fitted(part.train, number)[0] for number, part in enumerate(parts, 1)]
    held = [part.validation for part in parts]
    seen = evaluate_parts(backbone, draw.task, list(zip(judges, held, strict=True)))
    hyperparameters = {**expert.card.hyperparameters, "folds": folds}
    card = expert.card.model_copy(update={"validation": seen.value, "hyperparameters": hyperparameters})
    losses = tuple(seen.calibrated.tolist())
    judged = replace(
        trained, validation=seen.value, validation_loss=sum(losses) / len(losses), validation_losses=losses
    )
    return replace(expert, card=card), judged


def fit_every_label(
    backbone: Backbone, draw: Draw, *, method: str = "lora", settings: TrainingSettings | None = None, **how: Any
) -> tuple[Expert, Trained]:
    """Train an expert on every label of a draw, with nothing to stop by: it is held near its start instead.

    `TrainingSettings.pull` says how strongly; `how` is the rest of what `fit_expert` takes.
    """
    chosen = settings or target_training(len(draw.labels), KINDS.get(method), stopped=False)
    pulled = chosen.model_copy(update={"pull": chosen.pull or PULL})
    return fit_expert(backbone, draw.whole, method=method, settings=pulled, **how)


def fit_expert(
    backbone: Backbone,
    draw: Draw,
    *,
    method: str = "lora",
    settings: TrainingSettings | None = None,
    start: Expert | None = None,
    run: Path | None = None,
    progress: bool = False,
    title: str = "",
    **config: Any,
) -> tuple[Expert, Trained]:
    """Train an expert of a kind on a draw, from the common starting values or from the expert `start`.

    Unless the settings say so, training is as long as `target_training` says for so many labels. `config` holds the
    kind's own settings, `title` names the bar of its `progress`, the task unless given. Raise `InputError` naming the
    first tensor of `start` that is missing, extra or of another shape: nothing of it is passed over.
    """
    kind, task = KINDS.get(method), draw.task
    settings = settings or target_training(len(draw.train), kind, stopped=bool(draw.validation))
    own = make_settings(kind, backbone, **continued(start, backbone, method, config))
    with attached(backbone, kind, own) as place:
        learner = start_learner(place, kind, own, start.tensors if start else None)
        feed = OneTask(draw, settings.batch_size)
        trained = train(place, learner, feed, settings, run=run, title=(title or task.name) if progress else "")
    card = Card(
        name=draw.expert_name(method),
        backbone=backbone.fingerprint,
        base_model=backbone.name,
        task=task.name,
        data_hash=task.data_hash,
        shots=draw.shots,
        seed=draw.seed,
        metric=task.metric,
        validation=trained.validation if draw.validation else None,
        hyperparameters={
            **settings.model_dump(),
            "best_step": trained.best_step,
            **({} if trained.stopped is None else {"stopped": trained.stopped}),
            **({"weights": task.weights} if task.weights else {}),
            **asked_of(task),
            **({"start": start.name} if start else {}),
        },
    )
    return Expert(kind, own, learner.finished(), card), trained
