"""The task graph: every task of a pool, and how alike each two are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pitune.errors import InputError
from pitune.extras import need
from pitune.prediction.similarity import fisher_similarities

if TYPE_CHECKING:
    import networkx


@dataclass(frozen=True)
class TaskGraph:
    """Names of experts, and the symmetric matrix (N, N) of their tasks' similarities."""

    names: tuple[str, ...]
    similarity: NDArray[np.float64]

    def nearest(self, name: str, k: int) -> list[tuple[str, float]]:
        """Return the k most similar others, best first; ties go by name."""
        row = self.similarity[self.names.index(name)]
        others = [(other, float(value)) for other, value in zip(self.names, row, strict=True) if other != name]
        return sorted(others, key=lambda pair: (-pair[1], pair[0]))[:k]

    def networkx(self) -> networkx.Graph[str]:
        """Return the complete weighted graph."""
        graph: networkx.Graph[str] = need("networkx", "report").Graph()
        graph.add_nodes_from(self.names)
        for i, first in enumerate(self.names):
            for j in range(i):
                graph.add_edge(first, self.names[j], weight=float(self.similarity[i, j]))
        return graph


def build_graph(embeddings: Mapping[str, Mapping[str, Tensor]]) -> TaskGraph:
    """Compare every two task embeddings."""
    names = tuple(embeddings)
    if len(names) < 2:
        raise InputError(f"a task graph needs at least 2 tasks; found {len(names)}")
    return TaskGraph(names, fisher_similarities([embeddings[name] for name in names]))


def graph_correlation(first: TaskGraph, second: TaskGraph) -> float:
    """Return Spearman's rank correlation of two graphs' similarities over all pairs of tasks, in [−1, 1].

    Raise `InputError` if the graphs are of different tasks, or of fewer than 3, which have no ranks to compare.
    """
    if set(first.names) != set(second.names):
        name = sorted(set(first.names) ^ set(second.names))[0]
        raise InputError(f"two graphs differ in their tasks: {name!r} is in one only; compare graphs of one pool")
    if len(first.names) < 3:
        raise InputError(f"a rank correlation of graphs needs at least 3 tasks; found {len(first.names)}")
    order = [second.names.index(name) for name in first.names]
    upper = np.triu_indices(len(order), 1)
    pairs = (first.similarity[upper], second.similarity[np.ix_(order, order)][upper])
    if any(np.ptp(values) == 0 for values in pairs):
        raise InputError("all pairs of tasks of a graph are equally alike; there are no ranks to compare")
    return float(need("scipy.stats", "metrics").spearmanr(*pairs).statistic)
