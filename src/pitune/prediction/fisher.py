"""The diagonal Fisher information of an expert, per example and vectorised: the task embedding of π-Tuning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from pitune.backbones import Backbone, Batch
from pitune.errors import InputError
from pitune.experts import Attached, Expert, Tensors, attached, initial_tensors, make_settings
from pitune.experts.kinds.lora import LORA, UP
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

    Evaluation mode throughout. Sampled labels follow from the seed and the examples alone, so the result
    does not depend on `chunk`, the number of examples taken at a time. Raise `InputError` naming the first
    tensor that is not finite.
    """
    if not examples:
        raise InputError(f"task {task.name!r} has no examples to embed it by; expected 32 or more")
    tensors = {name: value.to(place.backbone.device) for name, value in tensors.items()}
    ordered = [example for part in by_length(examples, len(examples)) for example in part]
    draws = torch.rand(len(ordered), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    total = {name: torch.zeros_like(tensors[name], dtype=torch.float64) for name in wanted}
    for start in range(0, len(ordered), chunk):
        batch = place.backbone.prepare(ordered[start : start + chunk], task)
        draw = draws[start : start + chunk].to(batch.target.device) if labels == "sampled" else None
        for name, squares in squared_gradients(place, tensors, wanted, batch, draw).items():
            total[name] += squares.double()
    result = {name: (value / len(ordered)).float().cpu() for name, value in total.items()}
    for name, value in result.items():
        if not torch.isfinite(value).all():
            raise InputError(
                f"the Fisher information of task {task.name!r} is not finite at tensor {name!r}; check its expert"
            )
    return result


def squared_gradients(
    place: Attached, tensors: Tensors, wanted: Sequence[str], batch: Batch, draw: Tensor | None
) -> Fisher:
    """Return Σ_x (∇ log p(y|x))² over a batch; y is drawn at `draw` (B,) in [0, 1), or given where that is None."""
    rest = {name: value for name, value in tensors.items() if name not in wanted}
    batch = replace(batch, relevant=None)  # labels are drawn one at a time

    def log_likelihood(chosen: Tensors, row: dict[str, Tensor]) -> Tensor:
        inputs = {name: value[None] for name, value in row.items() if name in batch.inputs}
        allowed = row["allowed"][None] if batch.allowed is not None else None
        one = replace(batch, ids=("",), inputs=inputs, target=row["target"][None], allowed=allowed)
        scores = place.scores({**rest, **chosen}, one)[0]
        label = row["target"]
        if draw is not None:
            label = (scores.detach().double().exp().cumsum(-1) < row["draw"]).sum().clamp(max=len(scores) - 1)
        return scores.gather(0, label[None])[0]

    rows = {**batch.inputs, "target": batch.target}
    if batch.allowed is not None:
        rows["allowed"] = batch.allowed
    if draw is not None:
        rows["draw"] = draw
    if not place.backbone.vectorises:
        return _looped(log_likelihood, {name: tensors[name] for name in wanted}, rows)
    gradients: Callable[..., dict[str, Tensor]] = vmap(grad(log_likelihood), in_dims=(None, 0))
    with sdpa_kernel(SDPBackend.MATH):  # the fused attention kernels have no batching rule and would loop
        each = gradients({name: tensors[name] for name in wanted}, rows)
    return {name: value.square().sum(0) for name, value in each.items()}


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
