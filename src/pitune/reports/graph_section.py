"""What the page says of a task graph: the drawing, the matrix, and each task's nearest in a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from pitune.reports.heat_map import Cell, HeatMap, heat_map
from pitune.reports.layout import cluster_order, edges_of, nearest, scaled
from pitune.reports.markup import tag
from pitune.reports.network import RADIUS, Network, draw_network, grouped, shape
from pitune.reports.numbers import fixed

_MOST, _GROUPS = 80, 40  # nodes that a drawing holds, and groups that stand for more of them
_LISTED = 5  # of a task's nearest


@dataclass(frozen=True)
class TaskLine:
    """A task in the table: its node in the drawing, what is known of it, and its nearest, the joined ones first."""

    name: str
    node: int
    kind: str
    score: str
    group: str
    target: bool
    near: str


@dataclass(frozen=True)
class GraphSection:
    """Everything the page shows of a graph; `low` and `high` are the least and the greatest similarity shown.

    `groups` is how many groups stand for the tasks, 0 where each is drawn itself.
    """

    drawing: Markup
    legend: tuple[tuple[Markup, str], ...]
    tasks: tuple[TaskLine, ...]
    matrix: HeatMap
    count: int
    groups: int
    k: int
    thin: str
    thick: str
    low: str
    high: str
    has_targets: bool
    kinds: bool
    scores: bool


def describe_graph(network: Network) -> GraphSection:
    """Return the section of a graph; of more than 80 tasks, groups of alike ones are drawn."""
    count = len(network.names)
    shown, groups = grouped(network, _GROUPS) if count > _MOST else (network, [[i] for i in range(count)])
    others = shown.similarity[~np.eye(len(groups), dtype=bool)]
    drawn = [float(shown.similarity[edge]) for edge in edges_of(shown.neighbours)]
    return GraphSection(
        draw_network(shown),
        tuple((_mark(style), kind or "kind not known") for kind, style in shown.styles.items()),
        _lines(network, shown, groups),
        _matrix(shown),
        count,
        len(groups) if shown is not network else 0,
        min(shown.k, len(groups) - 1),
        fixed(min(drawn), 2),
        fixed(max(drawn), 2),
        fixed(float(others.min()), 2),
        fixed(float(others.max()), 2),
        bool(network.targets),
        any(network.kinds),
        any(network.scores),
    )


def _mark(style: int) -> Markup:
    mark = shape(style, RADIUS - 2, class_=f"kind-{style}")
    return tag("svg", mark, viewBox="-11 -11 22 22", width=18, height=18, aria_hidden="true")


def _lines(network: Network, shown: Network, groups: list[list[int]]) -> tuple[TaskLine, ...]:
    near, node_of = nearest(network.similarity, _LISTED), {i: g for g, group in enumerate(groups) for i in group}
    return tuple(
        TaskLine(
            name,
            node_of[i],
            network.kinds[i],
            network.scores[i],
            "" if shown is network else shown.names[node_of[i]],
            i in network.targets,
            ", ".join(f"{network.names[j]} {fixed(float(network.similarity[i, j]), 2)}" for j in near[i]),
        )
        for i, name in enumerate(network.names)
    )


def _matrix(network: Network) -> HeatMap:
    order, strength = cluster_order(network.similarity), scaled(network.similarity)
    names = [network.names[i] for i in order]
    cells = [[_cell(float(network.similarity[i, j]), float(strength[i, j]), i == j) for j in order] for i in order]
    return heat_map(names, names, cells, "Similarity of every two, like ones next to each other")


def _cell(value: float, share: float, own: bool) -> Cell:
    return Cell("·", None) if own else Cell(fixed(value, 2).removeprefix("0"), share)
