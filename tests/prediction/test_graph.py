"""The rank correlation of two graphs of the same tasks."""

from __future__ import annotations

import numpy as np
import pytest

from pitune.errors import InputError
from pitune.prediction import TaskGraph, graph_correlation


def graph(names: str, *pairs: float) -> TaskGraph:
    """Return a graph with the similarities of its pairs, row by row of the upper triangle."""
    matrix = np.eye(len(names))
    matrix[np.triu_indices(len(names), 1)] = pairs
    return TaskGraph(tuple(names), np.maximum(matrix, matrix.T))


def test_ranks_count_and_values_do_not() -> None:
    first = graph("abc", 0.1, 0.5, 0.9)
    assert graph_correlation(first, graph("abc", 0.8, 0.81, 0.82)) == pytest.approx(1.0)
    assert graph_correlation(first, graph("abc", 0.9, 0.5, 0.1)) == pytest.approx(-1.0)


def test_tasks_are_matched_by_name_whatever_their_order() -> None:
    assert graph_correlation(graph("abc", 0.1, 0.5, 0.9), graph("cba", 0.9, 0.5, 0.1)) == pytest.approx(1.0)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="'c' is in one only"):
        graph_correlation(graph("abc", 0.1, 0.5, 0.9), graph("abd", 0.1, 0.5, 0.9))
    with pytest.raises(InputError, match="at least 3 tasks; found 2"):
        graph_correlation(graph("ab", 0.1), graph("ab", 0.1))
    with pytest.raises(InputError, match="equally alike"):
        graph_correlation(graph("abc", 0.5, 0.5, 0.5), graph("abc", 0.1, 0.5, 0.9))
