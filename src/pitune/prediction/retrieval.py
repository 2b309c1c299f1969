"""The experts of a large pool whose tasks are most like one: by sketches first, then by whole embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from pitune.experts import PoolIndex, load_fishers
from pitune.experts.index import Sketches, layout_key
from pitune.experts.sketches import shape_of, sketch
from pitune.prediction.embedding import Embedding, embedding
from pitune.prediction.similarity import fisher_similarity, stacked_similarities

_AGAIN = 3  # times as many as are asked for are compared whole
_FEWEST = 32
_SKETCHED = 512  # of a larger pool are compared by sketches
_BLOCK = 128  # sketches at once, so that a block stays in the cache


def nearest(
    index: PoolIndex, to: Mapping[str, Tensor], names: Sequence[str], k: int, *, by: Embedding = "probe"
) -> list[tuple[str, float]]:
    """Return the k of the named experts with the highest `fisher_similarity` to an embedding, best first.

    Which are compared whole, three times as many as are asked for and 32 at least, their sketches tell (`sketch` says
    how well); of which of thousands these are read, the shapes of the sketches (`shape_of`), in one product. Ties go by
    name. Raise `InputError` naming an expert whose embedding is missing or cannot be compared.
    """
    key = layout_key(to)
    kept = index.sketches(by, key)
    if (other := next((name for name in names if name not in kept.rows), None)) is not None:
        fisher_similarity(to, embedding(index.pool.get(other), by))
    chosen = list(names)
    if len(chosen) > (most := max(_AGAIN * k, _FEWEST)):
        chosen = sorted(_sketched(kept, torch.from_numpy(sketch(to)).float(), chosen, most))
    whole = load_fishers([index.pool.path(name) for name in chosen], f"{by}.")
    whole = {tensor.removeprefix(f"{by}."): value for tensor, value in whole.items()}
    pairs = zip(chosen, stacked_similarities(to, whole).tolist(), strict=True)
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:k]


def _sketched(kept: Sketches, logs: Tensor, names: Sequence[str], most: int) -> list[str]:
    """Return so many of the names, of those whose sketches are most like log₂ F (T, S)."""
    rows = torch.from_numpy(np.fromiter(map(kept.rows.__getitem__, names), np.int64, len(names)))
    near = (kept.shapes @ shape_of(logs) - kept.halves)[rows].topk(min(max(_SKETCHED, most), len(rows))).indices
    alike = sketch_similarities(logs.exp2(), kept.logs[rows[near]].float().exp2_())
    return [names[i] for i in near[alike.topk(most).indices].tolist()]


def sketch_similarities(one: Tensor, others: Tensor) -> Tensor:
    """Return about the `fisher_similarity` (N,) of embeddings, of F at a sketch's places (T, S) and (N, T, S)."""
    found = []
    for start in range(0, len(others), _BLOCK):
        a = torch.add(others[start : start + _BLOCK], one).reciprocal_().mul_(one)
        sums, squares = a.sum(2), a.square_().sum(2)
        found.append(((sums - squares) / (squares * (a.shape[2] - 2 * sums + squares)).sqrt()).nan_to_num_().mean(1))
    return torch.cat(found)
