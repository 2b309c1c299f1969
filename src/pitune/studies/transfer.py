"""N × N transfer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pitune.errors import InputError


def read_transfer(path: Path, names: Sequence[str]) -> NDArray[np.float64]:
    """Return the measured transfer (N, N) between tasks out of a study's `results.json`, by validation data.

    Raise `InputError` if the file is no such study, or lacks a task or a pair.
    """
    try:
        found = json.loads(path.read_bytes())
        tasks, matrix = list(found["tasks"]), found["transfer"]["validation"]["adapted"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is not the results.json of `pitune study transfer` ({error!r})") from error
    for name in names:
        if name not in tasks:
            raise InputError(f"{path}: has no task {name!r}; it has: {', '.join(tasks)}")
    order = [tasks.index(name) for name in names]
    chosen = [[1.0 if i == j else matrix[i][j] for j in order] for i in order]
    for i, row in enumerate(chosen):
        for j, value in enumerate(row):
            if value is None:
                raise InputError(f"{path}: has no transfer from {names[i]!r} to {names[j]!r}; let the study finish")
    return np.asarray(chosen, dtype=np.float64)
