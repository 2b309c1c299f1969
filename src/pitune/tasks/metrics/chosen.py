"""What metrics of listed answers read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Chosen:
    """Scores (N, C) of answers, the right one's index (N,), all right ones (N, C) if several, the C texts if known."""

    scores: Tensor
    target: Tensor
    relevant: Tensor | None = None
    answers: tuple[str, ...] = ()

    @property
    def right(self) -> Tensor:
        """Which answers are right (N, C)."""
        if self.relevant is not None:
            return self.relevant
        return torch.nn.functional.one_hot(self.target, self.scores.shape[1]).bool()
