"""The named tasks of all libraries, and loading one by name or by path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

from pydantic import ValidationError

from pitune.errors import InputError, first_problem
from pitune.registry import unknown
from pitune.tasks.formats import declaration, hub
from pitune.tasks.formats.labelled import build_task
from pitune.tasks.formats.parsing import regular_file
from pitune.tasks.formats.reading import CONFLICTS, Conflicts, Options, Reading, Tell, read_templates
from pitune.tasks.formats.registry import read_path
from pitune.tasks.formats.unpack import as_members, naming_members
from pitune.tasks.learning import Weights, capped, limited, weighted
from pitune.tasks.library import LIBRARIES, Facts, Library
from pitune.tasks.task import Task

_PARTS = ("validation", "test")
_FILES = (*_PARTS, "classes")


class OwnData(TypedDict, total=False):
    """What may be said of one's own data beside where it is; a YAML task has the same fields, which these replace.

    `validation` and `test` are files or folders of their own for these parts, beside what holds the training data.
    `classes` are the answers in order, the name of each label, or a file with either (`read_names`). `unlabelled` are
    labels that mean none. `label_separator` stands between several labels in one cell of a table. `cap` is how many
    examples of a class to learn from at most, and `weights` how much each counts in training's loss, or `balanced` by
    how rare they are; these two hold for named tasks too.
    """

    validation: str | Path
    test: str | Path
    classes: str | Path | Sequence[str] | Mapping[str, str]
    unlabelled: Sequence[str]
    label_separator: str
    cap: int
    weights: Weights


def libraries() -> list[Library]:
    """Return all libraries of named tasks, those that fetch their data first."""
    return sorted(LIBRARIES.all(), key=lambda library: not library.fetches)


def library_of(name: str | Path) -> Library | None:
    """Return the library that has a task of this name, or None."""
    return next((library for library in libraries() if name in library.names()), None)


def task_collections() -> dict[str, tuple[str, ...]]:
    """Return the named collections, each with the names of its tasks."""
    return {name: tasks for library in libraries() for name, tasks in library.collections.items()}


def expand(names: Iterable[str]) -> list[str]:
    """Return task names with every collection replaced by its members; each name once."""
    known = task_collections()
    return list(dict.fromkeys(one for name in names for one in known.get(name, (name,))))


def task_names() -> tuple[str, ...]:
    """Return the names of the named tasks."""
    return tuple(name for library in libraries() for name in library.names())


def task_facts(name: str) -> Facts:
    """Return what is known of a named task without loading it; raise `InputError` listing near names if unknown."""
    library = library_of(name)
    if library is None:
        raise _unknown(name)
    return library.facts(name)


def load_task(
    name_or_path: str | Path,
    columns: Mapping[str, str] | None = None,
    tell: Tell | None = None,
    *,
    conflicts: Conflicts = "refuse",
    limit: int | None = None,
    templates: str | Sequence[str] = (),
    **own: Unpack[OwnData],
) -> Task:
    """Return a named task, `hf:OWNER/NAME`, or one declared in or read from a file or folder in any known format.

    `columns` names a table's columns by role, such as `{"label": "stars"}`; `tell` hears what was guessed, doubtful
    or left out. `conflicts` says what becomes of one input with two labels or in two parts; `limit` is how many
    examples of a part to take at most, evenly from its classes. `templates` are what answers are matched as, such as
    "a photo of a {}.", in place of the task's own; several make an ensemble. `own` says the rest of one's own data
    (`OwnData`).
    Raises `InputError` if there is no such task or what is there cannot be used.
    """
    if conflicts not in CONFLICTS:
        raise InputError(f"conflicts is {conflicts!r}; expected one of: {', '.join(CONFLICTS)}")
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; expected 1 or more")
    options = replace(options_of(columns, tell), conflicts=conflicts, limit=limit, templates=read_templates(templates))
    with naming_members():
        return _load(str(name_or_path), options, own)


def _load(name: str, options: Options, own: OwnData) -> Task:
    library = library_of(name)
    if library is not None:
        _check_named(name, own)
        task = library.load(name, options)
        first, *more = options.templates or task.answer_templates
        task = replace(task, answer_template=first, more_templates=tuple(more))
        task = limited(task, options.limit) if options.limit else task
        task = capped(task, own["cap"]) if "cap" in own else task
        return weighted(task, own["weights"]) if "weights" in own else task
    if (declared := _declared(name, own)) is not None:
        return declaration.declared_task(*declared, options)
    return build_task(_read(name, options), options)


def read_task(
    name_or_path: str | Path,
    columns: Mapping[str, str] | None = None,
    tell: Tell | None = None,
    *,
    templates: str | Sequence[str] = (),
    **own: Unpack[OwnData],
) -> Reading:
    """Return what is at a path, or of a named task, entry by entry, before any of it is checked."""
    with naming_members():
        reading = _reading(str(name_or_path), options_of(columns, tell), own)
    return replace(reading, templates=read_templates(templates) or reading.templates)


def _reading(name: str, options: Options, own: OwnData) -> Reading:
    library = library_of(name)
    if library is not None:
        _check_named(name, own)
        return library.read(name, options)
    if (declared := _declared(name, own)) is not None:
        return declaration.declared_reading(*declared, options)
    return _read(name, options)


def _check_named(name: str, own: OwnData) -> None:
    if foreign := own.keys() - {"cap", "weights"}:
        flag = min(foreign).replace("_", "-")
        raise InputError(f"task {name!r}: is a named one, whose data is as it is; leave out --{flag}")


def _declared(name: str, own: OwnData) -> tuple[declaration.Declaration, Path] | None:
    """Return what a YAML file declares, or what is said of a path, with the folder that its paths start from.

    None where nothing is said but the path.
    """
    path = Path(name)
    written = declaration.read_declaration(path) if declaration.recognises(path) else None
    if not own:
        return None if written is None else (written, path.parent)
    fields: dict[str, Any] = {
        key: str(Path(value).absolute()) if key in _FILES and isinstance(value, str | Path) else value
        for key, value in own.items()
    }
    parts = {part: fields.pop(part) for part in _PARTS if part in fields}
    known = {} if written is None else written.model_dump(exclude_unset=True)
    source = known.get("source") if written else name
    if parts:
        source = {**(source if isinstance(source, dict) else {"train": source}), **parts}
    try:
        said = declaration.Declaration.model_validate({**known, **fields, "source": source})
    except ValidationError as error:
        raise InputError(f"{path}: {first_problem(error)}") from error
    return said, Path() if written is None else path.parent


def options_of(columns: Mapping[str, str] | None, tell: Tell | None) -> Options:
    """Return how to read a table's columns, and whom to tell what was guessed."""
    return Options(dict(columns or {}), (lambda text: tell(as_members(text))) if tell else (lambda _: None))


def _read(name: str, options: Options) -> Reading:
    if name.startswith(hub.PREFIX):
        return hub.read_hub(name, options)
    if not name.strip():
        raise InputError("the task has no name; expected a named one, or a file or folder of data")
    path = regular_file(Path(name))
    if not path.exists() and not path.suffix:
        raise _unknown(name)
    return read_path(path, options)


def pull(names: Iterable[str], progress: Callable[[str], None] | None = None) -> None:
    """Download and prepare the named tasks, collections or archives, telling `progress` of each; safe to run again.

    Raises `InputError` before anything is downloaded if a name is unknown.
    """
    known = {name: library for library in reversed(libraries()) for name in (*library.names(), *library.archives())}
    wanted = expand(names)
    for name in wanted:
        if name not in known:
            raise _unknown(name, known)
    for name in wanted:
        found = known[name].pull(name)
        if progress is not None:
            progress(f"{name}: {found}")


def _unknown(name: str, known: Iterable[str] | None = None) -> InputError:
    names = task_names() if known is None else known
    why, shown_by = "neither a named task nor a file or folder of data", "pitune tasks list"
    return unknown("task", name, names, why=why, shown_by=shown_by)
