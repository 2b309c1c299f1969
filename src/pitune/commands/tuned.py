"""What `pitune tune` tells, and keeps in its run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from pitune.commands.graph import Near

if TYPE_CHECKING:
    from pitune.interpolation import TuneResult
    from pitune.training import Outcome


@dataclass(frozen=True)
class Tried:
    """A candidate, without the loss on each example."""

    name: str
    validation: float
    loss: float | None
    steps: int
    best_step: int


@dataclass(frozen=True)
class Tuned:
    """What `pitune tune` tells; `weights` are by group of sites and expert's name."""

    task: str
    neighbours: list[Near]
    candidates: list[Tried]
    choice: str
    verdict: list[str]
    weights: dict[str, dict[str, float]]
    metric: str
    validation: float | None
    parameters: int
    rank: int | None
    truncation_error: float | None
    test: dict[str, Any] | None
    conditions: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, result: TuneResult, outcome: Outcome | None, templates: Sequence[str]) -> Self:
        """Return what a run found out, and how good its expert is on the task's test part."""
        judged = outcome.judgement if outcome else None
        test = None
        if judged is not None:
            test = {"metric": judged.metric, "value": judged.value, "n": judged.n, "templates": list(templates)}
        card = result.expert.card
        return cls(
            task=card.task,
            neighbours=[Near(*pair) for pair in result.neighbours],
            candidates=[Tried(**one.described()) for one in result.candidates],
            choice=result.choice,
            verdict=list(result.verdict),
            weights={group: dict(values) for group, values in result.weights.items()},
            metric=card.metric,
            validation=card.validation,
            parameters=result.expert.parameters,
            rank=card.hyperparameters["rank"] if "truncation_error" in card.hyperparameters else None,
            truncation_error=card.hyperparameters.get("truncation_error"),
            test=test,
            conditions=[one.model_dump() for one in outcome.conditions] if outcome else [],
        )
