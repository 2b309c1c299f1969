"""Results as rows on disk, each written as soon as it is known, so that a study goes on where it stopped."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from pitune.backbones import Backbone
from pitune.errors import InputError


class Row(BaseModel):
    """One measured value: a method on the test part of a task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    method: str
    shots: int | None
    seed: int
    metric: str
    value: float
    n: int
    seconds: float

    @property
    def key(self) -> tuple[str, str, int | None, int]:
        """What the row measures."""
        return self.task, self.method, self.shots, self.seed


class Rows:
    """A JSONL file of rows; several processes may append."""

    def __init__(self, path: Path) -> None:
        """Read what is there; a last line cut short is dropped, any other damage is an `InputError`."""
        self.path = path
        self._rows = {row.key: row for row in _read(path)}

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __getitem__(self, key: tuple[str, str, int | None, int]) -> Row:
        return self._rows[key]

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def measure(
        self, task: str, method: str, shots: int | None, seed: int, run: Callable[[], tuple[str, float, int]]
    ) -> Row:
        """Return the row of a measurement, from the file or by running it: `run` gives (metric, value, n)."""
        key = (task, method, shots, seed)
        if key not in self._rows:
            started = time.perf_counter()
            metric, value, n = run()
            seconds = round(time.perf_counter() - started, 2)
            self.add(
                Row(task=task, method=method, shots=shots, seed=seed, metric=metric, value=value, n=n, seconds=seconds)
            )
        return self._rows[key]

    def add(self, row: Row) -> None:
        """Append a row and flush it to disk."""
        self._rows[row.key] = row
        with _locked(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(row.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        yield


def _read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole, _, cut = text.rpartition("\n")
    if cut:  # the process was stopped within a line
        with _locked(path):
            os.truncate(path, len(whole.encode()) + (1 if whole else 0))
    rows = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            rows.append(Row.model_validate_json(line))
        except ValidationError as error:
            raise InputError(f"{path}: line {number} is not a row of a study; mend or delete the file") from error
    return rows


def environment(backbone: Backbone) -> dict[str, Any]:
    """Return what results depend on besides the code's inputs."""
    packages = {name: version(name) for name in ("torch", "transformers", "peft", "pitune")}
    return {
        "python": platform.python_version(),
        **packages,
        "threads": torch.get_num_threads(),
        "device": str(backbone.device),
        "backbone": backbone.name,
        "fingerprint": backbone.fingerprint,
    }
