"""Score a task with an expert in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pitune.backbones import Backbone, Batch
from pitune.errors import InputError
from pitune.experts import Attached, Expert, Tensors, attached, check_tensors, get_method, read_config
from pitune.tasks import Example, Task
from pitune.tasks.metrics import compute_metric
from pitune.training._batching import by_length

_CHUNK = 64


@dataclass(frozen=True)
class Evaluation:
    """How well some examples were answered; `scores` (N, C) and `target` (N,) follow `ids`."""

    metric: str
    value: float
    ids: tuple[str, ...]
    scores: Tensor
    target: Tensor

    @property
    def loss(self) -> float:
        """Return the mean loss."""
        return float(self.losses.mean())

    @property
    def losses(self) -> Tensor:
        """Return −log p(target | input) per example (N,)."""
        return -self.scores.gather(1, self.target[:, None]).squeeze(1)


def check_backbone(expert: Expert, backbone: Backbone) -> None:
    """Raise `InputError` unless the expert was trained on this backbone."""
    if expert.card.backbone != backbone.fingerprint:
        found, expected = expert.card.backbone[:16], backbone.fingerprint[:16]
        raise InputError(
            f"expert {expert.name!r} belongs to another backbone ({expert.card.base_model}, fingerprint {found}); "
            f"expected {backbone.name}, fingerprint {expected}"
        )


def evaluate_examples(
    task: Task,
    examples: Sequence[Example],
    prepare: Callable[[Sequence[Example], Task], Batch],
    score: Callable[[Batch], Tensor],
) -> Evaluation:
    """Score examples in chunks of like length."""
    rows: list[tuple[str, Tensor, Tensor]] = []
    with torch.no_grad():
        for chunk in by_length(examples, _CHUNK):
            batch = prepare(chunk, task)
            rows += zip(batch.ids, score(batch).float().cpu(), batch.target.cpu(), strict=True)
    scores = torch.stack([row[1] for row in rows])
    target = torch.stack([row[2] for row in rows])
    value = compute_metric(task.metric, scores, target)
    return Evaluation(task.metric, value, tuple(row[0] for row in rows), scores, target)


def evaluate_tensors(attached_: Attached, tensors: Tensors, task: Task, examples: Sequence[Example]) -> Evaluation:
    """Score examples with the given tensors in the attached modules."""
    return evaluate_examples(task, examples, attached_.backbone.prepare, lambda batch: attached_.scores(tensors, batch))


def evaluate_expert(backbone: Backbone, task: Task, expert: Expert | None, examples: Sequence[Example]) -> Evaluation:
    """Score examples with an expert, or zero-shot with none."""
    if expert is None:
        return evaluate_examples(task, examples, backbone.prepare, backbone.scores)
    check_backbone(expert, backbone)
    method = get_method(expert.method)
    with attached(backbone, method, read_config(method, expert.config, f"expert {expert.name!r}")) as place:
        check_tensors(place.shapes, expert.tensors, f"expert {expert.name!r}")
        return evaluate_tensors(place, expert.tensors, task, examples)
