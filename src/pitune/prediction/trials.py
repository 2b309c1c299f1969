"""Try a whole pool on a few labels: all experts on few of them, the better half on more, and so on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.func import vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from pitune.backbones import Batch, target_losses
from pitune.experts import Expert, PoolIndex, attached, check_tensors
from pitune.prediction.target import Target
from pitune.tasks import Example
from pitune.training import calibrated_losses
from pitune.training.precision import computing, quickest

Judge = Callable[[Tensor, Tensor, Tensor | None], Tensor]
_FIRST = 4  # labels that every expert is tried on
_LAST = 4  # times as many experts as are asked for are tried on all labels
_FEWEST = 16
_AT_ONCE = 128  # experts times examples


def halved(
    target: Target, index: PoolIndex, names: Sequence[str], k: int, *, judge: Judge = target_losses
) -> list[str]:
    """Return the named experts that successive halving leaves (Jamieson and Talwalkar, 2016): 4 k, and 16 at least.

    Each round doubles the labels, class by class in turn, and keeps the half whose losses by `judge` are lowest so far;
    after the last label only as many as are returned. What all experts of a small pool answer is not asked twice.
    Losses are computed in the device's quickest format, for they only leave experts that are rated exactly.
    """
    last = max(_LAST * k, _FEWEST)
    labels = _in_turn(target.support)
    left, total, seen = list(names), dict.fromkeys(names, 0.0), 0
    while len(left) > last and seen < len(labels):
        part = labels[seen : max(_FIRST, 2 * seen)]
        for name, loss in _losses(target, map(index.pool.get, left), part, judge):
            total[name] += loss
        seen += len(part)
        keep = last if seen == len(labels) else max(last, (len(left) + 1) // 2)
        left = sorted(left, key=lambda name: (total[name], name))[:keep]
    return sorted(left)


def _in_turn(examples: Sequence[Example]) -> list[Example]:
    """Return examples class by class in turn, so that the first few are of as many classes as there are."""
    of_class: dict[str, list[Example]] = defaultdict(list)
    for example in sorted(examples, key=lambda one: one.id):
        of_class[example.target].append(example)
    placed = [(i, target, one) for target, found in of_class.items() for i, one in enumerate(found)]
    return [one for _, _, one in sorted(placed, key=lambda entry: entry[:2])]


def _losses(
    target: Target, experts: Iterable[Expert], examples: Sequence[Example], judge: Judge
) -> Iterable[tuple[str, float]]:
    """Yield the summed loss of every expert, those of one kind with the same settings several at a time."""
    waiting: dict[tuple[str, str], list[Expert]] = defaultdict(list)
    for expert in experts:
        group = waiting[expert.method, repr(expert.settings)]
        group.append(expert)
        if len(group) * len(examples) >= _AT_ONCE:
            yield from _tried(target, group, examples, judge)
            group.clear()
    for group in filter(None, waiting.values()):
        yield from _tried(target, group, examples, judge)


def _tried(
    target: Target, experts: Sequence[Expert], examples: Sequence[Example], judge: Judge
) -> Iterable[tuple[str, float]]:
    first, backbone = experts[0], target.backbone
    quick = computing(quickest(backbone.device), backbone.device)
    with torch.no_grad(), attached(backbone, first.kind, first.settings) as place, quick:
        for one in experts:
            check_tensors(place.shapes, one.tensors, f"expert {one.name!r}")
        batch: Batch = backbone.prepare(examples, target.draw.task)
        if backbone.vectorises:
            stacked = {name: torch.stack([one.tensors[name] for one in experts]) for name in first.tensors}
            with sdpa_kernel(SDPBackend.MATH):  # the fused attention kernels have no batching rule and would loop
                scores = list(vmap(lambda tensors: place.scores(tensors, batch))(stacked))
        else:
            scores = [place.scores(one.tensors, batch) for one in experts]
    for expert, answered in zip(experts, scores, strict=True):
        loss = judge(answered.float(), batch.target, batch.relevant).sum()
        yield expert.name, float(loss.nan_to_num(torch.inf))  # what answers nothing is the worst


def calibrated(scores: Tensor, target: Tensor, relevant: Tensor | None) -> Tensor:
    """Return `calibrated_losses` (N,), the plain ones where one answer alone is scored."""
    return (calibrated_losses if scores.shape[1] > 1 else target_losses)(scores, target, relevant)
