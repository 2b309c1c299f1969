"""How alike two tasks are, by their Fisher information."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pitune.errors import InputError


def fisher_similarity(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """Return the mean over tensors of cos(a, b), `a = F_i / (F_i + F_j)` and `b = F_j / (F_i + F_j)` elementwise.

    Computed as a = σ(d), b = σ(−d) with d = log F_i − log F_j, so that tiny and huge values are safe
    (π-Tuning, step 2). Elements that are zero in both tasks say nothing and are left out. In [0, 1]; 1 for
    equal embeddings. Raise `InputError` naming the tensor that is missing, mis-shaped or not finite.
    """
    check_same_tensors(first, second)
    cosines = [value for name in first if (value := _cosine(name, first[name], second[name])) is not None]
    if not cosines:
        raise InputError("two embeddings are zero everywhere; expected the Fisher information of real examples")
    return sum(cosines) / len(cosines)


def check_same_tensors(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
    """Raise `InputError` that names a tensor which only one of two embeddings has."""
    if first.keys() != second.keys():
        name = sorted(first.keys() ^ second.keys())[0]
        raise InputError(f"two embeddings differ in kind: tensor {name!r} is in one only; embed both by the same probe")


def _cosine(name: str, first: Tensor, second: Tensor) -> float | None:
    if first.shape != second.shape:
        shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise InputError(f"two embeddings differ in shape at tensor {name!r}: {shapes}; embed both by the same probe")
    for value in (first, second):
        if not torch.isfinite(value).all() or (value < 0).any():
            raise InputError(
                f"embedding tensor {name!r} holds values that are negative or not finite; embed the task again"
            )
    known = (first > 0) | (second > 0)
    if not known.any():
        return None
    difference = first[known].double().log() - second[known].double().log()
    a, b = torch.sigmoid(difference), torch.sigmoid(-difference)
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))
