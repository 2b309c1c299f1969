"""Groups of targets that share a prompt: they follow the matrix, keep the limit and give their reason."""

from __future__ import annotations

import numpy as np
import pytest

from pitune.errors import InputError
from pitune.prediction import group_tasks
from pitune.prediction.groups import How

NAMES = ("a", "b", "c", "d", "e")
MATRIX = np.array(
    [
        [9.0, 0.9, 0.1, 0.2, 0.0],
        [0.7, 9.0, 0.2, 0.1, 0.0],
        [0.1, 0.0, 9.0, 0.6, 0.5],
        [0.2, 0.1, 0.6, 9.0, 0.7],
        [0.0, 0.1, 0.5, 0.5, 9.0],
    ]
)


@pytest.mark.parametrize("how", ["agglomerative", "greedy"])
def test_groups_follow_the_matrix(how: How) -> None:
    found = group_tasks(NAMES, MATRIX, 3, how)
    assert found.groups == (("c", "d", "e"), ("a", "b"))
    assert found.reasons[0].startswith(
        "c + d + e: 0.567 in common on average; 0.092 with the nearest other group (a + b)"
    )
    assert group_tasks(NAMES, MATRIX.T, 3, how) == found


@pytest.mark.parametrize("how", ["agglomerative", "greedy"])
@pytest.mark.parametrize("most", [1, 2, 4, 5])
def test_no_group_is_larger_than_asked_for_and_none_is_left_out(how: How, most: int) -> None:
    groups = group_tasks(NAMES, MATRIX, most, how).groups
    assert sorted(name for group in groups for name in group) == list(NAMES)
    assert max(map(len, groups)) <= most


def test_a_task_that_suits_nobody_stays_alone_when_greedy() -> None:
    matrix = np.full((3, 3), -1.0)
    matrix[0, 1] = matrix[1, 0] = 1.0
    found = group_tasks(("a", "b", "c"), matrix, 3, "greedy")
    assert found.groups == (("a", "b"), ("c",))
    assert found.reasons[1].startswith("c alone; -1.000 with the nearest")


def test_bad_input() -> None:
    with pytest.raises(InputError, match="matrix of"):
        group_tasks(NAMES[:3], MATRIX, 2)
    with pytest.raises(InputError, match="at most 0"):
        group_tasks(NAMES, MATRIX, 0)
    with pytest.raises(InputError, match="greedy"):
        group_tasks(NAMES, MATRIX, 2, "random")  # type: ignore[arg-type]
    holes = MATRIX.copy()
    holes[2, 3] = np.nan
    with pytest.raises(InputError, match="'c'"):
        group_tasks(NAMES, holes, 2)
    assert group_tasks(("a",), np.ones((1, 1)), 3).groups == (("a",),)
