"""Options in groups: where a command takes a frozen dataclass, its command line takes the fields of it.

A group is declared once and taken by every command that has these options:

    @dataclass(frozen=True)
    class Labels:
        shots: Annotated[int | None, typer.Option(help="Examples per class.")] = None

    def fit(task: TaskName, *, labels: Labels) -> None: ...     # pitune fit TASK --shots N

Groups are dataclasses and no pydantic models because `pitune --help` declares all of them, and would take a quarter
longer with pydantic. Nothing is judged less for it: `typer` reads the words of flags, and of a YAML file's fields, into
the types that stand here and refuses unknown names; what the values may be is said once, in the pydantic models that
Python's callers fill too (`TrainingSettings`, `TuneSettings`, the plans of studies), which a group makes when asked.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from inspect import Parameter, Signature
from typing import Any, get_type_hints


def flat(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command as `typer` reads it: one parameter a flag, the fields of a group where the group stands."""
    kinds = get_type_hints(command, include_extras=True)
    taken = inspect.signature(command).parameters.values()
    flags = [flag for one in taken for flag in _flags(one.name, kinds[one.name], one.default)]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        command(**{one.name: _value(one.name, kinds[one.name], given) for one in taken})

    run.__signature__ = Signature(flags)  # type: ignore[attr-defined]  # which refuses two flags of one name
    run.__annotations__ = {flag.name: flag.annotation for flag in flags}
    return run


def _flags(name: str, kind: Any, default: object) -> Iterator[Parameter]:
    """Yield the parameters that stand for one of a command's: itself, or those of a group's fields in their order."""
    if not _is_group(kind):
        yield Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        return
    for field, of in _fields(kind):
        given = Parameter.empty if field.default is dataclasses.MISSING else field.default
        yield from _flags(field.name, of, given)


def _value(name: str, kind: Any, given: Mapping[str, Any]) -> Any:
    """Return what was given for one of a command's parameters: a value, or a group of them."""
    if not _is_group(kind):
        return given[name]
    return kind(**{field.name: _value(field.name, of, given) for field, of in _fields(kind)})


def _is_group(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind)


@functools.cache
def _fields(group: Any) -> list[tuple[dataclasses.Field[Any], Any]]:
    """Return the fields of a group, each with its type and what `typer` is told of it."""
    kinds = get_type_hints(group, include_extras=True)
    return [(field, kinds[field.name]) for field in dataclasses.fields(group)]
