"""In which order examples are read: a pure function of the seed and the epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pitune.tasks import Example

_POOL = 8


def epoch_batches(examples: Sequence[Example], size: int, seed: int, epoch: int) -> list[list[Example]]:
    """Return one epoch's batches: shuffled, then sorted by text length within pools of a few batches.

    Texts of like length share a batch, so little of it is padding; which texts those are still changes
    from epoch to epoch.
    """
    generator = np.random.default_rng([seed, epoch])
    order = [examples[i] for i in generator.permutation(len(examples))]
    batches = []
    for start in range(0, len(order), size * _POOL):
        pool = sorted(order[start : start + size * _POOL], key=lambda example: len(example.text or ""))
        batches += [pool[i : i + size] for i in range(0, len(pool), size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def by_length(examples: Sequence[Example], size: int) -> list[list[Example]]:
    """Return batches for evaluation, texts of like length together."""
    order = sorted(examples, key=lambda example: (len(example.text or ""), example.id))
    return [order[i : i + size] for i in range(0, len(order), size)]
