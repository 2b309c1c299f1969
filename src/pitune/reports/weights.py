"""The learned weights of each target as a small heat map: groups of sites down, experts across."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from pitune.reports.heat_map import Cell, draw_heat_map
from pitune.reports.numbers import fixed
from pitune.reports.table import show_shots
from pitune.reports.text import natural_key
from pitune.studies import TriedMix, TunedTarget


@dataclass(frozen=True)
class Mix:
    """What π-Tuning chose for one target."""

    task: str
    shots: str
    neighbours: tuple[tuple[str, str], ...]
    choice: str
    candidates: tuple[tuple[str, str, str, bool], ...]
    figure: Markup | None


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


def _candidate(candidate: TriedMix, choice: str) -> tuple[str, str, str, bool]:
    loss = "–" if candidate.loss is None else fixed(candidate.loss, 3)
    return candidate.name, fixed(candidate.validation, 3), loss, candidate.name == choice


def _figure(task: str, target: TunedTarget) -> Markup | None:
    groups = sorted(target.weights, key=natural_key)
    experts = _experts(target)
    if not groups or not experts:
        return None
    most = max(abs(weight) for group in target.weights.values() for weight in group.values()) or 1.0
    cells = [[_cell(group, expert, target.weights[group].get(expert), most) for expert in experts] for group in groups]
    title = f"Learned weights for {task}: {len(groups)} groups of sites, {len(experts)} experts"
    return draw_heat_map(groups, experts, cells, title, width=54.0, height=28.0)


def _experts(target: TunedTarget) -> list[str]:
    """Return the target's own experts, then its neighbours, the nearest first."""
    near = [name for name, _ in target.neighbours]
    mixed = {expert for group in target.weights.values() for expert in group}
    return sorted(mixed - set(near), key=natural_key) + [name for name in near if name in mixed]


def _cell(group: str, expert: str, weight: float | None, most: float) -> Cell:
    if weight is None:
        return Cell("", None, f"{group}\n{expert}: no weight")
    return Cell(fixed(weight, 2), weight / most, f"{group}\n{expert}: {fixed(weight, 4)}")
