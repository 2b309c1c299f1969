"""Mix finished experts to one of the ordinary kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pitune.errors import InputError
from pitune.experts import Card, Expert, Parent, digest


def check_mixable(experts: Sequence[Expert]) -> None:
    """Raise `InputError` unless all experts are of one kind and of one backbone."""
    if not experts:
        raise InputError("nothing to mix; expected one expert or more")
    first = experts[0]
    for other in experts[1:]:
        if other.method != first.method:
            raise InputError(
                f"cannot mix {first.name!r} ({first.method}) with {other.name!r} ({other.method}); "
                "expected one kind of expert"
            )
        if other.card.backbone != first.card.backbone:
            raise InputError(f"cannot mix {first.name!r} with {other.name!r}: they belong to different backbones")


def sites_of(experts: Sequence[Expert]) -> list[str]:
    """Return the sites of all experts, in order."""
    return list(dict.fromkeys(site for expert in experts for site in expert.sites))


def parts_of(experts: Sequence[Expert], weights: Mapping[str, Sequence[float]]) -> list[int]:
    """Return which experts of a mix change anything: none of weight 0 everywhere, none that adds nothing."""
    return [
        j
        for j, expert in enumerate(experts)
        if any(weights[site][j] for site in expert.sites)
        and not expert.kind.adds_nothing(expert.settings, expert.tensors)
    ]


def mix(
    experts: Sequence[Expert],
    weights: Sequence[float] | Mapping[str, Sequence[float]],
    *,
    rank: int | None = None,
    name: str = "mix",
) -> Expert:
    """Return `φ̄ = Σ_j w_j φ_j` as one expert; for LoRA `ΔW = Σ_j w_j s_j B_j A_j`, exactly, ranks side by side.

    `weights` holds one number an expert, or such a list by site. Experts that change nothing have no part in it, unless
    none changes anything: then the first is what there is. `rank` asks for the best LoRA of that rank
    instead; what it loses is in the card as `truncation_error`, relative to ΔW (Frobenius). Raise
    `InputError` if the experts differ in kind or backbone, or the weights in number.
    """
    check_mixable(experts)
    kind = experts[0].kind
    sites = sites_of(experts)
    by_site = {site: list(weights[site] if isinstance(weights, Mapping) else weights) for site in sites}
    for site, values in by_site.items():
        if len(values) != len(experts):
            raise InputError(f"{len(experts)} experts need as many weights; found {len(values)} at {site!r}")
    kept = parts_of(experts, by_site) or [0]
    experts = [experts[j] for j in kept]
    sites = sites_of(experts)
    by_site = {site: [by_site[site][j] for j in kept] for site in sites}
    settings = [expert.settings for expert in experts]
    tensors = [expert.tensors for expert in experts]
    numbers = {site: torch.tensor(values, dtype=torch.float32) for site, values in by_site.items()}
    own = kind.combined(settings, tensors)
    mixed: Mapping[str, Tensor] = kind.combine(settings, tensors, numbers)
    error: dict[str, float] = {}
    if rank is not None:
        own, mixed, lost = kind.truncate(own, mixed, rank)
        error = {"rank": rank, "truncation_error": lost}
    first = experts[0].card
    parents = tuple(
        Parent(name=expert.name, digest=digest(expert), weights={site: float(numbers[site][j]) for site in sites})
        for j, expert in enumerate(experts)
    )
    card = Card(name=name, backbone=first.backbone, base_model=first.base_model, parents=parents, hyperparameters=error)
    return Expert(kind, own, mixed, card)
