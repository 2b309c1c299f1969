"""A pool searched by several workers: the experts found are those of one, whatever the score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.backbones.conftest import write_checkpoint

from pitune import api
from pitune.backbones import Backbone, load_backbone
from pitune.errors import InputError
from pitune.experts import ExpertPool
from pitune.files import home
from pitune.pocket.backbone import Pocket
from pitune.prediction import SCORES, neighbours
from pitune.studies import Search, Spread, search_pool
from pitune.studies import workers as workers_module
from pitune.tasks import Draw, Task, few_shot, load_task
from pitune.training import TrainingSettings

FAST = TrainingSettings(steps=4, batch_size=8, evaluations=2)


@pytest.fixture(scope="module")
def pool(tiny_backbone: Pocket, tiny_tasks: dict[str, Task], tmp_path_factory: pytest.TempPathFactory) -> ExpertPool:
    pool = ExpertPool(tmp_path_factory.mktemp("pool"))
    for name in ("taste", "place", "colour"):
        for seed in (0, 1):
            pool.add(api.fit(tiny_backbone, tiny_tasks[name], shots=2, seed=seed, settings=FAST, folds=0))
    return pool


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Let the work of several workers be done here, and return what each of them was given."""
    given: list[Sequence[str]] = []

    def here(work: Callable[[Any], object], jobs: Sequence[Any], workers: int) -> Iterator[None]:
        given.extend(names for _, names in jobs)
        return workers_module.in_turn(work, jobs)

    monkeypatch.setattr(workers_module, "in_processes", here)
    return given


@pytest.mark.parametrize("by", ["probe", "trial", "logme"])
@pytest.mark.parametrize("k", [1, 3])
def test_two_workers_find_what_one_does(
    by: str, k: int, tiny_backbone: Pocket, tiny_tasks: dict[str, Task], pool: ExpertPool, parts: list[Sequence[str]]
) -> None:
    draw = few_shot(tiny_tasks["mood"], 4, 0)
    search = Search(lambda: (tiny_backbone, draw), pool.folder, k, by)
    once = neighbours(tiny_backbone, draw, pool, k=k, by=by)
    assert search_pool(search, Spread(2)).pairs == once.pairs
    assert len(parts) == 2
    assert sorted(name for part in parts for name in part) == sorted(pool.names())
    assert not list((home() / "searches").iterdir())


@dataclass(frozen=True)
class Listing:
    """An opener that holds a list, as options of a command that are repeated do, and counts what it opens."""

    opened: list[int]
    found: tuple[Backbone, Draw]

    def __call__(self) -> tuple[Backbone, Draw]:
        self.opened.append(1)
        return self.found


def test_what_is_searched_for_is_opened_once_a_process(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], pool: ExpertPool, parts: list[Sequence[str]]
) -> None:
    listing = Listing([], (tiny_backbone, few_shot(tiny_tasks["mood"], 4, 0)))
    search_pool(Search(listing, pool.folder, 1, "trial"), Spread(2))
    assert (len(parts), listing.opened) == (2, [1])
    search_pool(Search(listing, pool.folder, 1, "trial"), Spread(2))
    assert listing.opened == [1, 1]  # what is there may have changed since


def test_what_a_score_says_nothing_of_is_said_once(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], pool: ExpertPool, parts: list[Sequence[str]]
) -> None:
    draw = few_shot(tiny_tasks["mood"], 4, 0)
    search = Search(lambda: (tiny_backbone, draw), pool.folder, 2, "nothing")
    with pytest.raises(InputError, match="unknown score 'nothing'"):
        search_pool(search, Spread(2))
    assert not parts
    mute = SCORES.get("probe")
    SCORES.register("mute", type(mute)("mute", "of nothing", mute.rate, applies=lambda target, expert: False))
    try:
        with pytest.raises(InputError, match="score 'mute' says nothing of task 'mood'"):
            search_pool(Search(search.open, pool.folder, 2, "mute"), Spread(2))
    finally:
        SCORES.forget("mute")


def opened(checkpoint: Path, task: Path) -> tuple[Backbone, Draw]:
    return load_backbone(str(checkpoint)), few_shot(load_task(str(task)), 4, 0)


def test_processes_of_their_own_find_it_too(tiny_task_paths: dict[str, Path], tmp_path: Path) -> None:
    checkpoint = write_checkpoint("bert", tmp_path / "bert")
    backbone, pool = load_backbone(str(checkpoint)), ExpertPool(tmp_path / "pool")
    for seed in (0, 1, 2):
        other = load_task(str(tiny_task_paths["place"]))
        pool.add(api.fit(backbone, other, shots=2, seed=seed, settings=FAST, folds=0))
    search = Search(partial(opened, checkpoint, tiny_task_paths["taste"]), pool.folder, 2, "trial")
    once, twice = (search_pool(search, Spread(workers)) for workers in (1, 2))
    assert [name for name, _ in twice.pairs] == [name for name, _ in once.pairs]
    assert twice.scores == pytest.approx(once.scores)
