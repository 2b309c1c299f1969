"""Results as rows on disk, each written as soon as it is known, so that a study goes on where it stopped."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch
from filelock import FileLock
from pydantic import ValidationError

from pitune.backbones import Backbone
from pitune.errors import InputError, first_problem
from pitune.studies.results import Environment, Key, Row


class Measured(NamedTuple):
    """A metric, its value, of how many examples, and more that `Row` holds, None where it does not apply."""

    metric: str
    value: float
    n: int
    untouched: bool | None = None
    chance: float | None = None
    claimed: float | None = None


Measures = dict[Key, Callable[[], Measured]]  # what is to be measured, and how


class Rows:
    """A JSONL file of rows; several processes may append."""

    def __init__(self, path: Path) -> None:
        """Read what is there; a last line cut short is dropped, any other damage is an `InputError`."""
        self.path = path
        self._rows = {row.key: row for row in _read(path)}

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __getitem__(self, key: Key) -> Row:
        return self._rows[key]

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def measure(self, key: Key, run: Callable[[], Measured]) -> Row:
        """Return the row of a measurement, from the file or by running it."""
        if key not in self._rows:
            started = time.perf_counter()
            found = run()
            told = {"untouched": found.untouched, "chance": found.chance, "claimed": found.claimed}
            known = {"metric": found.metric, "value": found.value, "n": found.n}
            known |= {name: value for name, value in told.items() if value is not None}
            seconds = round(time.perf_counter() - started, 2)
            task, method, shots, seed = key
            self.add(Row(task=task, method=method, shots=shots, seed=seed, seconds=seconds, **known))
        return self._rows[key]

    def add(self, row: Row) -> None:
        """Append a row and flush it to disk."""
        self._rows[row.key] = row
        with _locked(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(row.model_dump_json(exclude_unset=True) + "\n")
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
    whole, _, cut = path.read_bytes().rpartition(b"\n")
    if cut:  # the process was stopped within a line
        with _locked(path):
            os.truncate(path, len(whole) + (1 if whole else 0))
    rows = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            rows.append(Row.model_validate_json(line))
        except ValidationError as error:
            what = first_problem(error)
            raise InputError(f"{path}: line {number} is not a row of a study ({what}); mend or delete it") from error
    return rows


def environment(backbone: Backbone) -> Environment:
    """Return what results depend on besides the code's inputs."""
    return Environment(
        python=platform.python_version(),
        torch=version("torch"),
        transformers=version("transformers"),
        peft=version("peft"),
        pitune=version("pitune"),
        threads=torch.get_num_threads(),
        device=str(backbone.device),
        backbone=backbone.name,
        fingerprint=backbone.fingerprint,
    )
