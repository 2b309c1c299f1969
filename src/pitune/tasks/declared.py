"""The tasks of the papers, declared in YAML files of the package; they run as soon as the reader has the data."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pitune.errors import InputError
from pitune.files import home
from pitune.tasks.formats.declaration import Declaration, declared_reading, declared_task, read_declaration
from pitune.tasks.formats.reading import Options, Reading
from pitune.tasks.library import Facts, Library
from pitune.tasks.task import Task

FOLDER = Path(__file__).parent / "declared"


@lru_cache(maxsize=1)
def declared_files() -> dict[str, Path]:
    """Return the declarations' files by task name, such as `elevater/dtd`."""
    return {str(file.relative_to(FOLDER).with_suffix("")): file for file in sorted(FOLDER.glob("*/*.yaml"))}


def declared_names() -> tuple[str, ...]:
    """Return the names of the declared tasks."""
    return tuple(declared_files())


def declaration(name: str) -> Declaration:
    """Return what is declared of a task."""
    return read_declaration(declared_files()[name]).model_copy(update={"name": name})


def data_folder(name: str) -> Path:
    """Return where a declared task's data is looked for."""
    return home() / "data" / name


def declared_source(name: str) -> tuple[Declaration, Path]:
    """Return the declaration with the reader's data as its source; raise `InputError` saying where that belongs."""
    declared, folder = declaration(name), data_folder(name)
    if not folder.exists():
        raise InputError(
            f"task {name!r}: has no data yet; expected {declared.about or 'it'} as {folder} "
            "(a folder or a link to one; PITUNE_HOME moves it)"
        )
    return declared.model_copy(update={"source": declared.source or "."}), folder


class Declared(Library):
    """The tasks that are declared here; the reader brings their data."""

    fetches = False

    def names(self) -> tuple[str, ...]:
        """Return the names of the declarations, each with its collection in front, as in `elevater/dtd`."""
        return declared_names()

    def facts(self, name: str) -> Facts:
        """Return what the declaration says; the answers come with the data."""
        one = declaration(name)
        return Facts(name, one.about, one.licence, one.provenance, classes=one.expected_classes)

    def load(self, name: str, options: Options) -> Task:
        """Return the task, read from the reader's folder; `InputError` says where that is expected."""
        return declared_task(*declared_source(name), options)

    def read(self, name: str, options: Options) -> Reading:
        """Return the entries of the reader's folder as they are, for `tasks check` to look at."""
        return declared_reading(*declared_source(name), options)


LIBRARY = Declared()
