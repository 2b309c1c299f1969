"""What the few labels decide: which neighbours are used, and how far they are trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pitune.backbones import Backbone
from pitune.experts import Expert
from pitune.interpolation.mixing import mix
from pitune.tasks import Draw, spread
from pitune.training import evaluate_expert

BACKBONE, NEIGHBOURS, ALONE, JOINT, SOUP = "backbone", "neighbours", "alone", "joint", "soup"  # candidates
CLEAR = 10.0  # nats over all labels that judge, by which another must be better than what is taken in doubt
SCALES = (0.5, 1.0, 1.5, 2.0, 3.0)
_SCALED = 1.0  # nats that neighbours at any scale must be better by than the backbone alone
JUDGED = 256  # labels at most that neighbours are judged by


@dataclass(frozen=True)
class Candidate:
    """One way to use the neighbours, with its validation metric and its loss on each validation example."""

    name: str
    validation: float
    losses: tuple[float, ...]
    steps: int
    best_step: int

    @property
    def loss(self) -> float | None:
        """The mean validation loss, None without validation examples."""
        return sum(self.losses) / len(self.losses) if self.losses else None

    def described(self) -> dict[str, Any]:
        """Return the candidate as JSON holds it."""
        shown = {"name": self.name, "validation": self.validation, "loss": self.loss}
        return {**shown, "steps": self.steps, "best_step": self.best_step}


def select(backbone: Backbone, draw: Draw, neighbours: Sequence[Expert]) -> list[Expert]:
    """Return the nearest neighbour, and of the others those that lower the loss of equal shares on the few labels.

    A greedy soup (Wortsman et al., 2022), nearest first. No neighbour has learned from any of the labels, so that
    those to train on count as much as those to validate by, and none is too sure of itself for having seen them.
    """
    labels = spread(draw.labels, JUDGED)
    kept: list[Expert] = []
    lowest = float("inf")
    for neighbour in neighbours:
        together = [*kept, neighbour]
        loss = evaluate_expert(backbone, draw.task, mix(together, equal_shares(together)), labels).loss
        if loss < lowest:
            kept, lowest = together, loss
    return kept


def best_scale(backbone: Backbone, draw: Draw, neighbours: Sequence[Expert]) -> float:
    """Return how many times their equal shares neighbours serve the labels best, 0 where the backbone alone does.

    Judged by the calibrated losses of all labels, which no neighbour has learned from; a nat must be gained.
    """
    labels = spread(draw.labels, JUDGED)

    def cost(scale: float) -> float:
        scaled = mix(neighbours, equal_shares(neighbours, scale)) if scale else None
        losses = evaluate_expert(backbone, draw.task, scaled, labels).calibrated
        return float(losses.sum()) + (_SCALED if scale else 0.0)

    return min((0.0, *SCALES), key=cost)


def choose(candidates: Sequence[Candidate], default: str, nats: float) -> Candidate:
    """Return the candidate of the lowest loss, the default's reduced by some nats; of equals the first.

    Few labels tell little, and what is taken in doubt is known to do well over many tasks: to be taken instead, one
    must be better by so many nats over all labels that judge. Where none can, the default is returned.
    """
    if not candidates[0].losses:
        return next(one for one in candidates if one.name == default)
    return min(candidates, key=lambda one: sum(one.losses) - (nats if one.name == default else 0.0))


def equal_shares(parts: Sequence[object], whole: float = 1.0) -> list[float]:
    """Return `whole` / N for each of N parts."""
    return [whole / len(parts)] * len(parts)
