"""The named tasks, and loading one by name or by path."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path

from pitune.errors import InputError
from pitune.tasks._archives import fetch
from pitune.tasks._pinned import ARCHIVES
from pitune.tasks._source import Source, load
from pitune.tasks._task import Task
from pitune.tasks.formats import folder, table
from pitune.tasks.sources import (
    digits,
    easy_vqa,
    emoji,
    fashion,
    openclipart,
    sentiment,
    spam,
    textile,
    tuxpaint,
    wordnet,
)

SOURCES: tuple[Source, ...] = (
    *sentiment.SOURCES,
    *digits.SOURCES,
    *easy_vqa.SOURCES,
    *textile.SOURCES,
    *fashion.SOURCES,
    *emoji.SOURCES,
    *openclipart.SOURCES,
    *tuxpaint.SOURCES,
    *wordnet.SOURCES,
    *spam.SOURCES,
)


def task_names() -> tuple[str, ...]:
    """Return the names of the named tasks."""
    return tuple(source.name for source in SOURCES)


def task_source(name: str) -> Source:
    """Return what is known of a named task without loading it; raise `InputError` listing near names if unknown."""
    for source in SOURCES:
        if source.name == name:
            return source
    near = difflib.get_close_matches(name, task_names(), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known tasks are {', '.join(task_names())}"
    raise InputError(f"unknown task {name!r}: neither a named task nor a folder of images nor a CSV file; {hint}")


def load_task(name_or_path: str | Path) -> Task:
    """Return a named task, or one read from a folder of images by class or from a CSV file.

    Raises `InputError` if there is no such task or what is there cannot be used.
    """
    if isinstance(name_or_path, str) and name_or_path in task_names():
        return load(task_source(name_or_path))
    path = Path(name_or_path)
    if path.is_dir():
        return folder.load(path)
    if path.suffix.lower() == ".csv":
        return table.load(path)
    return load(task_source(str(name_or_path)))


def pull(names: Iterable[str], progress: Callable[[str], None] | None = None) -> None:
    """Download and prepare the named tasks or archives, telling `progress` of each; safe to run again.

    Raises `InputError` before anything is downloaded if a name is unknown.
    """
    wanted = list(names)
    for name in wanted:
        if name not in ARCHIVES:
            task_source(name)
    for name in wanted:
        if name in ARCHIVES:
            told = str(fetch(ARCHIVES[name]))
        else:
            task = load_task(name)
            told = ", ".join(f"{len(examples)} {split}" for split, examples in task.splits.items())
        if progress is not None:
            progress(f"{name}: {told}")
