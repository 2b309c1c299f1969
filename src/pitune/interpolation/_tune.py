"""Train a target's own expert together with its neighbours', and choose by validation data how far to trust them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts import Card, Expert, Method, attached, get_method, initial_tensors, make_config, read_config
from pitune.interpolation._learner import MixtureLearner, Rates
from pitune.interpolation._mix import check_mixable, mix
from pitune.interpolation._weights import Granularity, Kind, MixingWeights
from pitune.tasks import Task
from pitune.training import INITIAL_SEED, Data, Trained, TrainingSettings, check_backbone, expert_name, train

OWN = "own"


class TuneSettings(BaseModel):
    """How a mix is trained; the defaults are what won on validation data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    training: TrainingSettings = Field(default_factory=lambda: TrainingSettings(steps=60))
    granularity: Granularity = "layer"
    kind: Kind = "free"
    neighbour_rate: float = Field(default=0.3, ge=0, description="share of the learning rate for neighbours' experts")
    weight_rate: float = Field(default=10.0, gt=0, description="multiple of the learning rate for mixing weights")
    candidates: tuple[str, ...] = Field(default=("alone", "weights", "joint"), min_length=1)


@dataclass(frozen=True)
class Candidate:
    """One way to use the neighbours, with its validation metric and loss."""

    name: str
    validation: float
    loss: float
    steps: int
    best_step: int


@dataclass(frozen=True)
class TuneResult:
    """A folded expert and how it came about: `weights` by group of sites and expert's name."""

    expert: Expert
    choice: str
    candidates: tuple[Candidate, ...]
    weights: Mapping[str, Mapping[str, float]]
    neighbours: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class _Start:
    """Experts in a mix, the target's own first, and the weights they begin with."""

    experts: Sequence[Expert]
    weights: Sequence[float]
    granularity: Granularity
    rates: Rates


@dataclass(frozen=True)
class _Finished:
    candidate: Candidate
    experts: Sequence[Expert]
    weights: MixingWeights


def tune_expert(
    backbone: Backbone,
    task: Task,
    data: Data,
    neighbours: Sequence[Expert],
    settings: TuneSettings | None = None,
    run: Path | None = None,
    progress: bool = False,
) -> TuneResult:
    """Train every candidate on `data` and fold the one of the lowest validation loss to a single expert.

    `alone`: the target's own expert, as without neighbours. `weights`: the neighbours as they are, one free
    weight each. `joint`: own and neighbours at once, beginning at the weights just found (π-Tuning, step 3,
    where all begin equal). Each begins with an evaluation before its first step, so a mix that is best
    untrained stays so.
    """
    settings = settings or TuneSettings()
    unknown = set(settings.candidates) - _PLANS.keys()
    if unknown:
        raise InputError(f"unknown candidate {sorted(unknown)[0]!r}; expected some of: {', '.join(_PLANS)}")
    for expert in neighbours:
        check_backbone(expert, backbone)
    check_mixable(neighbours)
    method = get_method(neighbours[0].method)
    own = _fresh(backbone, task, data, method, neighbours[0])
    finished: dict[str, _Finished] = {}
    for name in settings.candidates:
        start = _PLANS[name](own, neighbours, settings, finished)
        folder = run / name if run else None
        title = f"{task.name} {name}" if progress else ""
        finished[name] = _train(backbone, task, data, method, start, settings, name, folder, title)
    best = min(finished.values(), key=lambda found: found.candidate.loss)
    return _fold(task, data, best, [found.candidate for found in finished.values()], settings)


def _alone(own: Expert, neighbours: Sequence[Expert], settings: TuneSettings, finished: Any) -> _Start:
    return _Start([own], [1.0], "global", Rates(weights=0.0))


def _weights(own: Expert, neighbours: Sequence[Expert], settings: TuneSettings, finished: Any) -> _Start:
    share = 1.0 / len(neighbours)
    rates = Rates(own=0.0, neighbours=0.0, weights=settings.weight_rate)
    return _Start([own, *neighbours], [1.0, *[share] * len(neighbours)], "global", rates)


def _joint(
    own: Expert, neighbours: Sequence[Expert], settings: TuneSettings, finished: Mapping[str, _Finished]
) -> _Start:
    begun = finished["weights"].weights.by_group()["all"].tolist()[1:] if "weights" in finished else None
    share = [1.0 / len(neighbours)] * len(neighbours)
    rates = Rates(neighbours=settings.neighbour_rate, weights=settings.weight_rate)
    return _Start([own, *neighbours], [1.0, *(begun or share)], settings.granularity, rates)


_PLANS = {"alone": _alone, "weights": _weights, "joint": _joint}


def _fresh(backbone: Backbone, task: Task, data: Data, method: Method, like: Expert) -> Expert:
    """Return the target's own expert before training, with the neighbours' settings."""
    kept = read_config(method, like.config, f"expert {like.name!r}")
    config = make_config(method, backbone)
    own = config if method.name == "lora" else kept
    with attached(backbone, method, own) as place:
        start = initial_tensors(method, place.shapes, INITIAL_SEED)
    card = Card(name=OWN, backbone=backbone.fingerprint, base_model=backbone.name, task=task.name, seed=data.seed)
    return Expert(method.name, own.model_dump(mode="json"), start, card)


def _train(
    backbone: Backbone,
    task: Task,
    data: Data,
    method: Method,
    start: _Start,
    settings: TuneSettings,
    name: str,
    run: Path | None,
    title: str,
) -> _Finished:
    configs = [read_config(method, expert.config, f"expert {expert.name!r}") for expert in start.experts]
    tensors: list[Mapping[str, Tensor]] = [
        {key: value.to(backbone.device) for key, value in expert.tensors.items()} for expert in start.experts
    ]
    sites = list(dict.fromkeys(method.site(tensor) for one in tensors for tensor in one))
    kind: Kind = "free" if name == "weights" else settings.kind
    weights = MixingWeights(sites, start.weights, start.granularity, kind).to(backbone.device)
    learner = MixtureLearner(method, configs, tensors, weights, start.rates)
    with attached(backbone, method, method.combined(configs, tensors)) as place:
        trained: Trained = train(
            place, learner, task, data.train, data.validation, settings.training, data.seed, run, title
        )
    moved = [
        replace(expert, tensors={key: value.detach() for key, value in values.items()})
        for expert, values in zip(start.experts, learner.experts, strict=True)
    ]
    candidate = Candidate(name, trained.validation, trained.validation_loss, trained.steps, trained.best_step)
    return _Finished(candidate, moved, weights)


def _fold(
    task: Task, data: Data, best: _Finished, candidates: Sequence[Candidate], settings: TuneSettings
) -> TuneResult:
    by_site = {site: value.tolist() for site, value in best.weights.by_site().items()}
    folded = mix(best.experts, by_site)
    names = [expert.name for expert in best.experts]
    card = folded.card.model_copy(
        update={
            "name": f"pi-{expert_name(task, folded.method, data.shots, data.seed)}",
            "task": task.name,
            "data_hash": task.data_hash,
            "shots": data.shots,
            "seed": data.seed,
            "metric": task.metric,
            "validation": best.candidate.validation,
            "hyperparameters": {**settings.model_dump(mode="json"), "choice": best.candidate.name},
        }
    )
    shown = {group: dict(zip(names, value.tolist(), strict=True)) for group, value in best.weights.by_group().items()}
    return TuneResult(replace(folded, card=card), best.candidate.name, tuple(candidates), shown)
