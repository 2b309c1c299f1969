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
class Rated:
    """An expert and what a score says of it."""

    expert: Expert
    score: float

    def __lt__(self, other: Rated) -> bool:
        """Return whether it comes behind another: by score, of equals by name."""
        return (self.score, other.expert.name) < (other.score, self.expert.name)


def neighbours(
    backbone: Backbone,
    draw: Draw,
    pool: ExpertPool,
    *,
    k: int,
    by: str = "probe",
    method: str | None = None,
    among: Sequence[str] | None = None,
) -> Neighbours:
    """Return the k experts of a pool (of one kind, if given) that a score rates highest; of equals the first by name.

    Experts of the same task are passed over, and so are copies: experts that do what another does to 1 %, of which the
    first by name counts. With `among`, only these are rated, which are taken as `rateable` says. Raise `InputError` if
    none is left, or one cannot be read or is of another backbone.
    """
    if k < 1:
        raise InputError(f"k is {k}; expected 1 or more neighbours")
    target, index = Target(backbone, draw), PoolIndex(pool)
    best = rated(target, index, _rateable(target, index, method) if among is None else among, k, by)
    if not best:
        raise InputError(f"score {by!r} says nothing of task {draw.task.name!r} and any expert; choose another --by")
    return Neighbours(target, tuple(one.expert for one in best), tuple(one.score for one in best))


def rateable(backbone: Backbone, draw: Draw, pool: ExpertPool, method: str | None = None) -> list[str]:
    """Return the experts of a pool that `neighbours` rates, by name; raise `InputError` as it does."""
    return _rateable(Target(backbone, draw), PoolIndex(pool), method)


def rated(target: Target, index: PoolIndex, names: Sequence[str], k: int, by: str) -> list[Rated]:
    """Return the k of some experts that a score rates highest, best first, of which fewer may be what it applies to."""
    score = SCORES.get(by)
    if score.shortlist is not None:
        names = score.shortlist(target, index, names, k)
    best: list[Rated] = []
    for expert in map(index.pool.get, names):
        if not score.applies(target, expert):
            continue
        one = Rated(expert, score.rate(target, expert))
        if len(best) < k:
            heapq.heappush(best, one)
        else:
            heapq.heappushpop(best, one)
    return sorted(best, reverse=True)


def _rateable(target: Target, index: PoolIndex, method: str | None) -> list[str]:
    return index.originals(_others(target.backbone, target.draw, index, method))


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
