"""Whether an expert does anything in the model that its card names."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pitune.backbones import Backbone, brief, same_weights
from pitune.errors import InputError
from pitune.experts.attached import attached, initial_tensors
from pitune.experts.expert import Expert, check_tensors
from pitune.experts.merging import changed_parameters


@dataclass(frozen=True)
class Examined:
    """What an expert does in its backbone.

    `change` is ‖ΔW‖ of the parameters that it changes, relative to ‖W‖ (Frobenius, all together), and `idle` are the
    sites where ΔW is zero. Of a kind that no change of weights can express, `change` is how far its own numbers are
    from where training starts, relative to their size.
    """

    name: str
    method: str
    sites: int
    idle: tuple[str, ...]
    change: float


@torch.no_grad()
def examine(expert: Expert, backbone: Backbone) -> Examined:
    """Attach an expert to its backbone and measure what it changes there.

    Raise `InputError` if the card names other weights, a tensor does not fit, or nothing is changed at all.
    """
    if not same_weights(expert.card.backbone, backbone.fingerprint):
        raise InputError(
            f"expert {expert.name!r} belongs to weights of fingerprint {brief(expert.card.backbone)}, and "
            f"{backbone.name} has {brief(backbone.fingerprint)}; give those with --backbone"
        )
    with attached(backbone, expert.kind, expert.settings) as place:
        check_tensors(place.shapes, expert.tensors, f"expert {expert.name!r}")
        shapes = place.shapes
    found = _merged(expert, backbone) if expert.kind.merges else None
    if found is None:
        start = initial_tensors(expert.kind, shapes, expert.card.seed, expert.settings)
        moved = {expert.kind.site(name): 0.0 for name in shapes}
        for name, value in expert.tensors.items():
            moved[expert.kind.site(name)] += float((value.float() - start[name]).square().sum())
        found = moved, sum(float(value.float().square().sum()) for value in expert.tensors.values())
    squares, whole = found
    idle = tuple(site for site, square in squares.items() if not square)
    if len(idle) == len(squares):
        raise InputError(
            f"expert {expert.name!r} changes nothing at any of its {len(squares)} sites: with it, the model answers as "
            "without; train it again, or fetch it again from where it came"
        )
    change = (sum(squares.values()) / whole) ** 0.5 if whole else float("inf")
    return Examined(expert.name, expert.method, len(squares), idle, change)


def _merged(expert: Expert, backbone: Backbone) -> tuple[dict[str, float], float] | None:
    """Return ‖ΔW‖² by site and ‖W‖² of all; None where a layer has no place for the change."""
    try:
        changed = changed_parameters(backbone.module, expert)
    except InputError:
        return None
    squares, whole = dict.fromkeys(expert.sites, 0.0), 0.0
    for path, value in changed.items():
        before = backbone.module.get_parameter(path).float()
        squares[path.rpartition(".")[0]] += float((value.float() - before).square().sum())
        whole += float(before.square().sum())
    return squares, whole
