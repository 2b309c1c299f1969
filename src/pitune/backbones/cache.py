"""What is frozen, made once: features on disk by the weights and content they were made of, and states in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Features = NDArray[np.float16]


class Kept:
    """Tensors in memory by key, forgotten all at once where they would take more than `room` bytes."""

    def __init__(self, room: int = 1 << 29) -> None:
        self._room = self._left = room
        self._kept: dict[Hashable, Mapping[str, Tensor]] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    @property
    def nbytes(self) -> int:
        """How much memory what is kept takes."""
        return sum(value.nbytes for one in self._kept.values() for value in one.values())

    def get(self, key: Hashable, make: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """Return what is kept under a key, made where it is not there."""
        if key not in self._kept:
            made = make()
            size = sum(value.nbytes for value in made.values())
            if size > self._left:
                self._kept.clear()
                self._left = self._room
            self._left -= size
            self._kept[key] = made
        return self._kept[key]


class FeatureCache:
    """Fixed-shape float16 arrays by content key, in one SQLite file that several processes may share."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self._shape = shape
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._base = _opened(path)
        except (OSError, sqlite3.OperationalError):  # a disk that is full or may only be read: kept while this lives
            self._base = _opened(":memory:")

    def get(self, keys: Sequence[str], compute: Callable[[list[int]], Features]) -> Features:
        """Return features (len(keys), *shape); `compute` makes those of the indices that are missing."""
        known = {key: row for key in dict.fromkeys(keys) if (row := self._read(key)) is not None}
        missing = [keys.index(key) for key in dict.fromkeys(keys) if key not in known]
        if missing:
            made = compute(missing).astype(np.float16, copy=False)
            rows = [(keys[index], row.tobytes()) for index, row in zip(missing, made, strict=True)]
            with suppress(sqlite3.OperationalError), self._base:  # what cannot be kept is computed again another time
                self._base.execute("BEGIN IMMEDIATE")
                self._base.executemany("INSERT OR IGNORE INTO features VALUES (?, ?)", rows)
            known |= {keys[index]: row for index, row in zip(missing, made, strict=True)}
        return np.stack([known[key] for key in keys])

    def _read(self, key: str) -> Features | None:
        row = self._base.execute("SELECT data FROM features WHERE key = ?", (key,)).fetchone()
        return None if row is None else np.frombuffer(row[0], np.float16).reshape(self._shape)

    def close(self) -> None:
        """Close the file."""
        self._base.close()


def _opened(path: Path | str) -> sqlite3.Connection:
    base = sqlite3.connect(path, timeout=60, isolation_level=None)
    base.execute("PRAGMA journal_mode=WAL")
    base.execute("PRAGMA synchronous=NORMAL")
    base.execute("CREATE TABLE IF NOT EXISTS features (key TEXT PRIMARY KEY, data BLOB) WITHOUT ROWID")
    return base
