"""The task graph as a drawing: tasks as nodes, each joined to its nearest."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from pitune.reports.layout import Array, clusters, edges_of, nearest, place, scaled
from pitune.reports.markup import tag
from pitune.reports.numbers import fixed
from pitune.reports.text import columns, short_labels

RADIUS = 10.0
# Of a label: a character's width, the line's height, the room around it. There is room for the larger type that
# page.css sets on a phone, where the whole drawing shrinks.
_CHARACTER, _LINE, _ROOM = 9.0, 20.0, 6.0
_SIDE, _FILLED = 520.0, 0.25  # the least width of the canvas, and the share of it that labels may take
_AT_A_GLANCE = 24  # nodes at most whose labels can be read where the whole drawing fits a screen
_SHAPES = ("circle", "square", "diamond", "triangle", "hexagon")


@dataclass(frozen=True)
class Network:
    """Names (N), their similarity (N, N), and what is known of each: its kind of task, its score, being a target."""

    names: tuple[str, ...]
    similarity: Array
    kinds: tuple[str, ...]
    scores: tuple[str, ...]
    targets: frozenset[int] = frozenset()
    k: int = 2

    @property
    def neighbours(self) -> list[list[int]]:
        """Each node's k nearest, best first."""
        return nearest(self.similarity, self.k)

    @property
    def styles(self) -> dict[str, int]:
        """Which colour and shape stands for each kind, by its rank in the alphabet."""
        return {kind: i % len(_SHAPES) for i, kind in enumerate(sorted(set(self.kinds)))}


def grouped(network: Network, most: int) -> tuple[Network, list[list[int]]]:
    """Return a network of at most so many groups of alike nodes, and the nodes of each, the most central first.

    Two groups are as similar as their nodes are on average; a group is of the kind that most of its nodes are of.
    """
    groups = clusters(network.similarity, most)
    means = [[float(network.similarity[np.ix_(one, other)].mean()) for other in groups] for one in groups]
    return (
        Network(
            tuple(network.names[i] + (f" +{len(rest)}" if rest else "") for i, *rest in groups),
            np.array(means),
            tuple(Counter(network.kinds[i] for i in group).most_common(1)[0][0] for group in groups),
            ("",) * len(groups),
            frozenset(g for g, group in enumerate(groups) if network.targets & set(group)),
            network.k,
        ),
        groups,
    )


def describe(network: Network, i: int) -> str:
    """Return one line on a node: its name, kind, score and nearest."""
    near = ", ".join(f"{network.names[j]} {fixed(network.similarity[i, j], 3)}" for j in network.neighbours[i])
    facts = ", ".join(part for part in (network.kinds[i], network.scores[i]) if part)
    return f"{network.names[i]}{f' ({facts})' if facts else ''}. Nearest: {near}"


def draw_network(network: Network, alone: bool = False) -> Markup:
    """Return the graph as an SVG element; `alone` makes the nodes' tooltips part of it, for use without a page."""
    count = len(network.names)
    labels = short_labels(network.names, 18)
    boxes = np.array([(columns(text) * _CHARACTER + _ROOM, 2 * RADIUS + _LINE + _ROOM) for text in labels])
    boxes[:, 0] = np.maximum(boxes[:, 0], 2 * RADIUS + _ROOM)
    side = max(_SIDE, math.sqrt(float(boxes.prod(axis=1).sum()) / 0.9 / _FILLED))
    width, height = side, side * (0.5 if count < 5 else 0.9)
    edges = edges_of(network.neighbours)
    centres = place(network.similarity, edges, boxes, (width, height))
    centres[:, 1] -= _LINE / 2  # a box is a node and the label below it; from here on only the node counts
    nodes = [_node(network, i, labels[i], centres[i], alone) for i in range(count)]
    return tag(
        "svg",
        tag("g", *_edges(network, edges, centres), class_="edges"),
        *nodes,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=f"{width:.0f}",
        class_="network large" if count > _AT_A_GLANCE else "network",
        role="img",
        aria_label=f"Task graph: {count} tasks, each joined to its {network.k} most similar",
    )


def _edges(network: Network, edges: Sequence[tuple[int, int]], centres: Array) -> list[Markup]:
    strength = scaled(network.similarity)
    drawn = []
    for i, j in sorted(edges, key=lambda edge: strength[edge]):
        (x1, y1), (x2, y2) = centres[i].tolist(), centres[j].tolist()
        thickness = 1.0 + 6.0 * float(strength[i, j])
        drawn.append(tag("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke_width=thickness, data_a=i, data_b=j))
    return drawn


def _node(network: Network, i: int, label: str, centre: Array, alone: bool) -> Markup:
    x, y = (round(value, 2) for value in centre.tolist())
    style = network.styles[network.kinds[i]]
    ring = [shape(style, RADIUS + 4.0, class_="ring")] if i in network.targets else []
    mark = shape(style, RADIUS, class_=f"kind-{style}")
    # the light edge of a label is a text of its own below it: not every program that draws SVG paints a stroke first
    text = tag("text", label, y=RADIUS + 16.0, class_="halo") + tag("text", label, y=RADIUS + 16.0)
    title = tag("title", describe(network, i)) if alone else Markup("")
    told: dict[str, str | int] = {} if alone else {"data_node": i, "data_about": describe(network, i)}
    return tag("g", title, *ring, mark, text, class_="node", transform=f"translate({x} {y})", **told)


def shape(style: int, radius: float, class_: str) -> Markup:
    """Return the mark of a kind of task; shapes differ as well as colours, for who cannot tell these apart."""
    name = _SHAPES[style]
    if name == "circle":
        return tag("circle", r=radius, class_=class_)
    if name == "square":
        half = 0.88 * radius
        return tag("rect", x=-half, y=-half, width=2 * half, height=2 * half, rx=2, class_=class_)
    corners, turn, size = {"diamond": (4, 0.0, 1.2), "triangle": (3, -90.0, 1.25), "hexagon": (6, 0.0, 1.08)}[name]
    angles = [math.radians(turn + 360.0 * corner / corners) for corner in range(corners)]
    points = " ".join(f"{size * radius * math.cos(a):.1f},{size * radius * math.sin(a):.1f}" for a in angles)
    return tag("polygon", points=points.replace("-0.0", "0.0"), class_=class_)
