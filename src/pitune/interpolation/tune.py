"""Train a target's own expert together with its neighbours', and choose by validation data how far to trust them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts import Card, Expert, attached
from pitune.interpolation.choice import SOUP, Candidate, choose, equal_shares, select
from pitune.interpolation.learner import MixtureLearner, Rates
from pitune.interpolation.mixing import check_mixable, mix, sites_of
from pitune.interpolation.weights import Granularity, MixingWeights, Weighting, group_of
from pitune.prediction import Neighbours, embed
from pitune.registry import unknown
from pitune.tasks import Draw, asked_of
from pitune.training import (
    Evaluation,
    OneTask,
    Trained,
    TrainingSettings,
    check_backbone,
    evaluate_expert,
    evaluate_tensors,
    target_training,
    train,
    untrained,
)

OWN = "own"


class TuneSettings(BaseModel):
    """How a mix is trained; the defaults are what won on validation data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    training: TrainingSettings | None = Field(default=None, description="as long as the number of labels asks for")
    granularity: Granularity = "layer"
    kind: Weighting = "free"
    select: bool = Field(default=True, description="use those neighbours alone that serve the few labels")
    neighbour_rate: float = Field(default=1.0, ge=0, description="share of the learning rate for neighbours' experts")
    weight_rate: float = Field(default=10.0, gt=0, description="multiple of the learning rate for mixing weights")
    own_weight: float = Field(default=1.0, gt=0, description="where the weight of the target's own expert begins")
    rank: int | None = Field(default=None, ge=1, description="rank of the folded LoRA; exact unless given")
    candidates: tuple[str, ...] = Field(default=("neighbours", "alone", "joint", SOUP), min_length=1)


@dataclass(frozen=True)
class TuneResult:
    """A folded expert and how it came about: `weights` by group of sites and expert's name.

    `folded` holds every candidate folded to one expert, the chosen one among them.
    """

    expert: Expert
    choice: str
    candidates: tuple[Candidate, ...]
    weights: Mapping[str, Mapping[str, float]]
    folded: Mapping[str, Expert]
    neighbours: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class _Start:
    """Experts in a mix, the target's own first, and the weights they begin with."""

    experts: Sequence[Expert]
    weights: Sequence[float]
    rates: Rates


@dataclass(frozen=True)
class _Finished:
    """A candidate: experts as they are after training, and their weights by site."""

    candidate: Candidate
    experts: Sequence[Expert]
    weights: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class _Case:
    """What every candidate of one run has in common."""

    backbone: Backbone
    draw: Draw
    settings: TuneSettings
    training: TrainingSettings
    run: Path | None
    progress: bool


def tune_nearest(
    near: Neighbours, *, settings: TuneSettings | None = None, run: Path | None = None, progress: bool = False
) -> TuneResult:
    """Tune with the neighbours that were found for a target, and embed its task by the probe that found them."""
    backbone, draw = near.target.backbone, near.target.draw
    result = tune_expert(backbone, draw, near.experts, settings=settings, run=run, progress=progress)
    expert = embed(backbone, draw, result.expert, probe=near.target.probe)
    return replace(result, expert=expert, neighbours=tuple(near.pairs))


def tune_expert(
    backbone: Backbone,
    draw: Draw,
    neighbours: Sequence[Expert],
    *,
    settings: TuneSettings | None = None,
    run: Path | None = None,
    progress: bool = False,
) -> TuneResult:
    """Train every candidate on a draw and fold one of them to a single expert.

    With `select`, of the neighbours those are used that serve the few labels. From the simplest on, the candidates
    are: `neighbours`, these in equal shares, as they are; `alone`, the target's own expert as without neighbours;
    `joint`, own and neighbours trained at once, beginning at these shares beside the whole of the target's own
    (π-Tuning, step 3, where all begin equal); `soup`, the mean of the candidates before it (Wortsman et al., 2022).
    One of them is chosen by its calibrated validation losses (`choose`); without validation examples the last one is.
    Unless the settings say so, training is as long as `target_training` says for so many labels.
    """
    settings = settings or TuneSettings()
    training = settings.training or target_training(len(draw.train))
    settings = settings.model_copy(update={"training": training})
    _check(backbone, neighbours, settings)
    case = _Case(backbone, draw, settings, training, run, progress)
    own = _fresh(case, neighbours[0])
    used = select(backbone, draw, neighbours) if settings.select else list(neighbours)
    finished: dict[str, _Finished] = {}
    for name in settings.candidates:
        if name == SOUP:
            finished[name] = _soup(case, list(finished.values()))
        else:
            finished[name] = _train(case, name, _PLANS[name](own, used, settings))
    candidates = tuple(one.candidate for one in finished.values())
    folded = {name: _fold(case, one) for name, one in finished.items()}
    best = choose(candidates).name
    return TuneResult(folded[best], best, candidates, _shown(finished[best], settings.granularity), folded)


def _check(backbone: Backbone, neighbours: Sequence[Expert], settings: TuneSettings) -> None:
    """Raise `InputError` before anything is trained if these cannot be tuned with."""
    lacking = set(settings.candidates) - {*_PLANS, SOUP}
    if lacking:
        raise unknown("candidate", sorted(lacking)[0], (*_PLANS, SOUP))
    if settings.candidates[0] == SOUP:
        raise InputError(f"candidate {SOUP!r} comes first; expected after those that it is the mean of")
    for expert in neighbours:
        check_backbone(expert, backbone)
    check_mixable(neighbours)
    kind = neighbours[0].kind
    if settings.rank is not None and not kind.ranked:
        raise InputError(f"a rank was asked for, but {kind.name} experts have none; leave it out")


def _neighbours(own: Expert, used: Sequence[Expert], settings: TuneSettings) -> _Start:
    return _Start(used, equal_shares(used), Rates(0.0, 0.0, 0.0))


def _alone(own: Expert, used: Sequence[Expert], settings: TuneSettings) -> _Start:
    return _Start([own], [1.0], Rates(weights=0.0))


def _joint(own: Expert, used: Sequence[Expert], settings: TuneSettings) -> _Start:
    rates = Rates(neighbours=settings.neighbour_rate, weights=settings.weight_rate)
    return _Start([own, *used], [settings.own_weight, *equal_shares(used)], rates)


_PLANS = {"neighbours": _neighbours, "alone": _alone, "joint": _joint}


def _fresh(case: _Case, like: Expert) -> Expert:
    """Return the target's own expert before training, of settings that mix with its neighbours'."""
    backbone, draw = case.backbone, case.draw
    own = like.kind.beside(backbone, like.settings)
    card = Card(name=OWN, backbone=backbone.fingerprint, base_model=backbone.name, task=draw.task.name, seed=draw.seed)
    return untrained(backbone, like.kind, own, card)


def _train(case: _Case, name: str, start: _Start) -> _Finished:
    backbone, draw, kind = case.backbone, case.draw, start.experts[0].kind
    settings = [expert.settings for expert in start.experts]
    tensors: list[Mapping[str, Tensor]] = [
        {key: value.to(backbone.device) for key, value in expert.tensors.items()} for expert in start.experts
    ]
    weights = MixingWeights(sites_of(start.experts), start.weights, case.settings.granularity, case.settings.kind).to(
        backbone.device
    )
    learner = MixtureLearner(kind, settings, tensors, weights=weights, rates=start.rates)
    with attached(backbone, kind, kind.combined(settings, tensors)) as place:
        if learner.parameters():
            feed = OneTask(draw, case.training.batch_size)
            title = f"{draw.task.name} {name}" if case.progress else ""
            run = case.run / name if case.run else None
            candidate = _trained(name, train(place, learner, feed, case.training, run=run, title=title))
        else:
            seen = evaluate_tensors(place, learner.tensors(), draw.task, draw.validation) if draw.validation else None
            candidate = _untrained(name, seen)
    moved = [
        replace(expert, tensors={key: value.detach().cpu() for key, value in values.items()})
        for expert, values in zip(start.experts, learner.experts, strict=True)
    ]
    return _Finished(candidate, moved, {site: value.tolist() for site, value in weights.by_site().items()})


def _soup(case: _Case, parts: Sequence[_Finished]) -> _Finished:
    """Return the mean of candidates; it has learned from the labels if one of them has."""
    experts = [expert for part in parts for expert in part.experts]
    weights = {
        site: [value / len(parts) for part in parts for value in part.weights.get(site, [0.0] * len(part.experts))]
        for site in sites_of(experts)
    }
    seen = _validated(case, mix(experts, weights))
    best_step = max(part.candidate.best_step for part in parts)
    return _Finished(replace(_untrained(SOUP, seen), best_step=best_step), experts, weights)


def _validated(case: _Case, expert: Expert) -> Evaluation | None:
    """Return how an expert does on the validation labels; None where there are none."""
    draw = case.draw
    return evaluate_expert(case.backbone, draw.task, expert, draw.validation) if draw.validation else None


def _trained(name: str, trained: Trained) -> Candidate:
    return Candidate(name, trained.validation, trained.validation_losses, trained.steps, trained.best_step)


def _untrained(name: str, seen: Evaluation | None) -> Candidate:
    if seen is None:
        return Candidate(name, 0.0, (), 0, 0)
    return Candidate(name, seen.value, tuple(seen.calibrated.tolist()), 0, 0)


def _fold(case: _Case, finished: _Finished) -> Expert:
    """Return a candidate as one expert of the ordinary kind."""
    draw, settings = case.draw, case.settings
    folded = mix(finished.experts, finished.weights, rank=settings.rank)
    validation = finished.candidate.validation
    if settings.rank is not None and (seen := _validated(case, folded)) is not None:
        validation = seen.value
    card = folded.card.model_copy(
        update={
            "name": f"pi-{draw.expert_name(folded.method)}",
            "task": draw.task.name,
            "data_hash": draw.task.data_hash,
            "shots": draw.shots,
            "seed": draw.seed,
            "metric": draw.task.metric,
            "validation": validation,
            "hyperparameters": {
                **folded.card.hyperparameters,
                **settings.model_dump(mode="json"),
                "choice": finished.candidate.name,
                **asked_of(draw.task),
            },
        }
    )
    return replace(folded, card=card)


def _shown(finished: _Finished, granularity: Granularity) -> dict[str, dict[str, float]]:
    """Return a candidate's weights by group of sites and expert's name, those of one name together."""
    shown: dict[str, dict[str, float]] = {}
    for site, values in finished.weights.items():
        of = dict.fromkeys((expert.name for expert in finished.experts), 0.0)
        for expert, value in zip(finished.experts, values, strict=True):
            of[expert.name] += value
        shown[group_of(site, granularity)] = of
    return shown
