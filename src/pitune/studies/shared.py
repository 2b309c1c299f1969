"""What all studies share: tasks and backbone loaded once a process, and one plan a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pitune.backbones import load_backbone
from pitune.errors import InputError
from pitune.files import json_bytes, write_atomic
from pitune.prediction import spread
from pitune.tasks import Example, Task, load_task
from pitune.training import Data

open_backbone = lru_cache(maxsize=1)(load_backbone)
open_task = lru_cache(maxsize=None)(load_task)


def distinct(tasks: Sequence[str]) -> dict[str, str]:
    """Return what each task is called, by how it was given; raise `InputError` if two are called the same."""
    named: dict[str, str] = {}
    for given in tasks:
        name = open_task(given).name
        if name in named.values():
            raise InputError(f"{given}: another task is called {name!r} too; name every task once")
        named[given] = name
    return named


def keep_plan(path: Path, described: Mapping[str, Any]) -> None:
    """Write down what all rows of a folder have in common; raise `InputError` if it holds another study."""
    data = json_bytes(described)
    if path.exists() and path.read_bytes() != data:
        raise InputError(f"{path}: a study with other tasks or settings is kept here; choose another --out")
    write_atomic(path, data)


def held_out(task: Task, data: Data, most: int) -> list[Example]:
    """Return validation examples that a few-shot run did not draw, spread over the part, or all where none is left."""
    drawn = {example.id for example in data.validation}
    rest = [example for example in task.examples("validation") if example.id not in drawn]
    return spread(rest or data.validation, most)
