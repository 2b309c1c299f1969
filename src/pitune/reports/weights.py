"""The learned weights of each target as a small heat map: groups of sites down, experts across."""

from __future__ import annotations

from dataclasses import dataclass

from pitune.reports.heat_map import Cell, HeatMap, heat_map
from pitune.reports.numbers import fixed
from pitune.reports.table import show_shots
from pitune.reports.text import natural_key, short_labels
from pitune.studies import TriedMix, TunedTarget


@dataclass(frozen=True)
class CandidateLine:
    """A candidate as a table shows it."""

    name: str
    validation: str
    loss: str
    steps: int
    chosen: bool


@dataclass(frozen=True)
class Mix:
    """What π-Tuning chose for one target."""

    task: str
    shots: str
    neighbours: tuple[tuple[str, str], ...]
    choice: str
    candidates: tuple[CandidateLine, ...]
    figure: HeatMap | None


def describe_mix(task: str, target: TunedTarget) -> Mix:
    """Return the neighbours, the choice among candidates, and the figure of the weights."""
    return Mix(
        task,
        show_shots(target.shots),
        tuple((name, fixed(similarity, 3)) for name, similarity in target.neighbours),
        target.choice,
        tuple(_candidate(candidate, target.choice) for candidate in target.candidates),
        _figure(task, target),
    )


def _candidate(one: TriedMix, choice: str) -> CandidateLine:
    loss = "–" if one.loss is None else fixed(one.loss, 3)
    return CandidateLine(one.name, fixed(one.validation, 3), loss, one.steps, one.name == choice)


def _figure(task: str, target: TunedTarget) -> HeatMap | None:
    groups = sorted(target.weights, key=natural_key)
    experts = _experts(target)
    if not groups or not experts:
        return None
    most = max(abs(weight) for group in target.weights.values() for weight in group.values()) or 1.0
    cells = [[_cell(target.weights[group].get(expert), most) for expert in experts] for group in groups]
    return heat_map(short_labels(groups), experts, cells, f"Learned weights for {task}")


def _experts(target: TunedTarget) -> list[str]:
    """Return the target's own experts, then its neighbours, the nearest first."""
    near = [name for name, _ in target.neighbours]
    mixed = {expert for group in target.weights.values() for expert in group}
    return sorted(mixed - set(near), key=natural_key) + [name for name in near if name in mixed]


def _cell(weight: float | None, most: float) -> Cell:
    return Cell("–", None) if weight is None else Cell(fixed(weight, 2), weight / most)
