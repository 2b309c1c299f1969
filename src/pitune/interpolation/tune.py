"""Train a target's own expert together with its neighbours', and choose by validation data how far to trust them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts import (
    Card,
    Expert,
    Method,
    attached,
    get_method,
    make_config,
    read_config,
)
from pitune.interpolation.choice import SOUP, Candidate, choose, equal_shares, select
from pitune.interpolation.learner import MixtureLearner, Rates
from pitune.interpolation.mixing import check_mixable, mix, sites_of
from pitune.interpolation.weights import Granularity, Kind, MixingWeights, group_of
from pitune.tasks import Task
from pitune.training import (
    Data,
    Evaluation,
    Trained,
    TrainingSettings,
    check_backbone,
    evaluate_expert,
    evaluate_tensors,
    expert_name,
    target_training,
    train,
    untrained,
)

OWN = "own"


class TuneSettings(BaseModel):
    """How a mix is trained; the defaults are what won on validation data, `training` that for the fewest labels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    training: TrainingSettings = Field(default_factory=lambda: target_training(0))
    granularity: Granularity = "layer"
    kind: Kind = "free"
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


def tune_expert(
    backbone: Backbone,
    task: Task,
    data: Data,
    neighbours: Sequence[Expert],
    settings: TuneSettings | None = None,
    run: Path | None = None,
    progress: bool = False,
) -> TuneResult:
    """Train every candidate on `data` and fold one of them to a single expert.

    With `select`, of the neighbours those are used that serve the few labels. From the simplest on, the candidates
    are: `neighbours`, these in equal shares, as they are; `alone`, the target's own expert as without neighbours;
    `joint`, own and neighbours trained at once, beginning at these shares beside the whole of the target's own
    (π-Tuning, step 3, where all begin equal); `soup`, the mean of the candidates before it (Wortsman et al., 2022).
    One of them is chosen by its calibrated validation losses (`choose`); without validation examples the last one is.
    Without settings, training is as long as `target_training` says for so many labels.
    """
    settings = settings or TuneSettings(training=target_training(len(data.train)))
    unknown = set(settings.candidates) - {*_PLANS, SOUP}
    if unknown:
        expected = ", ".join((*_PLANS, SOUP))
        raise InputError(f"unknown candidate {sorted(unknown)[0]!r}; expected some of: {expected}")
    if settings.candidates[0] == SOUP:
        raise InputError(f"candidate {SOUP!r} comes first; expected after those that it is the mean of")
    for expert in neighbours:
        check_backbone(expert, backbone)
    check_mixable(neighbours)
    method = get_method(neighbours[0].method)
    if settings.rank is not None and method.name != "lora":
        raise InputError(f"a rank was asked for, but {method.name} experts have none; leave it out")
    own = _fresh(backbone, task, data, method, neighbours[0])
    used = select(backbone, task, data, neighbours) if settings.select else list(neighbours)
    finished: dict[str, _Finished] = {}
    for name in settings.candidates:
        if name == SOUP:
            finished[name] = _soup(backbone, task, data, list(finished.values()))
            continue
        folder = run / name if run else None
        title = f"{task.name} {name}" if progress else ""
        start = _PLANS[name](own, used, settings)
        finished[name] = _train(backbone, task, data, method, start, settings, name, folder, title)
    candidates = tuple(found.candidate for found in finished.values())
    folded = {name: _fold(backbone, task, data, found, settings) for name, found in finished.items()}
    best = choose(candidates).name
    return TuneResult(folded[best], best, candidates, _shown(finished[best], settings.granularity), folded)


def _neighbours(own: Expert, used: Sequence[Expert], settings: TuneSettings) -> _Start:
    return _Start(used, equal_shares(used), Rates(0.0, 0.0, 0.0))


def _alone(own: Expert, used: Sequence[Expert], settings: TuneSettings) -> _Start:
    return _Start([own], [1.0], Rates(weights=0.0))


def _joint(own: Expert, used: Sequence[Expert], settings: TuneSettings) -> _Start:
    rates = Rates(neighbours=settings.neighbour_rate, weights=settings.weight_rate)
    return _Start([own, *used], [settings.own_weight, *equal_shares(used)], rates)


_PLANS = {"neighbours": _neighbours, "alone": _alone, "joint": _joint}


def _fresh(backbone: Backbone, task: Task, data: Data, method: Method, like: Expert) -> Expert:
    """Return the target's own expert before training.

    Its settings are those of its neighbours; LoRAs mix whatever theirs are, so there they are the usual ones.
    """
    if method.name == "lora":
        own = make_config(method, backbone)
    else:
        own = read_config(method, like.config, f"expert {like.name!r}")
    card = Card(name=OWN, backbone=backbone.fingerprint, base_model=backbone.name, task=task.name, seed=data.seed)
    return untrained(backbone, method, own, card)


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
    weights = MixingWeights(sites, start.weights, settings.granularity, settings.kind).to(backbone.device)
    learner = MixtureLearner(method, configs, tensors, weights, start.rates)
    with attached(backbone, method, method.combined(configs, tensors)) as place:
        if learner.parameters():
            candidate = _trained(
                name, train(place, learner, task, data.train, data.validation, settings.training, data.seed, run, title)
            )
        else:
            found = evaluate_tensors(place, learner.tensors(), task, data.validation) if data.validation else None
            candidate = _untrained(name, found)
    moved = [
        replace(expert, tensors={key: value.detach().cpu() for key, value in values.items()})
        for expert, values in zip(start.experts, learner.experts, strict=True)
    ]
    return _Finished(candidate, moved, {site: value.tolist() for site, value in weights.by_site().items()})


def _soup(backbone: Backbone, task: Task, data: Data, parts: Sequence[_Finished]) -> _Finished:
    """Return the mean of candidates; it has learned from the labels if one of them has."""
    experts = [expert for part in parts for expert in part.experts]
    weights = {
        site: [value / len(parts) for part in parts for value in part.weights.get(site, [0.0] * len(part.experts))]
        for site in sites_of(experts)
    }
    found = evaluate_expert(backbone, task, mix(experts, weights), data.validation) if data.validation else None
    best_step = max(part.candidate.best_step for part in parts)
    return _Finished(replace(_untrained(SOUP, found), best_step=best_step), experts, weights)


def _trained(name: str, trained: Trained) -> Candidate:
    return Candidate(name, trained.validation, trained.validation_losses, trained.steps, trained.best_step)


def _untrained(name: str, found: Evaluation | None) -> Candidate:
    if found is None:
        return Candidate(name, 0.0, (), 0, 0)
    return Candidate(name, found.value, tuple(found.calibrated.tolist()), 0, 0)


def _fold(backbone: Backbone, task: Task, data: Data, found: _Finished, settings: TuneSettings) -> Expert:
    """Return a candidate as one expert of the ordinary kind."""
    folded = mix(found.experts, found.weights, settings.rank)
    validation = found.candidate.validation
    if settings.rank is not None and data.validation:
        validation = evaluate_expert(backbone, task, folded, data.validation).value
    card = folded.card.model_copy(
        update={
            "name": f"pi-{expert_name(task, folded.method, data.shots, data.seed)}",
            "task": task.name,
            "data_hash": task.data_hash,
            "shots": data.shots,
            "seed": data.seed,
            "metric": task.metric,
            "validation": validation,
            "hyperparameters": {
                **folded.card.hyperparameters,
                **settings.model_dump(mode="json"),
                "choice": found.candidate.name,
            },
        }
    )
    return replace(folded, card=card)


def _shown(found: _Finished, granularity: Granularity) -> dict[str, dict[str, float]]:
    """Return a candidate's weights by group of sites and expert's name, those of one name together."""
    shown: dict[str, dict[str, float]] = {}
    for site, values in found.weights.items():
        of = dict.fromkeys((expert.name for expert in found.experts), 0.0)
        for expert, value in zip(found.experts, values, strict=True):
            of[expert.name] += value
        shown[group_of(site, granularity)] = of
    return shown
