from __future__ import annotations

import numpy as np
import pytest

from pitune.reports.layout import cluster_order, clusters, edges_of, nearest, place, scaled


def blocks(count: int) -> np.ndarray:
    """Two groups, every other task of the same group, alike within and unlike across."""
    group = np.arange(count) % 2
    similarity = np.where(group[:, None] == group[None], 0.9, 0.3)
    np.fill_diagonal(similarity, 1.0)
    return similarity


def test_like_tasks_stand_next_to_each_other_in_the_matrix() -> None:
    order = [i % 2 for i in cluster_order(blocks(8))]
    assert order in ([0] * 4 + [1] * 4, [1] * 4 + [0] * 4)


def test_clusters_hold_like_tasks_the_most_central_first() -> None:
    similarity = blocks(6)
    similarity[2, 4] = similarity[4, 2] = 0.8  # 0 is the most like the two others of its group
    assert clusters(similarity, 2) in ([[0, 2, 4], [1, 3, 5]], [[1, 3, 5], [0, 2, 4]])


def test_nearest_are_best_first_and_ties_go_by_position() -> None:
    assert nearest(blocks(6), 2)[0] == [2, 4]
    assert edges_of([[1], [0], [1]]) == [(0, 1), (1, 2)]


def test_similarities_of_different_tasks_span_the_scale() -> None:
    found = scaled(blocks(4))
    assert (found[0, 1], found[0, 2], found[0, 0]) == (0.0, 1.0, 1.0)
    assert scaled(np.full((3, 3), 0.5))[0, 1] == 0.5


@pytest.mark.parametrize("count", [2, 3, 8, 14])
def test_labels_do_not_overlap_and_stay_on_the_canvas(count: int) -> None:
    similarity, boxes, size = blocks(count), np.tile([120.0, 40.0], (count, 1)), (520.0, 468.0)
    points = place(similarity, edges_of(nearest(similarity, 2)), boxes, size)
    assert (points >= boxes / 2).all()
    assert (points <= np.array(size) - boxes / 2).all()
    for i in range(count):
        for j in range(i):
            assert (np.abs(points[i] - points[j]) >= 119.9 * np.array([1, 0]) + 39.9 * np.array([0, 1])).any()


def test_like_tasks_lie_close_together() -> None:
    similarity = blocks(8)
    points = place(similarity, edges_of(nearest(similarity, 2)), np.ones((8, 2)), (500.0, 500.0))
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    assert distance[similarity == 0.9].mean() < 0.6 * distance[similarity == 0.3].mean()
