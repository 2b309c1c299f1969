"""Task2Vec's distance between two tasks, from the Fisher information of one probe."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pitune.prediction.similarity import check_same_tensors, fisher_similarity


def task2vec_distance(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """Return `d_sym = 1 − cos(F_i / (F_i + F_j), F_j / (F_i + F_j))` in [0, 1], 0 for equal embeddings.

    F is the diagonal Fisher information of all tensors, as one vector (Achille et al., ICCV 2019, arXiv
    1902.03545, section 3): large tensors count for more, where π-Tuning takes the mean over tensors of the same
    cosine. Their average within filters is left out, since the probe has none. Raise `InputError` as
    `fisher_similarity` does.
    """
    check_same_tensors(first, second)
    whole = [{"all": torch.cat([one[name].flatten() for name in sorted(one)])} for one in (first, second)]
    return 1 - fisher_similarity(*whole)
