"""Which experts of a pool serve a target best, by any score."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts import Expert, ExpertPool, PoolIndex
from pitune.prediction.scores import SCORES
from pitune.prediction.target import Target
from pitune.tasks import Draw
from pitune.training import check_backbone


@dataclass(frozen=True)
class Neighbours:
    """A target's best experts with their scores, best first."""

    target: Target
    experts: tuple[Expert, ...]
    scores: tuple[float, ...]

    @property
    def pairs(self) -> list[tuple[str, float]]:
        """Names and scores."""
        return [(expert.name, score) for expert, score in zip(self.experts, self.scores, strict=True)]


@dataclass(frozen=True)
class _Ranked:
    expert: Expert
    score: float

    def __lt__(self, other: _Ranked) -> bool:
        """Return whether it comes behind another: by score, of equals by name."""
        return (self.score, other.expert.name) < (other.score, self.expert.name)


def neighbours(
    backbone: Backbone, draw: Draw, pool: ExpertPool, *, k: int, by: str = "probe", method: str | None = None
) -> Neighbours:
    """Return the k experts of a pool (of one kind, if given) that a score rates highest; of equals the first by name.

    Experts of the same task are passed over, and so are copies: experts that do what another does to 1 %, of which the
    first by name counts. Raise `InputError` if none is left, or one cannot be read or is of another backbone.
    """
    if k < 1:
        raise InputError(f"k is {k}; expected 1 or more neighbours")
    score = SCORES.get(by)
    target = Target(backbone, draw)
    index = PoolIndex(pool)
    names: Sequence[str] = index.originals(_others(backbone, draw, index, method))
    if score.shortlist is not None:
        names = score.shortlist(target, index, names, k)
    best: list[_Ranked] = []
    for expert in map(pool.get, names):
        if not score.applies(target, expert):
            continue
        one = _Ranked(expert, score.rate(target, expert))
        if len(best) < k:
            heapq.heappush(best, one)
        else:
            heapq.heappushpop(best, one)
    if not best:
        raise InputError(f"score {by!r} says nothing of task {draw.task.name!r} and any expert; choose another --by")
    ordered = sorted(best, reverse=True)
    return Neighbours(target, tuple(one.expert for one in ordered), tuple(one.score for one in ordered))


def _others(backbone: Backbone, draw: Draw, index: PoolIndex, method: str | None) -> list[str]:
    """Return the experts of other tasks, of one kind if given; raise `InputError` if there is none."""
    others = [entry for entry in index.entries.values() if draw.task.name not in entry.tasks]
    if bad := [entry.problem for entry in others if entry.problem]:
        raise InputError(bad[0])
    if not others:
        raise InputError(
            f"{index.pool.folder}: has no expert of another task than {draw.task.name!r}; train some with `pitune fit`"
        )
    chosen = [entry for entry in others if method in (None, entry.method)]
    if not chosen:
        has = ", ".join(sorted({entry.method for entry in others}))
        found = f"has no {method} expert of another task; it has {has}, choose with --method"
        raise InputError(f"{index.pool.folder}: {found}")
    for entry in chosen:
        if entry.backbone != backbone.fingerprint:
            check_backbone(index.pool.get(entry.name), backbone)
    return [entry.name for entry in chosen]
