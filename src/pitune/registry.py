"""Things by name: those of this package, those that installed packages add, and those that a program registers."""

from __future__ import annotations

import difflib
import pickle
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from pitune.errors import InputError

T = TypeVar("T")
_OWN = "pitune"
_ALL: WeakSet[Registry[Any]] = WeakSet()
_LATER: dict[str, dict[str, Any]] = {}  # what a worker process was given for registries not imported yet, by group


class Registry(Generic[T]):
    """Things of one kind by name, each imported when it is first asked for.

    `known` maps the names of this package's own to `module:attribute`. Other packages add theirs as entry points of
    `group`; a program adds its own with `register`. A name of this package is never replaced.
    """

    def __init__(self, what: str, *, group: str, known: Mapping[str, str] | None = None) -> None:
        """Make a registry; `what` is the word for one of its things in messages, such as `metric`."""
        self.what, self.group = what, group
        self._known = dict(known or {})
        self._given: dict[str, T] = _LATER.pop(group, {})
        self._loaded: dict[str, T] = {}
        self._points: dict[str, EntryPoint] | None = None
        _ALL.add(self)

    def register(self, name: str, value: T) -> None:
        """Add a thing for as long as this process runs; raise `InputError` if the name is another's already."""
        taken = name in self._known or name in self._installed()
        if taken or self._given.setdefault(name, value) is not value:
            raise InputError(f"a {self.what} named {name!r} is registered already; choose another name")

    def forget(self, name: str) -> None:
        """Take back what this program has registered under a name, if it has."""
        self._given.pop(name, None)

    def get(self, name: str) -> T:
        """Return the thing of this name; raise `InputError` that lists near names if there is none."""
        if name in self._given:
            return self._given[name]
        if name not in self._loaded:
            if name in self._known:
                module, _, attribute = self._known[name].partition(":")
                self._loaded[name] = getattr(import_module(module), attribute)
            elif name in self._installed():
                self._loaded[name] = self._load(self._installed()[name])
            else:
                raise unknown(self.what, name, self.names())
        return self._loaded[name]

    def names(self) -> tuple[str, ...]:
        """Return all names: this package's own first, then those of other packages, then those registered here."""
        return tuple(dict.fromkeys((*self._known, *self._installed(), *self._given)))

    def all(self) -> tuple[T, ...]:
        """Return all things, in the order of their names."""
        return tuple(self.get(name) for name in self.names())

    def package(self, name: str) -> str:
        """Return the installed package that adds a name; empty for this package's own and for what a program added."""
        point = None if name in self._known or name in self._given else self._installed().get(name)
        found = point.dist.name if point is not None and point.dist is not None else ""
        return "" if found == _OWN else found

    def given(self) -> dict[str, T]:
        """Return what this program has registered."""
        return dict(self._given)

    def _installed(self) -> dict[str, EntryPoint]:
        if self._points is None:
            self._points = {}
            for point in sorted(entry_points(group=self.group), key=lambda one: (one.name, one.value)):
                self._points.setdefault(point.name, point)
        return self._points

    def _load(self, point: EntryPoint) -> T:
        try:
            found: T = point.load()
        except Exception as error:  # whatever another package's module raises while it is imported
            package = point.dist.name if point.dist else point.value
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise InputError(
                f"{self.what} {point.name!r} of the package {package} cannot be imported ({reason}); "
                "update that package or remove it"
            ) from error
        return found


def unknown(
    what: str, name: str, known: Iterable[str], *, why: str = "", all_of: bool = False, shown_by: str = ""
) -> InputError:
    """Return the error for a name that is not known: `why`, if told, and the names near it, or all, or both.

    Where they are too many for a line, `shown_by` is the command that shows them instead.
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    hints = [f"did you mean {' or '.join(near)}?"] if near else []
    if all_of or not near:
        every = f"expected one of: {', '.join(sorted(names))}"
        hints.append(f"`{shown_by}` shows the {len(names)} that are known" if shown_by else every)
    hint = " ".join(hints)
    return InputError(f"unknown {what} {name!r}{why and f' ({why})'}; {hint}")


def registries() -> tuple[Registry[Any], ...]:
    """Return every registry there is, by group; those of packages not yet imported are left out."""
    return tuple(sorted(_ALL, key=lambda one: one.group))


def given_everywhere() -> dict[str, dict[str, Any]]:
    """Return what this program has registered, by group and name, for its worker processes."""
    given = {one.group: one.given() for one in registries() if one.given()}
    try:
        pickle.dumps(given)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(
            f"what this program registers cannot be sent to worker processes ({error}); define it at the top of a "
            "module, or use one worker"
        ) from error
    return given


def register_again(given: Mapping[str, Mapping[str, Any]]) -> None:
    """Register in a worker process what the program that started it had registered."""
    left = {group: dict(values) for group, values in given.items()}
    for one in registries():
        for name, value in left.pop(one.group, {}).items():
            if name not in one.given():
                one.register(name, value)
    _LATER.update(left)
