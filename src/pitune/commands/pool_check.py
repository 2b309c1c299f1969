"""`pitune pool check`: what is in a pool of strangers' experts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pitune.commands import options
from pitune.commands.output import report, table
from pitune.commands.set_up import open_pool, quieten
from pitune.errors import InputError

if TYPE_CHECKING:
    from pitune.experts import Entry, PoolIndex


@dataclass(frozen=True)
class Checked:
    """What is told of an expert; `fault` is why it should be looked at, and `copy_of` an expert that does the same."""

    name: str
    base: str | None = None
    method: str | None = None
    rank: int | None = None
    scale: float | None = None
    embedded: tuple[str, ...] = ()
    copy_of: str | None = None
    changes_nothing: bool = False
    fault: str | None = None


@dataclass(frozen=True)
class PoolChecked:
    """What `pitune pool check` tells; `redundancy` is the share of experts that can be read and are copies."""

    pool: str
    experts: list[Checked]
    bases: dict[str, int]
    kinds: dict[str, int]
    faults: int
    redundancy: float


_COLUMNS = ("expert", "base", "kind", "rank", "scale", "embedded by", "fault")


def check(pool: options.PoolFolder, common: options.Common) -> None:
    """Say what is in a pool: bases, kinds, ranks, scales, copies, experts that change nothing or cannot be read."""
    quieten()
    from pitune.experts import PoolIndex

    index = PoolIndex(open_pool(pool))
    sound = [entry for entry in index.entries.values() if entry.problem is None]
    usual = Counter(entry.backbone for entry in sound).most_common(1)
    experts = [_checked(index, entry, usual[0][0] if usual else "") for entry in index.entries.values()]
    faults = [one for one in experts if one.fault]
    copies = sum(one.copy_of is not None for one in experts)
    told = PoolChecked(
        pool=str(pool),
        experts=experts,
        bases=dict(Counter(entry.base_model for entry in sound)),
        kinds=dict(Counter(entry.method for entry in sound)),
        faults=len(faults),
        redundancy=copies / len(sound) if sound else 0.0,
    )
    rows = [(e.name, e.base, e.method, e.rank, e.scale, ", ".join(e.embedded), e.fault) for e in experts]
    summary = f"{len(experts)} experts; {told.redundancy:.0%} of those that can be read are copies"
    report(common.as_json, told, [table(_COLUMNS, rows), summary])
    if faults:
        first = f"{faults[0].name}: {faults[0].fault}"
        raise InputError(f"{pool}: {len(faults)} of {len(experts)} experts have a fault; the first: {first}")


def _checked(index: PoolIndex, entry: Entry, usual: str) -> Checked:
    from pitune.backbones import brief

    if entry.problem is not None:
        return Checked(entry.name, fault=entry.problem)
    original = index.original(entry.name)
    nothing, copy = not entry.projection.any(), original != entry.name
    faults = [
        f"is for another backbone than most ({brief(entry.backbone)})" if entry.backbone != usual else "",
        "changes nothing (ΔW = 0)" if nothing else "",
        f"does the same as {original}" if copy and not nothing else "",
    ]
    return Checked(
        name=entry.name,
        base=entry.base_model,
        method=entry.method,
        rank=entry.rank,
        scale=entry.scale,
        embedded=tuple(entry.sketches),
        copy_of=original if copy else None,
        changes_nothing=nothing,
        fault="; ".join(filter(None, faults)) or None,
    )
