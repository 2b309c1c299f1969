"""Where a device has no memory for so many examples at once, fewer are taken; the outcome is that of all at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pitune.backbones import Batch

_SAID = ("out of memory", "can't allocate memory")  # by devices that have no error of their own for it


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error of torch says that there is no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or any(one in str(error) for one in _SAID)


def free_memory() -> None:
    """Give back to the device what torch holds of it and does not use."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def in_halves(compute: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
    """Return what is computed of a batch, a row an example; in halves where there is no memory for the whole."""
    try:
        return compute(batch)
    except RuntimeError as error:
        if len(batch) < 2 or not is_out_of_memory(error):
            raise
    free_memory()  # here, where the error no longer keeps what was computed
    middle = len(batch) // 2
    parts = (slice(middle), slice(middle, None))
    return torch.cat([in_halves(compute, batch.rows(part)) for part in parts])
