"""A metric: the share of wrong answers, lower is better."""

from __future__ import annotations

from pitune.tasks.metrics import Chosen, Metric


def error_rate(chosen: Chosen) -> float:
    """Return the share of examples whose best answer is wrong; in [0, 1]."""
    return float((chosen.scores.argmax(-1) != chosen.target).float().mean())


ERROR_RATE = Metric("error-rate", "share of wrong answers", error_rate, higher_is_better=False)
