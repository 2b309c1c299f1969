"""A pool's experts rated side by side: each worker has a part of them, and the best of all parts meet in the end."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pitune.backbones import Backbone
from pitune.experts import ExpertPool, PoolIndex
from pitune.files import home, json_bytes, write_atomic
from pitune.prediction import SCORES, Neighbours, Target, neighbours, rateable, rated
from pitune.studies.workers import Spread, run_jobs
from pitune.tasks import Draw

Opened = Callable[[], tuple[Backbone, Draw]]


@dataclass(frozen=True)
class Search:
    """What a worker is told; `open` gives it the backbone and the target's labels, and must be picklable."""

    open: Opened
    pool: Path
    k: int
    by: str


def search_pool(search: Search, spread: Spread, *, method: str | None = None, progress: bool = False) -> Neighbours:
    """Return what `neighbours` does, the experts dealt out to the workers and the best of each rated once more.

    Where a score tries a pool by halves, each part is halved by itself, so that more come to be tried on all labels.
    Raise `InputError` as `neighbours` does.
    """
    SCORES.get(search.by)
    backbone, draw = _open(search.open)
    pool = ExpertPool(search.pool, create=False)
    if spread.workers == 1 and spread.ray is None:
        return neighbours(backbone, draw, pool, k=search.k, by=search.by, method=method)
    names = rateable(backbone, draw, pool, method)
    parts = [names[i :: spread.workers] for i in range(spread.workers)]
    (home() / "searches").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home() / "searches") as folder:
        jobs = [(Path(folder) / f"{i}.json", tuple(part)) for i, part in enumerate(parts) if part]
        run_jobs(partial(_rate, search), jobs, spread, f"experts by {search.by}" if progress else "")
        best = sorted(name for path, _ in jobs for name in json.loads(path.read_bytes())["best"])
    return neighbours(backbone, draw, pool, k=search.k, by=search.by, method=method, among=best)


_KEPT: list[tuple[Opened, tuple[Backbone, Draw]]] = []  # the last that this process has opened


def _open(given: Opened) -> tuple[Backbone, Draw]:
    """Open a backbone and labels, for the jobs that this process does too."""
    _KEPT[:] = [(given, given())]
    return _KEPT[0][1]


def _rate(search: Search, job: tuple[Path, tuple[str, ...]]) -> None:
    """Write down the best of a part, by name."""
    path, names = job
    index = PoolIndex(ExpertPool(search.pool, create=False))
    kept = _KEPT[0][1] if _KEPT and _KEPT[0][0] == search.open else _open(search.open)
    best = rated(Target(*kept), index, names, search.k, search.by)
    write_atomic(path, json_bytes({"best": [one.expert.name for one in best]}))
