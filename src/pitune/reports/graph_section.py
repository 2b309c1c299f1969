"""What the page says of a task graph: the drawing, the matrix, and each task's neighbours in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from pitune.reports.heat_map import Cell, draw_heat_map
from pitune.reports.layout import cluster_order, edges_of, nearest, scaled
from pitune.reports.markup import tag
from pitune.reports.network import RADIUS, Network, draw_network, shape
from pitune.reports.numbers import fixed


@dataclass(frozen=True)
class Near:
    """A neighbour, its similarity, and how long its bar is, 0 to 100."""

    name: str
    similarity: str
    bar: Markup
    joined: bool


@dataclass(frozen=True)
class NodeCard:
    """One task, and the others from the most similar down."""

    index: int
    name: str
    facts: str
    first: bool
    neighbours: tuple[Near, ...]


@dataclass(frozen=True)
class GraphSection:
    """Everything the page shows of a graph; low and high are the least and the greatest similarity of two tasks."""

    drawing: Markup
    legend: tuple[tuple[Markup, str], ...]
    cards: tuple[NodeCard, ...]
    matrix: Markup
    count: int
    k: int
    thin: str
    thick: str
    low: str
    high: str
    has_targets: bool


def describe_graph(network: Network, listed: int = 6) -> GraphSection:
    """Return the section of a graph; each card lists `listed` neighbours."""
    count = len(network.names)
    others = network.similarity[~np.eye(count, dtype=bool)]
    drawn = [float(network.similarity[edge]) for edge in edges_of(network.neighbours)]
    return GraphSection(
        draw_network(network),
        tuple((_mark(style), kind or "task") for kind, style in network.styles.items()),
        tuple(_card(network, i, listed) for i in range(count)),
        _matrix(network),
        count,
        min(network.k, count - 1),
        fixed(min(drawn), 2),
        fixed(max(drawn), 2),
        fixed(float(others.min()), 2),
        fixed(float(others.max()), 2),
        bool(network.targets),
    )


def _mark(style: int) -> Markup:
    mark = shape(style, RADIUS - 2, class_=f"kind-{style}")
    return tag("svg", mark, viewBox="-11 -11 22 22", width=18, height=18, aria_hidden="true")


def _card(network: Network, i: int, listed: int) -> NodeCard:
    strength = scaled(network.similarity)
    neighbours = tuple(
        Near(
            network.names[j],
            fixed(float(network.similarity[i, j]), 3),
            _bar(float(strength[i, j])),
            rank < network.k,
        )
        for rank, j in enumerate(nearest(network.similarity, listed)[i])
    )
    target = "target of this run" if i in network.targets else ""
    facts = " · ".join(part for part in (network.kinds[i], network.scores[i], target) if part)
    first = i == min(network.targets, default=0)  # the one to be seen before any is pointed at
    return NodeCard(i, network.names[i], facts, first, neighbours)


def _bar(share: float) -> Markup:
    bar = tag("rect", width=f"{4 + 96 * share:.0f}%", height=8, rx=2)
    return tag("svg", bar, class_="bar", height=8, aria_hidden="true")


def _matrix(network: Network) -> Markup:
    order, strength = cluster_order(network.similarity), scaled(network.similarity)
    names = [network.names[i] for i in order]
    cells = [[_cell(network, i, j, float(strength[i, j])) for j in order] for i in order]
    title = f"Similarity of {len(names)} tasks, every two of them; like tasks stand next to each other"
    size = max(14.0, min(52.0, 760.0 / len(names)))
    return draw_heat_map(names, names, cells, title, width=size, height=min(size, 32.0))


def _cell(network: Network, i: int, j: int, share: float) -> Cell:
    if i == j:
        return Cell("·", None, f"{network.names[i]}: itself")
    value = float(network.similarity[i, j])
    return Cell(fixed(value, 2), share, f"{network.names[i]} and {network.names[j]}\n{fixed(value, 4)}")
