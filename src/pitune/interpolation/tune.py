"""Train a target's own expert together with its neighbours', and choose by validation data how far to trust them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts import OWN, Card, Expert, Kind, attached
from pitune.interpolation.choice import (
    ALONE,
    BACKBONE,
    CLEAR,
    JOINT,
    NEIGHBOURS,
    SOUP,
    Candidate,
    best_scale,
    choose,
    equal_shares,
    select,
)
from pitune.interpolation.learner import MixtureLearner, Rates
from pitune.interpolation.mixing import check_mixable, mix, parts_of, sites_of
from pitune.interpolation.verdict import verdict
from pitune.interpolation.weights import Granularity, MixingWeights, Weighting, group_of
from pitune.prediction import Neighbours, embed
from pitune.registry import unknown
from pitune.tasks import Draw, asked_of, spread
from pitune.training import (
    PULL,
    Evaluation,
    OneTask,
    Precision,
    TrainingSettings,
    check_backbone,
    evaluate_expert,
    evaluate_parts,
    folds_of,
    target_training,
    train,
    untrained,
)

_BY_FOLDS = (BACKBONE, NEIGHBOURS, ALONE, JOINT)
_BY_VALIDATION = (NEIGHBOURS, ALONE, JOINT, SOUP)
_KEPT, _ASKED = 0.01, 256  # share of ΔW that a smaller rank may lose, labels that must be answered as before
_SOUP_EARNED = 1.0  # nats by which others must beat the soup where labels are kept apart, docs/settings.md


class TuneSettings(BaseModel):
    """How a mix is trained; the defaults are what won on validation data.

    With `folds` every label trains the outcome, held near its start by `pull` in place of stopping, and candidates are
    judged by the labels of each fold as the others' runs answer them. Without, some labels never train: they stop
    runs and choose, as in the paper.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    training: TrainingSettings | None = Field(default=None, description="as long as the number of labels asks for")
    precision: Precision = Field(default="fp32", description="number format of runs of which `training` says nothing")
    folds: int | None = Field(
        default=None,
        ge=0,
        description="folds of the labels that judge; by their number, and 0 keeps some apart to judge",
    )
    pull: float = Field(default=PULL, ge=0, description="strength of the pull towards the start, with folds")
    averaged: bool = Field(
        default=False, description="the outcome is the mean of a candidate's runs, those of folds among them"
    )
    granularity: Granularity = "layer"
    kind: Weighting = "free"
    select: bool = Field(default=True, description="use those neighbours alone that serve the few labels")
    neighbour_rate: float = Field(default=1.0, ge=0, description="share of the learning rate for neighbours' experts")
    weight_rate: float = Field(default=0.03, gt=0, description="learning rate of the mixing weights")
    own: Mapping[str, Any] = Field(default={}, description="settings of the target's own expert, such as its rank")
    own_weight: float = Field(default=1.0, gt=0, description="where the weight of the target's own expert begins")
    rank: Annotated[int, Field(ge=1)] | Literal["auto", "exact"] = Field(
        default="auto", description="rank of the folded LoRA; auto is the smallest that changes no answer and 1 % of ΔW"
    )
    candidates: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="what is tried; all, unless given"
    )

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @property
    def tried(self) -> tuple[str, ...]:
        """The names of the candidates."""
        return self.candidates or (_BY_VALIDATION if self.folds == 0 else _BY_FOLDS)

    @property
    def stated_rank(self) -> int | None:
        """The rank asked for in so many words."""
        return self.rank if isinstance(self.rank, int) else None

    def on(self, draw: Draw) -> TuneSettings:
        """Return the settings with the folds that so many labels have unless given."""
        return self if self.folds is not None else self.model_copy(update={"folds": folds_of(len(draw.labels))})

    def lasting(self, draw: Draw, kind: Kind, whole: int | None = None) -> TrainingSettings:
        """Return how a run on a draw trains: as labels and kind of expert ask for unless the settings say so.

        `whole` is how many labels the outcome learns from, where this run is on a fold of them.
        """
        training = self.training_of(len(draw.train), kind, stopped=not self.folds, whole=whole)
        return training.model_copy(update={"pull": self.pull}) if self.folds else training

    def training_of(self, labels: int, kind: Kind, **how: Any) -> TrainingSettings:
        """Return how a run on so many labels trains, without a pull; `how` is the rest of `target_training`."""
        return self.training or target_training(labels, kind, **how).model_copy(update={"precision": self.precision})


@dataclass(frozen=True)
class TuneResult:
    """A folded expert and how it came about: `weights` by group of sites and expert's name.

    `folded` holds every candidate folded to one expert, the chosen one among them; `verdict` says in words what the
    labels tell of it.
    """

    expert: Expert
    choice: str
    candidates: tuple[Candidate, ...]
    weights: Mapping[str, Mapping[str, float]]
    folded: Mapping[str, Expert]
    neighbours: tuple[tuple[str, float], ...] = ()
    verdict: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Start:
    """Experts in a mix, the target's own first, and the weights they begin with."""

    experts: Sequence[Expert]
    weights: Sequence[float]
    rates: Rates


@dataclass(frozen=True)
class _Mixed:
    """What one run came to: the experts in the mix, their weights by site, and how long it took."""

    experts: Sequence[Expert]
    weights: Mapping[str, Sequence[float]]
    steps: int = 0
    best_step: int = 0


@dataclass(frozen=True)
class _Finished:
    """A candidate: what its run came to, and what is judged by the labels of each part."""

    candidate: Candidate
    mixed: _Mixed
    judged: Sequence[_Mixed]


@dataclass(frozen=True)
class _Case:
    """What every candidate of one run has in common.

    Each part holds labels that judge: all of them by folds, or those to validate by alone.
    """

    backbone: Backbone
    draw: Draw
    settings: TuneSettings
    run: Path | None
    progress: bool

    @cached_property
    def learned(self) -> Draw:
        """The labels that the outcome learns from, and those that stop it."""
        return self.draw.whole if self.settings.folds else self.draw

    @cached_property
    def parts(self) -> tuple[Draw, ...]:
        """The draws whose held-out labels judge, none where there are no such labels."""
        if not self.draw.validation:
            return ()
        return self.draw.folds(self.settings.folds or 1)

    def folded(self, mixed: _Mixed) -> Expert:
        """Return a mix as one expert, of the rank asked for."""
        return mix(mixed.experts, mixed.weights, rank=self.settings.stated_rank)

    def seen(self, judged: Sequence[_Mixed]) -> Evaluation | None:
        """Return how the labels that judge are answered, by a mix for each part; None where there are none."""
        if not self.parts:
            return None
        held = [(self.folded(mixed), part.validation) for mixed, part in zip(judged, self.parts, strict=True)]
        return evaluate_parts(self.backbone, self.draw.task, held)


def tune_nearest(
    near: Neighbours, *, settings: TuneSettings | None = None, run: Path | None = None, progress: bool = False
) -> TuneResult:
    """Tune with the neighbours that were found for a target, and embed its task by the probe that found them."""
    backbone, draw = near.target.backbone, near.target.draw
    result = tune_expert(backbone, draw, near.experts, settings=settings, run=run, progress=progress)
    told = result.expert.noting(neighbours=dict(near.pairs))
    expert = embed(backbone, draw, told, probe=near.target.probe)
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

    With `select`, of the neighbours those are used that serve the few labels, and by folds as many times their equal
    shares as serve them best (`best_scale`); where that is none at all, nothing is tried with them unless asked for.

    From the simplest on, the candidates are: `backbone`, an own expert that changes nothing; `neighbours`, these at
    their scale, as they are; `alone`, the target's own expert as without neighbours; `joint`, own and neighbours
    trained at once, beginning at that scale beside the whole of the target's own (π-Tuning, step 3, where all begin
    equal); and, without folds or where it is asked for, `soup`, the mean of those before it, by folds of the trained
    ones (Wortsman et al., 2022). One is chosen by the calibrated losses of the labels that judge (`choose`): in doubt
    `joint`, without folds `soup`. Unless the settings say so, each run is as long as `target_training` says.
    """
    settings = (settings or TuneSettings()).on(draw)
    _check(backbone, neighbours, settings)
    case = _Case(backbone, draw, settings, run, progress)
    own = _fresh(case, neighbours[0])
    own.kind.combined(
        [own.settings, neighbours[0].settings], [own.tensors, neighbours[0].tensors]
    )  # or says what differs
    used = select(backbone, draw, neighbours) if settings.select else list(neighbours)
    scale = best_scale(backbone, draw, used) if settings.folds and settings.select else 1.0
    alone = not scale and settings.candidates is None
    tried = [name for name in settings.tried if not (alone and name in (NEIGHBOURS, JOINT))]
    finished: dict[str, _Finished] = {}
    for name in tried:
        if name != SOUP:
            finished[name] = _train(case, name, _PLANS[name](own, used, scale or 1.0, case))
            continue
        parts = [one for one in finished.values() if not settings.folds or one.candidate.steps]
        if len(parts) > 1:
            finished[name] = _soup(case, parts)
    candidates = tuple(one.candidate for one in finished.values())
    folded = {name: _fold(case, one) for name, one in finished.items()}
    best = choose(candidates, *_in_doubt(list(finished), settings)).name
    if settings.rank == "auto":
        folded[best] = _small(case, folded[best])
    weights = _shown(finished[best].mixed, settings.granularity)
    untrained_own = "the backbone alone" if own.untouched else f"an untrained {own.kind.name.replace('_', ' ')}"
    told = verdict(draw, candidates, best, untrained_own)
    folded[best] = folded[best].noting(verdict=list(told))
    return TuneResult(folded[best], best, candidates, weights, folded, verdict=told)


def _small(case: _Case, expert: Expert) -> Expert:
    """Return an expert at the smallest rank that keeps ΔW within 1 % and every label's answer, where it has a rank."""
    kind, settings, tensors = expert.kind, expert.settings, expert.tensors
    if not kind.ranked:
        return expert
    rank = kind.rank_within(settings, tensors, _KEPT)
    less, fewer, lost = kind.truncate(settings, tensors, rank)
    small = Expert(kind, less, fewer, expert.noting(rank=rank, truncation_error=lost).card)
    labels = spread(case.draw.labels, _ASKED)
    before, after = (evaluate_expert(case.backbone, case.draw.task, one, labels) for one in (expert, small))
    same = before.written == after.written and torch.equal(before.scores.argmax(-1), after.scores.argmax(-1))
    return small if same and small.parameters < expert.parameters else expert


def _in_doubt(names: Sequence[str], settings: TuneSettings) -> tuple[str, float]:
    """Return the candidate to take in doubt, and by how many nats another must be better."""
    wanted, nats = ((JOINT, ALONE), CLEAR) if settings.folds else ((SOUP,), _SOUP_EARNED)
    return next((name for name in wanted if name in names), names[-1]), nats


def _check(backbone: Backbone, neighbours: Sequence[Expert], settings: TuneSettings) -> None:
    """Raise `InputError` before anything is trained if these cannot be tuned with."""
    lacking = set(settings.tried) - {*_PLANS, SOUP}
    if lacking:
        raise unknown("candidate", sorted(lacking)[0], (*_PLANS, SOUP))
    if settings.tried[0] == SOUP:
        raise InputError(f"candidate {SOUP!r} comes first; expected after those that it is the mean of")
    for expert in neighbours:
        check_backbone(expert, backbone)
    check_mixable(neighbours)
    kind = neighbours[0].kind
    if settings.stated_rank is not None and not kind.ranked:
        raise InputError(f"a rank was asked for, but {kind.name} experts have none; leave it out")


def _backbone(own: Expert, used: Sequence[Expert], scale: float, case: _Case) -> _Start:
    return _Start([own], [1.0], Rates(0.0, 0.0, 0.0))


def _neighbours(own: Expert, used: Sequence[Expert], scale: float, case: _Case) -> _Start:
    return _Start(used, equal_shares(used, scale), Rates(0.0, 0.0, 0.0))


def _alone(own: Expert, used: Sequence[Expert], scale: float, case: _Case) -> _Start:
    return _Start([own], [1.0], Rates(weights=0.0))


def _joint(own: Expert, used: Sequence[Expert], scale: float, case: _Case) -> _Start:
    settings = case.settings
    rate = settings.lasting(case.learned, own.kind).learning_rate
    rates = Rates(neighbours=settings.neighbour_rate, weights=settings.weight_rate / rate)
    return _Start([own, *used], [settings.own_weight, *equal_shares(used, scale)], rates)


_PLANS = {BACKBONE: _backbone, NEIGHBOURS: _neighbours, ALONE: _alone, JOINT: _joint}


def _fresh(case: _Case, like: Expert) -> Expert:
    """Return the target's own expert before training, of settings that mix with its neighbours'."""
    backbone, draw = case.backbone, case.draw
    own = like.kind.beside(backbone, like.settings, case.settings.own)
    card = Card(name=OWN, backbone=backbone.fingerprint, base_model=backbone.name, task=draw.task.name, seed=draw.seed)
    return untrained(backbone, like.kind, own, card)


def _train(case: _Case, name: str, start: _Start) -> _Finished:
    """Return a candidate whose outcome learned from all it may, and what each part's labels made of it to be judged."""
    whole = _run(case, name, start, case.learned)
    if not start.rates.any or not case.settings.folds:
        judged = [whole] * len(case.parts)
    else:
        held = [replace(part, validation=()) for part in case.parts]
        judged = [_run(case, f"{name}, fold {i}", start, part) for i, part in enumerate(held, 1)]
    runs = [whole, *judged] if case.settings.averaged and case.settings.folds and start.rates.any else [whole]
    return _Finished(_candidate(name, case.seen(judged), whole), _mean(runs) if len(runs) > 1 else whole, judged)


def _run(case: _Case, title: str, start: _Start, draw: Draw) -> _Mixed:
    """Train a mix on a draw; where nothing of it trains, return it as it is."""
    backbone, kind = case.backbone, start.experts[0].kind
    settings = [expert.settings for expert in start.experts]
    tensors: list[Mapping[str, Tensor]] = [
        {key: value.to(backbone.device) for key, value in expert.tensors.items()} for expert in start.experts
    ]
    weights = MixingWeights(sites_of(start.experts), start.weights, case.settings.granularity, case.settings.kind).to(
        backbone.device
    )
    if not start.rates.any:
        return _Mixed(start.experts, {site: value.tolist() for site, value in weights.by_site().items()})
    learner = MixtureLearner(kind, settings, tensors, weights=weights, rates=start.rates)
    training = case.settings.lasting(draw, kind, len(case.learned.train))
    with attached(backbone, kind, kind.combined(settings, tensors)) as place:
        feed = OneTask(draw, training.batch_size)
        run = case.run / title.replace(", ", "-").replace(" ", "-") if case.run else None
        shown = f"{draw.task.name} {title}" if case.progress else ""
        trained = train(place, learner, feed, training, run=run, title=shown)
    moved = [
        replace(expert, tensors={key: value.detach().cpu() for key, value in values.items()})
        for expert, values in zip(start.experts, learner.experts, strict=True)
    ]
    by_site = {site: value.tolist() for site, value in weights.by_site().items()}
    return _Mixed(moved, by_site, trained.steps, trained.best_step)


def _soup(case: _Case, parts: Sequence[_Finished]) -> _Finished:
    """Return the mean of candidates; it has learned from the labels if one of them has."""
    mixed = _mean([part.mixed for part in parts])
    judged = [_mean(ones) for ones in zip(*(part.judged for part in parts), strict=True)]
    return _Finished(_candidate(SOUP, case.seen(judged), mixed), mixed, judged)


def _mean(ran: Sequence[_Mixed]) -> _Mixed:
    """Return the mean of what several runs came to."""
    experts = [expert for one in ran for expert in one.experts]
    weights = {
        site: [value / len(ran) for one in ran for value in one.weights.get(site, [0.0] * len(one.experts))]
        for site in sites_of(experts)
    }
    return _Mixed(experts, weights, best_step=max(one.best_step for one in ran))


def _candidate(name: str, seen: Evaluation | None, mixed: _Mixed) -> Candidate:
    value, losses = (seen.value, tuple(seen.calibrated.tolist())) if seen else (0.0, ())
    return Candidate(name, value, losses, mixed.steps, mixed.best_step)


def _fold(case: _Case, finished: _Finished) -> Expert:
    """Return a candidate as one expert of the ordinary kind."""
    draw, settings = case.draw, case.settings
    folded = case.folded(finished.mixed)
    card = folded.card.model_copy(
        update={
            "name": f"pi-{draw.expert_name(folded.method)}",
            "task": draw.task.name,
            "data_hash": draw.task.data_hash,
            "shots": draw.shots,
            "seed": draw.seed,
            "metric": draw.task.metric,
            "validation": finished.candidate.validation if case.parts else None,
            "hyperparameters": {
                **folded.card.hyperparameters,
                **settings.model_copy(update={"training": settings.lasting(case.learned, folded.kind)}).model_dump(
                    mode="json"
                ),
                "choice": finished.candidate.name,
                **asked_of(draw.task),
            },
        }
    )
    return replace(folded, card=card)


def _shown(mixed: _Mixed, granularity: Granularity) -> dict[str, dict[str, float]]:
    """Return the weights of what changes anything in a mix, by group of sites and expert's name, each name once."""
    shown: dict[str, dict[str, float]] = {}
    kept = parts_of(mixed.experts, mixed.weights)
    names = [expert.name for expert in mixed.experts]
    for site, values in mixed.weights.items() if kept else ():
        of = dict.fromkeys((names[j] for j in kept), 0.0)
        for j in kept:
            of[names[j]] += values[j]
        shown[group_of(site, granularity)] = of
    return shown
