"""The named tasks, and loading one by name or by path."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pitune.errors import InputError
from pitune.pocket.archives import fetch
from pitune.pocket.collections import COLLECTIONS as COLLECTIONS
from pitune.pocket.pinned import ARCHIVES
from pitune.pocket.source import Source, load
from pitune.pocket.sources import (
    digits,
    easy_vqa,
    emoji,
    fashion,
    image_text,
    openclipart,
    sentiment,
    spam,
    textile,
    tuxpaint,
    wordnet,
)
from pitune.tasks.declared import declared_names, declared_source
from pitune.tasks.formats import declaration, hub
from pitune.tasks.formats.labelled import build_task
from pitune.tasks.formats.reading import Found, Options, Reading, Tell
from pitune.tasks.formats.registry import read_path
from pitune.tasks.task import Task

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
    *image_text.SOURCES,
)


def expand(names: Iterable[str]) -> list[str]:
    """Return task names with every collection, such as `pocket-20`, replaced by its members; each name once."""
    return list(dict.fromkeys(one for name in names for one in COLLECTIONS.get(name, (name,))))


def task_names() -> tuple[str, ...]:
    """Return the names of the named tasks."""
    return tuple(source.name for source in SOURCES)


def task_source(name: str) -> Source:
    """Return what is known of a named task without loading it; raise `InputError` listing near names if unknown."""
    for source in SOURCES:
        if source.name == name:
            return source
    known = (*task_names(), *declared_names())
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known tasks are {', '.join(task_names())}"
    raise InputError(f"unknown task {name!r}: neither a named task nor a file or folder of data; {hint}")


def load_task(name_or_path: str | Path, columns: Mapping[str, str] | None = None, tell: Tell | None = None) -> Task:
    """Return a named or declared task, `hf:OWNER/NAME`, or one read from a file or folder in any known format.

    `columns` names a table's columns by role, such as `{"label": "stars"}`; `tell` hears what was guessed.
    Raises `InputError` if there is no such task or what is there cannot be used.
    """
    options = _options(columns, tell)
    name = str(name_or_path)
    if isinstance(name_or_path, str) and name in task_names():
        return load(task_source(name))
    if isinstance(name_or_path, str) and name in declared_names():
        return declaration.declared_task(*declared_source(name), options)
    path = Path(name_or_path)
    if declaration.recognises(path):
        return declaration.declared_task(declaration.read_declaration(path), path.parent, options)
    return build_task(_read(name, path, options))


def read_task(name_or_path: str | Path, columns: Mapping[str, str] | None = None, tell: Tell | None = None) -> Reading:
    """Return what is at a path, or of a named task, entry by entry, before any of it is checked."""
    options = _options(columns, tell)
    name = str(name_or_path)
    if name in task_names():
        return _as_reading(load(task_source(name)))
    if name in declared_names():
        return declaration.declared_reading(*declared_source(name), options)
    path = Path(name_or_path)
    if declaration.recognises(path):
        return declaration.declared_reading(declaration.read_declaration(path), path.parent, options)
    return _read(name, path, options)


def _options(columns: Mapping[str, str] | None, tell: Tell | None) -> Options:
    return Options(dict(columns or {}), tell or (lambda _: None))


def _read(name: str, path: Path, options: Options) -> Reading:
    if name.startswith(hub.PREFIX):
        return hub.read_hub(name, options)
    if not path.exists() and not path.suffix:
        task_source(name)
    return read_path(path, options)


def _as_reading(task: Task) -> Reading:
    items = (Found(example.id, example, split) for split, found in task.splits.items() for example in found)
    return Reading(
        Path(task.name),
        task.name,
        items,
        task.answers,
        balanced=task.balanced,
        metric=task.metric,
        provenance=task.provenance,
    )


def pull(names: Iterable[str], progress: Callable[[str], None] | None = None) -> None:
    """Download and prepare the named tasks, collections or archives, telling `progress` of each; safe to run again.

    Raises `InputError` before anything is downloaded if a name is unknown.
    """
    wanted = expand(names)
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
