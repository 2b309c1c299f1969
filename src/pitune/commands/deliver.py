"""Where a finished expert goes: a folder, a pool, or where its run keeps it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pitune.commands.runs import Run
from pitune.commands.set_up import check_out, check_writable
from pitune.errors import InputError

if TYPE_CHECKING:
    from pitune.experts import Expert


def check_delivery(name: str, out: Path | None, pool: Path | None, run: Run) -> None:
    """Raise `InputError` before anything is trained if the result could not be kept.

    A name that the pool has already is right only where the run ended before, so that it may be that very expert.
    """
    from pitune.experts import ExpertPool, check_name

    check_name(name)
    if out is not None:
        check_out(out)
    if pool is not None:
        check_writable(pool)
        taken = ExpertPool(pool).path(name)
        if taken.exists() and not run.ended:
            raise InputError(f"{taken}: the pool has an expert of this name; choose another with --name or remove it")


def deliver(expert: Expert, name: str, out: Path | None, pool: Path | None, run: Run) -> list[Path]:
    """Save an expert under a name wherever it was asked for; return the folders that hold it."""
    from pitune.experts import ExpertPool, digest

    named = replace(expert, card=expert.card.model_copy(update={"name": name}))
    folders = []
    if pool is not None:
        kept = ExpertPool(pool)
        if name not in kept or digest(kept.get(name)) != digest(named):
            kept.add(named)
        folders.append(kept.path(name))
    if out is not None:
        named.save(out)
        folders.append(out)
    return folders or [run.expert]
