"""The task graph: every task of a pool, and how alike each two are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pitune.errors import InputError
from pitune.prediction.similarity import fisher_similarity


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

    def networkx(self) -> nx.Graph[str]:
        """Return the complete weighted graph."""
        graph: nx.Graph[str] = nx.Graph()
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
    similarity = np.eye(len(names))
    for i, first in enumerate(names):
        for j in range(i):
            value = fisher_similarity(embeddings[first], embeddings[names[j]])
            similarity[i, j] = similarity[j, i] = value
    return TaskGraph(names, similarity)


def rank_neighbours(
    target: Mapping[str, Tensor], embeddings: Mapping[str, Mapping[str, Tensor]], k: int
) -> Sequence[tuple[str, float]]:
    """Return the k embeddings most similar to the target's, best first; ties go by name."""
    if k < 1:
        raise InputError(f"k is {k}; expected 1 or more neighbours")
    scored = [(name, fisher_similarity(target, value)) for name, value in embeddings.items()]
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:k]
