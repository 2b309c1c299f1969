"""The calls and facts that every backbone offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from pitune.tasks import Example, Task


@dataclass(frozen=True)
class Batch:
    """What a backbone reads of B examples, and the C answers they are scored against.

    `inputs` maps a family's own names to tensors whose first dimension is B. `answers` holds what the
    family made of the answer texts. `target` (B,) indexes the right answer; `allowed` (B, C) is False
    for the answers that an example may not choose, or None where all may be chosen.
    """

    ids: tuple[str, ...]
    inputs: Mapping[str, Tensor]
    answers: Tensor
    target: Tensor
    allowed: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)


class Backbone(Protocol):
    """A frozen foundation model. Experts attach inside `module`; nothing else of it ever changes."""

    name: str
    fingerprint: str
    width: int

    @property
    def module(self) -> nn.Module:
        """The part of the model that experts attach inside."""

    @property
    def device(self) -> torch.device:
        """Where the model computes."""

    def prepare(self, examples: Sequence[Example], task: Task) -> Batch:
        """Turn examples into tensors; what is frozen is computed once and cached."""

    def scores(self, batch: Batch, candidates: Sequence[str] | None = None) -> Tensor:
        """Return log-scores (B, C) of the batch's answers, or of other answer texts."""

    def losses(self, batch: Batch) -> Tensor:
        """Return −log p(target | input) per example (B,), unreduced: the Fisher information needs them so."""

    def features(self, batch: Batch) -> Tensor:
        """Return one vector (B, D) for each input, the frozen features that a linear probe reads."""

    def generate(self, batch: Batch) -> list[str]:
        """Return an answer in free text for each example; `InputError` where the family cannot."""

    def attachment(self, method: str) -> tuple[str, ...]:
        """Return the names of the submodules of `module` to which a kind of expert attaches."""


def masked_log_softmax(scores: Tensor, allowed: Tensor | None) -> Tensor:
    """Return log p (B, C) over the allowed answers; the others get −inf, not a score of zero."""
    if allowed is not None:
        scores = scores.masked_fill(~allowed, float("-inf"))
    return scores.log_softmax(-1)
