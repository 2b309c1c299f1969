"""The experts of a large pool whose tasks are most like one: by sketches first, then by whole embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pitune.experts import PoolIndex, load_fisher
from pitune.experts.index import layout_key
from pitune.experts.sketches import sketch
from pitune.prediction.embedding import Embedding, embedding
from pitune.prediction.similarity import fisher_similarity, similarities_to

_AGAIN = 3  # times as many as are asked for are compared whole
_FEWEST = 32
_BLOCK = 512  # sketches at once, so that a block stays in the cache


def nearest(
    index: PoolIndex, to: Mapping[str, Tensor], names: Sequence[str], k: int, *, by: Embedding = "probe"
) -> list[tuple[str, float]]:
    """Return the k of the named experts with the highest `fisher_similarity` to an embedding, best first.

    Which are compared whole, three times as many as are asked for and 32 at least, their sketches tell (`sketch` says
    how well). Ties go by name. Raise `InputError` naming an expert whose embedding is missing or cannot be compared.
    """
    key = layout_key(to)
    for name in names:
        if index.entries[name].layouts.get(by) != key:
            fisher_similarity(to, embedding(index.pool.get(name), by))
    chosen = list(names)
    if len(chosen) > (most := max(_AGAIN * k, _FEWEST)):
        rows, sketches = index.sketches(by, key)
        alike = sketch_similarities(torch.from_numpy(sketch(to)).float().exp2(), sketches)
        alike = alike[torch.tensor([rows[name] for name in names])]
        chosen = sorted(names[i] for i in alike.topk(most).indices.tolist())
    whole = [_stored(index, name, by) for name in chosen]
    pairs = zip(chosen, similarities_to(to, whole).tolist(), strict=True)
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:k]


def _stored(index: PoolIndex, name: str, by: Embedding) -> dict[str, Tensor]:
    found = load_fisher(index.pool.path(name), f"{by}.")
    return {tensor.removeprefix(f"{by}."): value for tensor, value in found.items()}


def sketch_similarities(one: Tensor, others: Tensor) -> Tensor:
    """Return about the `fisher_similarity` (N,) of embeddings, of F at a sketch's places (T, S) and (N, T, S)."""
    found = []
    for start in range(0, len(others), _BLOCK):
        a = torch.add(others[start : start + _BLOCK], one).reciprocal_().mul_(one)
        sums, squares = a.sum(2), a.square_().sum(2)
        found.append(((sums - squares) / (squares * (a.shape[2] - 2 * sums + squares)).sqrt()).nan_to_num_().mean(1))
    return torch.cat(found)
