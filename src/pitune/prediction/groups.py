"""Which targets share a prompt: groups out of a matrix of measured transfer or of predicted similarity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pitune.errors import InputError
from pitune.extras import need

if TYPE_CHECKING:
    from scipy.cluster.hierarchy import ClusterNode

How = Literal["agglomerative", "greedy"]
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Grouping:
    """Groups of tasks' names, the largest first, and for each the reason in words."""

    groups: tuple[tuple[str, ...], ...]
    reasons: tuple[str, ...]


def group_tasks(names: Sequence[str], matrix: Matrix, most: int, how: How = "agglomerative") -> Grouping:
    """Divide N tasks into groups of at most `most` by a matrix (N, N) of what each two have in common.

    The matrix is made symmetric, `(M + Mᵀ) / 2`; its diagonal does not count. `agglomerative` builds the tree of
    mean linkage and cuts it at the largest groups that are small enough; `greedy` begins with the best pair left
    and adds the task that is best for the group while it is better than the mean over all pairs. Raise
    `InputError` if the matrix does not fit the names or holds numbers that are not finite.
    """
    if matrix.shape != (len(names), len(names)):
        raise InputError(f"a matrix of {matrix.shape} for {len(names)} tasks; expected one row and column a task")
    if most < 1:
        raise InputError(f"groups of at most {most} tasks; expected 1 or more")
    if how not in _WAYS:
        raise InputError(f"unknown way of grouping {how!r}; expected agglomerative or greedy")
    even = (matrix + matrix.T) / 2
    np.fill_diagonal(even, 0.0)
    if not np.isfinite(even).all():
        i = int(np.argwhere(~np.isfinite(even))[0][0])
        raise InputError(
            f"the matrix holds numbers that are not finite at {names[i]!r}; measure or leave out that task"
        )
    found = [list(range(len(names)))] if len(names) <= min(most, 1) else _WAYS[how](even, most)
    found = sorted((sorted(group) for group in found), key=lambda group: (-len(group), group[0]))
    reasons = tuple(_reason(even, group, found, names) for group in found)
    return Grouping(tuple(tuple(names[i] for i in group) for group in found), reasons)


def _agglomerative(even: Matrix, most: int) -> list[list[int]]:
    distance = even.max() - even
    np.fill_diagonal(distance, 0.0)
    pairs = distance[np.triu_indices(len(distance), 1)]
    hierarchy = need("scipy.cluster.hierarchy", "metrics")
    return _cut(hierarchy.to_tree(hierarchy.linkage(pairs, "average")), most)


def _cut(node: ClusterNode, most: int) -> list[list[int]]:
    if node.get_count() <= most:
        return [node.pre_order()]
    left, right = node.get_left(), node.get_right()
    return [*_cut(left, most), *_cut(right, most)]


def _greedy(even: Matrix, most: int) -> list[list[int]]:
    left = set(range(len(even)))
    usual = float(even[np.triu_indices(len(even), 1)].mean())
    groups = []
    while left:
        if most == 1 or len(left) == 1:
            group = [min(left)]
        else:
            best = max(combinations(sorted(left), 2), key=lambda pair: even[pair])
            group = list(best) if even[best] > usual or len(even) == 2 else [best[0]]
        while 1 < len(group) < most and left - set(group):
            nearest = max(sorted(left - set(group)), key=lambda one: even[one, group].mean())
            if even[nearest, group].mean() <= usual:
                break
            group.append(nearest)
        left -= set(group)
        groups.append(group)
    return groups


_WAYS: dict[str, Callable[[Matrix, int], list[list[int]]]] = {"agglomerative": _agglomerative, "greedy": _greedy}


def _reason(even: Matrix, group: list[int], groups: list[list[int]], names: Sequence[str]) -> str:
    """Say what the tasks of a group have in common, beside what they have with the nearest other group."""
    own = " + ".join(names[i] for i in group)
    others = [(float(even[np.ix_(group, other)].mean()), other) for other in groups if other is not group]
    near = max(others, default=None, key=lambda pair: pair[0])
    outside = f"; {near[0]:.3f} with the nearest other group ({' + '.join(names[i] for i in near[1])})" if near else ""
    if len(group) == 1:
        return f"{own} alone{outside}"
    inside = float(np.mean([even[pair] for pair in combinations(group, 2)]))
    return f"{own}: {inside:.3f} in common on average{outside}"
