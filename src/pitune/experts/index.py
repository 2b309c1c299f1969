"""What is known of a pool's experts without reading them again: facts, and sketches to find and to compare them by."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pitune.errors import InputError, printable
from pitune.experts.expert import Expert, digest
from pitune.experts.pool import ExpertPool
from pitune.experts.sketches import layout_of, originals, shape_of, sketch
from pitune.files import home, path_key, sha256_bytes

_BATCH = 128  # experts that are read before they are written down
_TABLE = "CREATE TABLE IF NOT EXISTS experts (name TEXT PRIMARY KEY, stamp TEXT, facts TEXT, numbers BLOB)"
_READING = "2"  # changes with what an entry is made of, so that older ones are read again
_PATIENCE = 10.0  # seconds to wait for another process
Sketch = NDArray[np.float16]


@dataclass(frozen=True)
class Entry:
    """An expert of a pool; one that cannot be read has a problem in place of its facts.

    `projection` (16,) stands for what it adds to the backbone, `sketches` (T, S) for its embeddings,
    which are comparable where their `layouts` are the same.
    """

    name: str
    problem: str | None = None
    method: str = ""
    backbone: str = ""
    base_model: str = ""
    task: str = ""
    tasks: tuple[str, ...] = ()
    shots: int | None = None
    seed: int | None = None
    metric: str = ""
    validation: float | None = None
    parameters: int = 0
    rank: int | None = None
    scale: float | None = None
    digest: str = ""
    projection: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32), repr=False)
    layouts: Mapping[str, str] = field(default_factory=dict, repr=False)
    sketches: Mapping[str, Sketch] = field(default_factory=dict, repr=False)

    @property
    def untouched(self) -> bool:
        """Whether it is known to change nothing of the backbone."""
        return self.problem is None and not self.projection.any()


@dataclass(frozen=True)
class Sketches:
    """The sketches of N embeddings: their rows by name, log₂ F (N, T, S) itself, and its shapes (N, T · S).

    `halves` (N,) are half the squared lengths of the shapes: nearest to x is the one whose shape · x − half is most.
    """

    rows: Mapping[str, int]
    logs: Tensor
    shapes: Tensor
    halves: Tensor


_FACTS = tuple(one.name for one in fields(Entry) if one.name not in ("projection", "sketches"))


class PoolIndex:
    """The entries of a pool's experts, by name in order. Opening it reads only experts that are new or have changed.

    It is kept in pitune's cache, one file a pool, never in the pool: that may be a stranger's, or not to be written to.
    An expert counts as unchanged while the names, sizes and times of its files are. What cannot be kept is made anew.
    """

    def __init__(self, pool: ExpertPool) -> None:
        self.pool = pool
        stamps = {name: _stamp(os.path.join(pool.folder, name)) for name in pool.names()}
        path = home() / "pools" / f"{path_key(pool.folder)}.sqlite"
        known = {entry.name: entry for stamp, entry in _kept(path) if stamp and stamps.get(entry.name) == stamp}
        new = [name for name in stamps if name not in known]
        for start in range(0, len(new), _BATCH):
            read = [_read(pool, name) for name in new[start : start + _BATCH]]
            known |= {entry.name: entry for entry in read}
            _keep(path, [(stamps[entry.name], entry) for entry in read if entry.problem is None])
        self._sketches: dict[tuple[str, str], Sketches] = {}
        self.entries = {name: known[name] for name in stamps}

    def originals(self, names: Sequence[str]) -> list[str]:
        """Return the names without those of copies: of experts that do the same to 1 %, the first by name stays."""
        kept = {self._original[name]: name for name in reversed(names)}
        return [name for name in names if kept[self._original[name]] == name]

    def sketches(self, by: str, layout: str) -> Sketches:
        """Return what finds like embeddings among those of one layout; it is laid out once."""
        if (by, layout) not in self._sketches:
            names = [name for name, entry in self.entries.items() if entry.layouts.get(by) == layout]
            found = [self.entries[name].sketches[by] for name in names]
            logs = torch.from_numpy(np.stack(found) if found else np.zeros((0, 0, 0), np.float16))
            shapes = shape_of(logs.float())
            rows = {name: row for row, name in enumerate(names)}
            self._sketches[by, layout] = Sketches(rows, logs, shapes, torch.linalg.vecdot(shapes, shapes) / 2)
        return self._sketches[by, layout]

    def original(self, name: str) -> str:
        """Return the first expert that does the same as this one: itself unless it is a copy."""
        return self._original[name]

    @cached_property
    def _original(self) -> dict[str, str]:
        found = {name: name for name in self.entries}
        sound = [entry for entry in self.entries.values() if entry.problem is None]
        for base in {(entry.backbone, entry.method) for entry in sound}:
            alike = [entry for entry in sound if (entry.backbone, entry.method) == base]
            first = originals(np.stack([entry.projection for entry in alike]))
            found |= {entry.name: alike[i].name for entry, i in zip(alike, first, strict=True)}
        return found


def _stamp(folder: str) -> str:
    """Return what changes whenever an expert's files do, or the way in which they are read."""
    with suppress(OSError), os.scandir(folder) as files:
        states = [(file.name, file.stat(follow_symlinks=False)) for file in files]
        told = [(name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_mode) for name, s in states]
        return f"{_READING} {hashlib.sha256(repr(sorted(told)).encode()).hexdigest()}"
    return ""


def problem_of(pool: ExpertPool, name: str) -> str | None:
    """Read an expert whole, and return why it cannot be, if it cannot."""
    return _read(pool, name).problem


def _read(pool: ExpertPool, name: str) -> Entry:
    try:
        return _entry(pool.get(name))
    except InputError as error:
        return Entry(name, str(error))
    except Exception as error:  # whatever one bad expert does, the others are known
        reason = printable((str(error).strip() or "no reason given").splitlines()[0])
        return Entry(name, f"{pool.path(name)}: cannot be read ({type(error).__name__}: {reason:.200})")


def _entry(expert: Expert) -> Entry:
    card = expert.card
    rank, scale = expert.kind.rank_and_scale(expert.settings) or (None, None)
    embeddings: dict[str, dict[str, Tensor]] = {}
    for name, value in (expert.fisher or {}).items():
        by, _, tensor = name.partition(".")
        embeddings.setdefault(by, {})[tensor] = value
    return Entry(
        name=expert.name,
        method=expert.method,
        backbone=card.backbone,
        base_model=card.base_model,
        task=card.task,
        tasks=card.tasks,
        shots=card.shots,
        seed=card.seed,
        metric=card.metric,
        validation=card.validation,
        parameters=expert.parameters,
        rank=rank,
        scale=scale,
        digest=digest(expert),
        projection=expert.kind.projection(expert.settings, expert.tensors).numpy(),
        layouts={by: layout_key(embedding) for by, embedding in embeddings.items()},
        sketches={by: sketch(embedding) for by, embedding in embeddings.items()},
    )


def layout_key(embedding: Mapping[str, Tensor]) -> str:
    """Return what embeddings that can be compared have in common: a hash of their tensors' names and shapes."""
    return sha256_bytes(repr(layout_of(embedding)).encode())[:16]


def _kept(path: Path) -> list[tuple[str, Entry]]:
    """Return what was kept with its stamps, nothing of a file that cannot be read; a damaged one is deleted."""
    try:
        if not path.is_file():
            return []
        with closing(sqlite3.connect(path, timeout=_PATIENCE)) as base:
            rows = base.execute("SELECT stamp, facts, numbers FROM experts").fetchall()
        facts = json.loads(f"[{','.join(row[1] for row in rows)}]")  # in one go, which is three times as fast
        return [(row[0], _decoded(one, shapes, row[2])) for row, (one, shapes) in zip(rows, facts, strict=True)]
    except (sqlite3.OperationalError, OSError):
        return []
    except (sqlite3.DatabaseError, ValueError, TypeError, KeyError):
        with suppress(OSError):
            path.unlink()
        return []


def _keep(path: Path, rows: Sequence[tuple[str, Entry]]) -> None:
    """Write entries down, if that is possible: what is not kept is read again."""
    with suppress(sqlite3.Error, OSError, UnicodeError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=_PATIENCE)) as base, base:
            base.execute(_TABLE)
            told = [(entry.name, stamp, *_encoded(entry)) for stamp, entry in rows]
            base.executemany("INSERT OR REPLACE INTO experts VALUES (?, ?, ?, ?)", told)


def _encoded(entry: Entry) -> tuple[str, bytes]:
    """Return an entry's facts as JSON, and its numbers."""
    facts = {name: getattr(entry, name) for name in _FACTS}
    shapes = {by: values.shape for by, values in entry.sketches.items()}
    numbers = [entry.projection.tobytes(), *(values.tobytes() for values in entry.sketches.values())]
    return json.dumps([facts, shapes]), b"".join(numbers)


def _decoded(facts: dict[str, Any], shapes: Mapping[str, tuple[int, int]], numbers: bytes) -> Entry:
    start = numbers_start = len(numbers) - sum(2 * rows * columns for rows, columns in shapes.values())
    sketches = {}
    for by, (rows, columns) in shapes.items():
        sketches[by] = np.frombuffer(numbers, np.float16, rows * columns, start).reshape(rows, columns)
        start += 2 * rows * columns
    projection = np.frombuffer(numbers[:numbers_start], np.float32)
    return Entry(**{**facts, "tasks": tuple(facts["tasks"])}, projection=projection, sketches=sketches)
