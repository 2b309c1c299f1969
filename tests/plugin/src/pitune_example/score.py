"""A transferability score: how well an expert does on its own task."""

from __future__ import annotations

from pitune.experts import Expert
from pitune.prediction import Score, Target


def validated(target: Target, expert: Expert) -> float:
    """Return the expert's metric on its own validation data, 0 where there is none."""
    return expert.card.validation or 0.0


VALIDATED = Score("validated", "how well the expert does on its own task", validated)
