"""What the few labels decide: which neighbours are used, and how far they are trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pitune.backbones import Backbone
from pitune.experts import Expert
from pitune.interpolation.mixing import mix
from pitune.prediction.embedding import EMBEDDED
from pitune.tasks import Draw, spread
from pitune.training import evaluate_expert

SOUP = "soup"
_EARNED = 1.0  # nats over all validation examples by which one candidate must beat the mean of all


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
    labels = spread(draw.labels, EMBEDDED)
    kept: list[Expert] = []
    lowest = float("inf")
    for neighbour in neighbours:
        together = [*kept, neighbour]
        loss = evaluate_expert(backbone, draw.task, mix(together, equal_shares(together)), labels).loss
        if loss < lowest:
            kept, lowest = together, loss
    return kept


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate of the lowest loss, the soup's reduced by a nat; of equals the first.

    Where a candidate stopped was chosen by the same examples, which makes its loss look lower than it is; the mean
    of several less so. To be taken instead one must be better by that nat, over all validation examples together.
    Without validation examples the last candidate is returned.
    """
    if not candidates[0].losses:
        return candidates[-1]
    return min(candidates, key=lambda one: sum(one.losses) - (_EARNED if one.name == SOUP else 0.0))


def equal_shares(parts: Sequence[object]) -> list[float]:
    """Return 1/N for each of N parts."""
    return [1.0 / len(parts)] * len(parts)
