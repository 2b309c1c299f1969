"""What a frozen backbone sees in examples: features to classify by or to compare tasks by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pitune.backbones import Backbone
from pitune.tasks import Example, Task
from pitune.training.batching import by_length

_CHUNK = 32


@dataclass(frozen=True)
class Features:
    """What a linear probe reads of N examples, in the order of `by_length`.

    `values` (N, D) are features and `labels` (N,) the label's place among the answers; `relevant` (N, C) says which
    answers are right too, where there may be several; `answers` (C, D) are their vectors, if the backbone has them.
    """

    values: Tensor
    labels: Tensor
    relevant: Tensor | None
    answers: Tensor | None


@torch.no_grad()
def features_of(backbone: Backbone, task: Task, examples: Sequence[Example]) -> Features:
    """Return the features of a task's examples, on the CPU in float32."""
    values, labels, relevant, answers = [], [], [], dict[tuple[float, ...], Tensor]()
    for chunk in by_length(examples, _CHUNK):
        batch = backbone.prepare(chunk, task)
        values.append(backbone.features(batch).float().cpu())
        labels.append(batch.target.cpu())
        if batch.relevant is not None:
            relevant.append(batch.relevant.cpu())
        if batch.answers.is_floating_point():
            answers |= {tuple(one[:8].tolist()): one for one in batch.answers.float().cpu()}
    return Features(
        torch.cat(values),
        torch.cat(labels),
        torch.cat(relevant) if relevant else None,
        torch.stack(list(answers.values())) if answers else None,
    )
