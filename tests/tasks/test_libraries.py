"""Named tasks come out of any library, and what is not a task is said clearly."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from pitune.errors import InputError
from pitune.tasks import (
    LIBRARIES,
    Example,
    Facts,
    Library,
    Options,
    Task,
    expand,
    inspect,
    library_of,
    load_task,
    pull,
    read_task,
    task_collections,
    task_facts,
    task_names,
)


class Toy(Library):
    """Two small tasks and an archive, as a package of somebody's would offer them."""

    collections = {"toy-all": ("toy/odd", "toy/even")}  # noqa: RUF012

    def names(self) -> tuple[str, ...]:
        return ("toy/odd", "toy/even")

    def facts(self, name: str) -> Facts:
        return Facts(name, "is it so?", "CC0", "made up", ("no", "yes"), 2)

    def load(self, name: str, options: Options) -> Task:
        examples = [Example(f"{i}", "yes" if i % 2 else "no", text=f"number {i}") for i in range(8)]
        return Task(name, {"train": examples[:4], "validation": examples[4:6], "test": examples[6:]}, ("no", "yes"))

    def archives(self) -> tuple[str, ...]:
        return ("toy-archive",)

    def pull(self, name: str) -> str:
        return "fetched" if name in self.archives() else super().pull(name)


@pytest.fixture
def toy() -> Iterator[Toy]:
    library = Toy()
    LIBRARIES.register("toy", library)
    yield library
    LIBRARIES.forget("toy")


def test_the_libraries_of_the_package_and_of_its_plugin() -> None:
    assert LIBRARIES.names()[:2] == ("declared", "pocket")
    assert len(set(task_names())) == len(task_names()) >= 64
    assert task_names().index("pocket/digits") < task_names().index("elevater/dtd")  # what needs nothing comes first


@pytest.mark.parametrize("name", task_names())
def test_every_named_task_says_what_it_is(name: str) -> None:
    facts = task_facts(name)
    assert facts.name == name
    assert re.fullmatch(r"[a-z-]+/[a-z0-9_-]+", name)
    assert facts.about
    assert facts.licence
    assert facts.provenance
    if facts.answers is not None:
        assert len(set(facts.answers)) == facts.classes == len(facts.answers) >= 2


@pytest.mark.parametrize("collection", task_collections())
def test_collections_hold_named_tasks_once(collection: str) -> None:
    members = task_collections()[collection]
    assert len(set(members)) == len(members)
    assert set(members) <= set(task_names())


def test_a_library_of_a_program_s_own(toy: Toy) -> None:
    assert task_names()[-2:] != toy.names()  # before those whose data the reader brings
    assert library_of("toy/odd") is toy
    assert load_task("toy/odd").answers == ("no", "yes")
    assert task_facts("toy/even").licence == "CC0"
    assert expand(["toy/even", "toy-all"]) == ["toy/even", "toy/odd"]
    found = inspect(read_task("toy/odd"))
    assert found.parts == {"train": 4, "validation": 2, "test": 2}
    assert not found.problems


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pocket/mnits", "did you mean pocket/mnist"),
        ("elevater/dtdd", "did you mean elevater/dtd"),
        (
            "xyzzy",
            "neither a named task nor a file or folder of data.; `pitune tasks list` shows the [67]. that are known",
        ),
    ],
)
def test_an_unknown_name_is_an_input_error(name: str, said: str) -> None:
    for read in (load_task, read_task, task_facts):
        with pytest.raises(InputError, match=f"unknown task '{name}'.*{said}"):
            read(name)


def test_pull_takes_tasks_collections_and_archives(toy: Toy) -> None:
    told: list[str] = []
    pull(["toy-archive", "toy-all"], told.append)
    parts = "4 train, 2 validation, 2 test"
    assert told == ["toy-archive: fetched", f"toy/odd: {parts}", f"toy/even: {parts}"]


def test_pull_checks_every_name_before_it_downloads(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Toy, "pull", lambda *_: pytest.fail("downloaded"))
    with pytest.raises(InputError, match=r"unknown task 'toy-archiv'.*did you mean toy-archive"):
        pull(["toy/odd", "toy-archiv"])
