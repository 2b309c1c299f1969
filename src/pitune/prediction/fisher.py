"""The diagonal Fisher information of an expert, per example and vectorised: the task embedding of π-Tuning.

The labels y are drawn from p(y | x), the model's own distribution over the answers that an example may have: over the
listed ones the softmax of its scores, over free text what it would write, token by token. Where an example may have
several right answers, one is drawn: the loss that experts are trained by is the mean of −log p over those that are
right, a model of one answer at a time for every family. SigLIP and its kin are trained by a sigmoid per answer, and
the softmax is right for them too: independent answers with log-odds l, given that exactly one is right, have
probability σ(l_c) Π_{j≠c} σ(−l_j) ∝ exp(l_c), which is softmax(l) whatever the bias. So it is their own distribution
over a task's answers, and the one that evaluation and `predict` read. Draws of every answer by itself would mostly
say that none is right, which no example of such a task is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.rnn import pad_sequence

from pitune.backbones import LONGEST_ANSWER, Backbone, Batch, Writing, has_open_answers, listed_answers
from pitune.errors import InputError
from pitune.experts import Attached, Expert, Tensors, attached, initial_tensors, make_settings
from pitune.experts.kinds.lora import LORA
from pitune.experts.kinds.lora_update import UP
from pitune.tasks import Example, Task
from pitune.training import INITIAL_SEED, by_length, check_backbone

Labels = Literal["sampled", "empirical"]
Fisher = dict[str, Tensor]
PROBE_RANK = 8
_CHUNK = 32


def expert_fisher(
    backbone: Backbone,
    task: Task,
    expert: Expert,
    examples: Sequence[Example],
    *,
    labels: Labels = "sampled",
    seed: int = 0,
    chunk: int = _CHUNK,
) -> Fisher:
    """Return `F = E_x E_{y∼p(y|x)} [(∇_φ log p(y|x))²]` at a trained expert, by tensor (π-Tuning, step 2)."""
    check_backbone(expert, backbone)
    with attached(backbone, expert.kind, expert.settings) as place:
        wanted = list(expert.tensors)
        return fisher_at(place, expert.tensors, wanted, task, examples, labels=labels, seed=seed, chunk=chunk)


def probe_fisher(
    backbone: Backbone,
    task: Task,
    examples: Sequence[Example],
    *,
    labels: Labels = "sampled",
    seed: int = 0,
    chunk: int = _CHUNK,
) -> Fisher:
    """Return the Fisher information of LoRA's B at B = 0: the untrained backbone's, whatever experts a task has.

    It needs no trained expert, and compares a task of few labels with one of many on one scale.
    """
    with attached(backbone, LORA, make_settings(LORA, backbone, r=PROBE_RANK)) as place:
        start = initial_tensors(LORA, place.shapes, INITIAL_SEED)
        wanted = [name for name in start if name.endswith(UP)]
        return fisher_at(place, start, wanted, task, examples, labels=labels, seed=seed, chunk=chunk)


def fisher_at(
    place: Attached,
    tensors: Tensors,
    wanted: Sequence[str],
    task: Task,
    examples: Sequence[Example],
    *,
    labels: Labels,
    seed: int,
    chunk: int,
) -> Fisher:
    """Return the mean over examples of squared per-example gradients with respect to the `wanted` tensors.

    Evaluation mode throughout. Sampled labels follow from the seed and the examples alone, each drawn among its own
    example's answers, so the result depends neither on `chunk`, the number of examples taken at a time, nor on
    their order. Where `usable_labels` says that none can be drawn, those given are taken. Raise `InputError` naming
    the first tensor that is not finite.
    """
    if not examples:
        raise InputError(f"task {task.name!r} has no examples to embed it by; expected 32 or more")
    tensors = {name: value.to(place.backbone.device) for name, value in tensors.items()}
    ordered = [example for part in by_length(examples, len(examples)) for example in part]
    sampled = usable_labels(place.backbone, task, examples, labels) == "sampled"
    is_open = has_open_answers(examples, task)
    size = (len(ordered), LONGEST_ANSWER) if is_open else (len(ordered),)
    draws = torch.rand(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    total = {name: torch.zeros_like(tensors[name], dtype=torch.float64) for name in wanted}
    for start in range(0, len(ordered), chunk):
        part = ordered[start : start + chunk]
        batch = place.prepare(part, task)
        draw = draws[start : start + chunk].to(batch.target.device) if sampled else None
        own = None
        if draw is not None and is_open:
            batch, draw = place.sample(tensors, batch, draw), None
        elif draw is not None:
            own = _own_answers(part, task).to(batch.target.device)
        for name, squares in squared_gradients(place, tensors, wanted, batch, draw, own=own).items():
            total[name] += squares.double()
    result = {name: (value / len(ordered)).float().cpu() for name, value in total.items()}
    for name, value in result.items():
        if not torch.isfinite(value).all():
            raise InputError(
                f"the Fisher information of task {task.name!r} is not finite at tensor {name!r}; check its expert"
            )
    return result


def usable_labels(backbone: Backbone, task: Task, examples: Sequence[Example], wanted: Labels = "sampled") -> Labels:
    """Return the labels that an embedding is by: the given ones where none can be drawn.

    That is where any text may be an answer, and the backbone cannot draw one (`Writing`).
    """
    return wanted if isinstance(backbone, Writing) or not has_open_answers(examples, task) else "empirical"


def _own_answers(examples: Sequence[Example], task: Task) -> Tensor:
    """Return the places (B, K) of each example's own answers among the batch's, −1 beyond their number.

    They stand in the task's order, or in the example's where the task lists none: the batch's depends on the batch.
    """
    index = {answer: i for i, answer in enumerate(listed_answers(examples, task))}
    rows = [[index[answer] for answer in dict.fromkeys(task.candidates(example))] for example in examples]
    if task.answers is not None:
        rows = [sorted(row) for row in rows]
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=-1)


def squared_gradients(
    place: Attached,
    tensors: Tensors,
    wanted: Sequence[str],
    batch: Batch,
    draw: Tensor | None,
    *,
    own: Tensor | None = None,
) -> Fisher:
    """Return Σ_x (∇ log p(y|x))² over a batch; y is drawn at `draw` (B,) in [0, 1), or given where that is None.

    It is drawn among the answers at `own` (B, K), in that order, −1 beyond their number; among all unless given.
    """
    rest = {name: value for name, value in tensors.items() if name not in wanted}
    batch = replace(batch, relevant=None)  # labels are drawn one at a time

    def log_likelihood(chosen: Tensors, row: dict[str, Tensor]) -> Tensor:
        inputs = {name: value[None] for name, value in row.items() if name in batch.inputs}
        allowed = row["allowed"][None] if batch.allowed is not None else None
        one = replace(batch, ids=("",), inputs=inputs, target=row["target"][None], allowed=allowed)
        scores = place.scores({**rest, **chosen}, one)[0]
        label = row["target"]
        if draw is not None:
            label = _drawn(scores.detach(), row["draw"], row.get("own"))
        return scores.gather(0, label[None])[0]

    rows = {**batch.inputs, "target": batch.target}
    if batch.allowed is not None:
        rows["allowed"] = batch.allowed
    if draw is not None:
        rows["draw"] = draw
        if own is not None:
            rows["own"] = own
    if not place.backbone.vectorises:
        return _looped(log_likelihood, {name: tensors[name] for name in wanted}, rows)
    gradients: Callable[..., dict[str, Tensor]] = vmap(grad(log_likelihood), in_dims=(None, 0))
    with sdpa_kernel(SDPBackend.MATH):  # the fused attention kernels have no batching rule and would loop
        each = gradients({name: tensors[name] for name in wanted}, rows)
    return {name: value.square().sum(0) for name, value in each.items()}


def _drawn(scores: Tensor, draw: Tensor, own: Tensor | None) -> Tensor:
    """Return the first of the answers at `own` where the sum of their probabilities reaches `draw`.

    `scores` (C,) are their logarithms.
    """
    if own is None:
        own = torch.arange(len(scores), device=scores.device)
    chances = scores.double().exp().gather(0, own.clamp_min(0)).masked_fill(own < 0, 0.0)
    number = (chances.cumsum(-1) < draw).sum()
    return own.gather(0, torch.minimum(number, (own >= 0).sum() - 1)[None])[0]


def _looped(
    log_likelihood: Callable[[Tensors, dict[str, Tensor]], Tensor], chosen: Tensors, rows: dict[str, Tensor]
) -> Fisher:
    """Return the same one example at a time, for backbones whose code looks at the values of its inputs."""
    leaves = {name: value.detach().clone().requires_grad_() for name, value in chosen.items()}
    total = {name: torch.zeros_like(value) for name, value in chosen.items()}
    for i in range(len(rows["target"])):
        value = log_likelihood(leaves, {name: row[i] for name, row in rows.items()})
        found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
        for name, gradient in zip(leaves, found, strict=True):
            if gradient is not None:
                total[name] += gradient.square()
    return total
