"""Named tasks are well formed, and what is not a task is said clearly."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pitune.errors import InputError
from pitune.pocket.parts import Item
from pitune.tasks import ARCHIVES, Example, Source, Task, load_task, pull, task_names, task_source
from pitune.tasks import loading as registry


@pytest.mark.parametrize("name", task_names())
def test_every_source_is_well_formed(name: str) -> None:
    source = task_source(name)
    assert re.fullmatch(r"pocket/[a-z0-9-]+", name)
    assert source.archives
    assert set(source.archives) <= set(ARCHIVES)
    assert all(archive.split()[-1] for archive in source.provenance().split(", "))
    if source.answers is not None:
        assert len(set(source.answers)) == len(source.answers) >= 2
        assert source.answer_template.format("X") != source.answer_template
    assert source.licence
    assert source.about


def test_names_are_unique() -> None:
    assert len(set(task_names())) == len(task_names()) >= 12


@pytest.mark.parametrize(
    ("name", "said"), [("pocket/mnits", "did you mean pocket/mnist"), ("xyzzy", "known tasks are")]
)
def test_an_unknown_name_is_an_input_error(name: str, said: str) -> None:
    with pytest.raises(InputError, match=f"unknown task '{name}'.*{said}"):
        load_task(name)


def test_pull_checks_every_name_before_it_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "fetch", lambda archive: pytest.fail("downloaded"))
    with pytest.raises(InputError, match="unknown task 'pocket/none'"):
        pull(["minilm", "pocket/none"])


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Source:
    """A named task that needs no archive and may be read once."""
    reads = iter([1])

    def read() -> Iterator[Item]:
        next(reads)
        for i in range(60):
            yield Item(Example(f"{i}", "even" if i % 2 == 0 else "odd", text=f"number {i} it is"), f"{i}")

    source = Source("pocket/toy", "toy", (), "CC0", ("even", "odd"), read, answer_template="It is {}.")
    monkeypatch.setattr(registry, "SOURCES", (source,))
    return source


def test_a_source_is_read_once_and_loads_alike(toy: Source, pitune_home: Path) -> None:
    first, second = load_task("pocket/toy"), load_task("pocket/toy")
    assert isinstance(first, Task)
    assert first == second
    assert first.data_hash == second.data_hash
    assert len(first.data_hash) == 64
    assert first.answer_text("odd") == "It is odd."
    assert sum(map(len, first.splits.values())) == 60
    assert all(first.splits[split] for split in ("train", "validation", "test"))


def test_pull_tells_of_progress_and_runs_again(toy: Source) -> None:
    told: list[str] = []
    for _ in range(2):
        pull(["pocket/toy"], told.append)
    assert told[0] == told[1]
    assert re.fullmatch(r"pocket/toy: \d+ train, \d+ validation, \d+ test", told[0])
