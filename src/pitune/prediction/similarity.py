"""How alike tasks are by their Fisher information: π-Tuning's similarity, of two or of many, and Task2Vec's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pitune.errors import InputError

_BLOCK = 128  # embeddings that one is compared with at once, so that a block stays in the cache
_SMALLEST = torch.finfo(torch.float64).tiny
_CANCELS = 1e-7  # of a mean square, below which a difference of sums may have lost digits that count
_LEAST = 1e-37  # that single precision tells from zero, of the largest value
_ZERO = "two embeddings are zero everywhere; expected the Fisher information of real examples"


def fisher_similarity(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """Return the mean over tensors of cos(a, b), `a = F_i / (F_i + F_j)` and `b = F_j / (F_i + F_j)` elementwise.

    With d = log F_i − log F_j that is a = σ(d), b = σ(−d) (π-Tuning, step 2). In double precision, in which tiny and
    huge single ones are safe. Elements that are zero in both tasks say nothing and are left out. In [0, 1]; 1 for
    equal embeddings. Raise `InputError` naming the tensor that is missing, mis-shaped or not finite.
    """
    return float(similarities_to(first, [second])[0])


def similarities_to(one: Mapping[str, Tensor], others: Sequence[Mapping[str, Tensor]]) -> NDArray[np.float64]:
    """Return the `fisher_similarity` (N,) of one embedding with each of N others; raise `InputError` as it does."""
    for other in others:
        _check_same_tensors(one, other)
    return stacked_similarities(one, {name: _stacked(name, [other[name] for other in others]) for name in one})


def stacked_similarities(one: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> NDArray[np.float64]:
    """Return what `similarities_to` does, of the others' tensors as they are stacked, (N, …) by name."""
    _check_same_tensors(one, others)
    n = len(next(iter(others.values())))
    total, counted = torch.zeros(2, n, dtype=torch.float64)
    for name, value in one.items():
        mine, theirs = _rows(name, value[None]), _rows(name, others[name], value)
        a_a, a_b, b_b = _products(mine, theirs)
        total += a_b / (a_a * b_b).sqrt().clamp_min(_SMALLEST)
        counted += (a_a + b_b) > 0
    if bool((counted == 0).any()):
        raise InputError(_ZERO)
    return np.asarray((total / counted).numpy(), dtype=np.float64)


def _products(mine: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a · a, a · b and b · b (N,) of one row (1, D) with N, in double precision.

    Where no element is zero in both, a = 1 − b, and two sums over b tell all three as long as nothing cancels.
    """
    theirs = theirs.double()
    if bool(mine.min() > 0) and len(theirs):
        b = theirs / (theirs + mine.double())
        sums, b_b = b.sum(1), torch.linalg.vecdot(b, b)
        a_a = b.shape[1] - 2 * sums + b_b
        if bool((a_a > _CANCELS * b.shape[1]).all()):
            return a_a, sums - b_b, b_b
    inverse = (theirs + mine.double()).clamp_min_(_SMALLEST).reciprocal_()  # of zeros in both, 0 times the largest
    a, b = mine.double() * inverse, theirs * inverse
    return torch.linalg.vecdot(a, a), torch.linalg.vecdot(a, b), torch.linalg.vecdot(b, b)


def fisher_similarities(embeddings: Sequence[Mapping[str, Tensor]]) -> NDArray[np.float64]:
    """Return `fisher_similarity` of every two of N embeddings, a symmetric matrix (N, N), within 1e-5.

    In blocks of single precision (`benchmarks/pool_scale.py` says how long it takes). Raise `InputError` as each pair.
    """
    for one in embeddings:
        _check_same_tensors(embeddings[0], one)
    n = len(embeddings)
    total, counted = torch.zeros(2, n, n, dtype=torch.float64)
    for name in embeddings[0]:
        cosines, there = _pairwise(_rows(name, _stacked(name, [one[name] for one in embeddings])).double())
        total += cosines
        counted += there
    if n > 1 and bool((counted + torch.eye(n) == 0).any()):
        raise InputError(_ZERO)
    return np.asarray((total / counted.clamp_min(1)).fill_diagonal_(1.0).numpy(), dtype=np.float64)


def _pairwise(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return cos(a, b) (N, N) of every two of N rows (N, D), 0 for those that are zero both, and which are not.

    As a = 1 − b, the sums of b and of b² are all that is needed. Nothing cancels as long as b is the smaller of the
    two on the whole, so the rows are taken in the order of their sizes.
    """
    n, width = values.shape
    values = values / values.amax().clamp_min(_SMALLEST)  # its ratios stay
    order = values.clamp_min(_LEAST).log().mean(1).argsort(descending=True)
    rows = values[order].float()
    others, zero = rows.clamp_min(_LEAST), (rows == 0).float()
    sums, squares = torch.zeros(2, n, n, dtype=torch.float64)
    ones, block = torch.ones(width), torch.empty(_BLOCK, width)
    for i in range(1, n):
        inverse = rows[i].reciprocal()  # infinite at zeros, where b is 0 whatever the other is
        for start in range(0, i, _BLOCK):
            part = slice(start, min(start + _BLOCK, i))
            b = torch.addcmul(ones, others[part], inverse, out=block[: part.stop - start]).reciprocal_()
            sums[i, part] = (b @ ones).double()
            squares[i, part] = torch.linalg.vector_norm(b, dim=1).double().square()
    some = width - (zero @ zero.T).double()
    cosines = (sums - squares) / ((some - 2 * sums + squares) * squares).clamp_min(_SMALLEST).sqrt()
    there = (some > 0).double()
    back = order.argsort()
    lower = (cosines.clamp(0, 1) * there).tril(-1)
    return (lower + lower.T)[back][:, back], there[back][:, back]


def _check_same_tensors(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
    """Raise `InputError` that names a tensor which only one of two embeddings has."""
    if first.keys() != second.keys():
        name = sorted(first.keys() ^ second.keys())[0]
        raise InputError(f"two embeddings differ in kind: tensor {name!r} is in one only; embed both by the same probe")


def _stacked(name: str, values: Sequence[Tensor]) -> Tensor:
    """Return values of one tensor as (N, …); raise `InputError` if they differ in shape."""
    for value in values:
        _check_same_shape(name, values[0], value)
    return torch.stack([value.detach() for value in values])


def _check_same_shape(name: str, first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape:
        shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise InputError(f"two embeddings differ in shape at tensor {name!r}: {shapes}; embed both by the same probe")


def _rows(name: str, values: Tensor, like: Tensor | None = None) -> Tensor:
    """Return tensors (N, …) as rows (N, D); raise `InputError` unless they are such as can be compared."""
    if like is not None:
        _check_same_shape(name, like, values[0])
    rows = values.flatten(1) if values.dim() > 1 else values[:, None]
    least, most = rows.aminmax() if rows.numel() else (torch.zeros(()), torch.zeros(()))
    if not (least >= 0 and most < torch.inf):
        raise InputError(
            f"embedding tensor {name!r} holds values that are negative or not finite; embed the task again"
        )
    return rows


def task2vec_distance(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """Return `d_sym = 1 − cos(F_i / (F_i + F_j), F_j / (F_i + F_j))` in [0, 1], 0 for equal embeddings.

    F is the diagonal Fisher information of all tensors, as one vector (Achille et al., ICCV 2019, arXiv
    1902.03545, section 3): large tensors count for more, where π-Tuning takes the mean over tensors of the same
    cosine. Their average within filters is left out, since the probe has none. Raise `InputError` as
    `fisher_similarity` does.
    """
    _check_same_tensors(first, second)
    whole = [{"all": torch.cat([one[name].flatten() for name in sorted(one)])} for one in (first, second)]
    return 1 - fisher_similarity(*whole)
