"""Few numbers that stand for many: of Fisher information, to find like tasks, and of weights, to find copies."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pitune.files import sha256_bytes

SKETCH = 1024  # coordinates of an embedding
_FEWEST = 8  # of one tensor
_DIRECTIONS = 16
_ROWS = 256
_NEAR = 0.01  # of the length of what two experts add, by which copies differ at most

_WIDE = 1.2 * _NEAR
_SIDES: tuple[tuple[int, Literal["left", "right"]], ...] = ((-1, "left"), (1, "right"))

Layout = tuple[tuple[str, tuple[int, ...]], ...]


def layout_of(embedding: Mapping[str, Tensor]) -> Layout:
    """Return names and shapes of an embedding's tensors, in order: embeddings of one layout can be compared."""
    return tuple((name, tuple(value.shape)) for name, value in sorted(embedding.items()))


def sketch(embedding: Mapping[str, Tensor]) -> NDArray[np.float16]:
    """Return log₂ F (T, S) at S random places of each of T tensors, the same for all embeddings of one layout.

    T · S is about 1,024. Of 120 embeddings of twenty tasks, .983 of the ten that are most like one are among the 20
    first by sketches and .997 among the 30 first (`benchmarks/pool_scale.py recall`).
    """
    places = _places(layout_of(embedding))
    kept = torch.stack([embedding[name].flatten()[index] for name, index in places])
    return np.asarray(kept.double().log2().clamp_min(-120.0).half().numpy())


def shape_of(logs: Tensor) -> Tensor:
    """Return sketches (…, T, S) less the mean of each tensor, as rows (…, T · S).

    A factor on all of a tensor leaves a and b of its similarity parallel: it is the differences inside tensors that
    tell tasks apart, and two shapes are the nearer, the more alike their embeddings.
    """
    return (logs - logs.mean(-1, keepdim=True)).flatten(-2)


@lru_cache(maxsize=16)
def _places(layout: Layout) -> tuple[tuple[str, Tensor], ...]:
    each = max(_FEWEST, SKETCH // len(layout))
    return tuple(
        (name, torch.from_numpy(_random(name).integers(0, max(1, int(np.prod(shape))), each))) for name, shape in layout
    )


@lru_cache(maxsize=256)
def directions(name: str, width: int) -> Tensor:
    """Return random directions (16, width) of length √width that depend on a name alone."""
    return torch.from_numpy(_random(name).standard_normal((_DIRECTIONS, width), dtype=np.float32))


def _random(name: str) -> np.random.Generator:
    return np.random.default_rng(int(sha256_bytes(name.encode())[:15], 16))


def originals(projections: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return for each of N experts the first whose projection (16,) differs from its own by 1 % at most: it is a copy.

    Random projections keep lengths, so that what the two add to the backbone differs by about as much.
    """
    first = np.arange(len(projections))
    length = np.linalg.norm(projections, axis=1)
    order = np.argsort(length, kind="stable")
    begin, end = (np.searchsorted(length[order], length * (1 + s * 1.1 * _NEAR), d) for s, d in _SIDES)
    for i in np.flatnonzero(_accompanied(projections[order].astype(np.float64), length[order])[order.argsort()]):
        near = order[begin[i] : end[i]]
        near = near[(near > i) & (first[near] == near)] if first[i] == i else near[:0]
        if len(near):
            apart = np.linalg.norm(projections[near] - projections[i], axis=1)
            first[near[apart <= _NEAR * length[i]]] = i
    return first


def _accompanied(rows: NDArray[np.float64], length: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which rows, in the order of their lengths, have others that may be copies: few, which alone are tried."""
    found = np.zeros(len(rows), bool)
    squares = np.square(rows).sum(1)
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        low, high = np.searchsorted(length, (length[part][0] / (1 + _WIDE), length[part][-1] * (1 + _WIDE)))
        apart = squares[part, None] + squares[low : high + 1] - 2 * rows[part] @ rows[low : high + 1].T
        found[part] = (apart <= (_WIDE * length[part, None]) ** 2).sum(1) > 1
    return found
