"""Where the nodes of a task graph lie, and in which order its matrix is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pitune.extras import need

if TYPE_CHECKING:
    import networkx

Array = NDArray[np.float64]


def cluster_order(similarity: Array) -> list[int]:
    """Return the order of rows in which like stands next to like: leaves of average-linkage clustering."""
    hierarchy = need("scipy.cluster.hierarchy", "report")
    tree = hierarchy.linkage(_distances(similarity), method="average", optimal_ordering=True)
    return [int(leaf) for leaf in hierarchy.leaves_list(tree)]


def clusters(similarity: Array, most: int) -> list[list[int]]:
    """Return at most so many groups of rows that are alike, by the same clustering, each with its most central first.

    The most central is the most similar to the others of its group on average.
    """
    hierarchy = need("scipy.cluster.hierarchy", "report")
    tree = hierarchy.linkage(_distances(similarity), method="average")
    groups: dict[int, list[int]] = {}
    for row, group in enumerate(hierarchy.fcluster(tree, most, criterion="maxclust")):
        groups.setdefault(int(group), []).append(row)
    return [sorted(rows, key=lambda row: -similarity[row, rows].sum()) for rows in groups.values()]


def _distances(similarity: Array) -> Array:
    """Return the distances of every two rows, as clustering takes them."""
    distance: Array = similarity.max() - (similarity + similarity.T) / 2
    return distance[np.triu_indices(len(distance), 1)]


def nearest(similarity: Array, k: int) -> list[list[int]]:
    """Return each row's k most similar others, best first; ties go by position."""
    ranked = np.argsort(-similarity, axis=1, kind="stable")
    return [[int(j) for j in row if j != i][:k] for i, row in enumerate(ranked)]


def edges_of(neighbours: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Return the undirected edges between nodes and their neighbours, each once, sorted."""
    return sorted({(min(i, j), max(i, j)) for i, near in enumerate(neighbours) for j in near})


def scaled(similarity: Array) -> Array:
    """Return similarities stretched so that those between two different tasks span 0 to 1; the diagonal is 1."""
    others = similarity[~np.eye(len(similarity), dtype=bool)]
    low, span = others.min(), np.ptp(others)
    result: Array = (similarity - low) / span if span > 0 else np.full_like(similarity, 0.5)
    np.fill_diagonal(result, 1.0)
    return result


def place(similarity: Array, edges: Sequence[tuple[int, int]], boxes: Array, size: tuple[float, float]) -> Array:
    """Return the centres (N, 2) of nodes within a canvas, the alike close together, no two boxes overlapping.

    `boxes` (N, 2) are the widths and heights that nodes take with their labels; units are the canvas's.
    """
    alike = scaled((similarity + similarity.T) / 2)
    count = len(alike)
    nx = need("networkx", "report")
    graph: networkx.Graph[int] = nx.Graph()
    graph.add_nodes_from(range(count))
    graph.add_weighted_edges_from((i, j, 0.2 + alike[i, j]) for i, j in edges)
    start = nx.spring_layout(graph, seed=0)
    length = 0.25 + (1.0 - alike)  # springs between all, so that parts without an edge between them stay in place
    springs = {i: {j: float(length[i, j]) for j in range(count)} for i in range(count)}
    places = nx.kamada_kawai_layout(graph, dist=springs, pos=start)
    points: Array = np.array([places[i] for i in range(count)], dtype=np.float64)
    return _spread(_fit(points, boxes, size), boxes, size)


def _fit(points: Array, boxes: Array, size: tuple[float, float]) -> Array:
    low, span = points.min(axis=0), np.ptp(points, axis=0)
    margin = boxes.max(axis=0) / 2
    room = np.maximum(np.array(size) - 2 * margin, 1.0)
    unit = np.where(span > 1e-9, (points - low) / np.where(span > 1e-9, span, 1.0), 0.5)
    result: Array = margin + unit * room
    return result


def _spread(points: Array, boxes: Array, size: tuple[float, float], rounds: int = 400) -> Array:
    """Push overlapping boxes apart along the axis where they overlap least."""
    points, room = points.copy(), (boxes[:, None] + boxes[None]) / 2
    for _ in range(rounds):
        overlaps = (room - np.abs(points[:, None] - points[None])).min(-1) > 0
        pairs = np.argwhere(np.tril(overlaps, -1))
        if not len(pairs):
            break
        for i, j in pairs:
            gap = points[i] - points[j]
            overlap = room[i, j] - np.abs(gap)
            if overlap.min() <= 0:  # an earlier push has parted them
                continue
            axis = int(np.argmin(overlap))
            push = (overlap[axis] / 2 + 0.5) * (1.0 if gap[axis] >= 0 else -1.0)
            points[i, axis] += push
            points[j, axis] -= push
        points = np.clip(points, boxes / 2, np.array(size) - boxes / 2)
    return points
