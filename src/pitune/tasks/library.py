"""Libraries of named tasks: what a package offers so that its tasks list, load and download by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pitune.registry import Registry
from pitune.tasks.formats.reading import Found, Options, Reading
from pitune.tasks.task import Task


@dataclass(frozen=True)
class Facts:
    """What is known of a named task before it is loaded.

    `answers` is None where the data tells them or any text may be one; `classes` is their number where it is known.
    """

    name: str
    about: str
    licence: str
    provenance: str
    answers: tuple[str, ...] | None = None
    classes: int | None = None


class Library(ABC):
    """Named tasks, and how to get them.

    `collections` name several of the tasks at a time. `fetches` says whether a task's data is fetched when it is
    first loaded; where not, the reader brings it. Names should begin with one that is the library's own, as in
    `elevater/dtd`, and cost no more than a list: they are asked for whenever a task is opened.
    """

    collections: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    fetches = True

    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Return the names of the tasks."""

    @abstractmethod
    def facts(self, name: str) -> Facts:
        """Return what is known of a task without its data."""

    @abstractmethod
    def load(self, name: str, options: Options) -> Task:
        """Return a task; raise `InputError` if its data is not there or cannot be used."""

    def read(self, name: str, options: Options) -> Reading:
        """Return a task's data entry by entry, before any of it is checked."""
        task = self.load(name, options)
        return Reading(
            path=Path(task.name),
            name=task.name,
            items=(Found(one.id, one, split) for split, examples in task.splits.items() for one in examples),
            answers=task.answers,
            balanced=task.balanced,
            metric=task.metric,
            provenance=task.provenance,
            templates=task.answer_templates,
        )

    def archives(self) -> tuple[str, ...]:
        """Return the names of what `pull` fetches besides tasks."""
        return ()

    def pull(self, name: str) -> str:
        """Fetch and prepare a task, or one of `archives`, and return in a few words what is there now."""
        parts = self.load(name, Options()).splits
        return ", ".join(f"{len(examples)} {split}" for split, examples in parts.items())


LIBRARIES: Registry[Library] = Registry(
    "library of tasks", group="pitune.libraries", known={"declared": "pitune.tasks.declared:LIBRARY"}
)
