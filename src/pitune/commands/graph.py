"""`pitune graph` and `pitune neighbours`: how alike tasks are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

from pitune.commands import options
from pitune.commands.output import QUIET, VERBOSITY, changing_nothing, is_told, report, shown, table
from pitune.commands.set_up import open_pool, quieten

if TYPE_CHECKING:
    from pitune.backbones import Backbone
    from pitune.experts import ExpertPool
    from pitune.prediction import TaskGraph
    from pitune.tasks import Draw


@dataclass(frozen=True)
class Near:
    """An expert, and how like its task is to another."""

    name: str
    similarity: float


@dataclass(frozen=True)
class Alike:
    """What `pitune graph` tells; `correlation` is with the graph by the other embedding."""

    names: list[str]
    similarity: list[list[float]]
    nearest: dict[str, Near]
    correlation: float | None
    html: str | None


@dataclass(frozen=True)
class NearTask:
    """What `pitune neighbours` tells, best first."""

    task: str
    neighbours: list[Near]


def graph(
    pool: options.PoolFolder,
    *,
    by: Annotated[Literal["probe", "expert"], Option(help="Which embedding of the tasks to compare.")] = "probe",
    compare: Annotated[
        bool, Option("--compare", help="Correlate the ranks of pairs with those by the other embedding.")
    ] = False,
    page: options.Html,
    common: options.Common,
) -> None:
    """Show how alike the tasks of a pool are."""
    quieten()
    page.check()
    from pitune import api
    from pitune.experts import PoolIndex
    from pitune.prediction import graph_correlation

    experts = open_pool(pool)
    found = api.task_graph(experts, by)
    other: Literal["probe", "expert"] = "expert" if by == "probe" else "probe"
    correlation = graph_correlation(found, api.task_graph(experts, other)) if compare else None
    if page.html is not None:
        draw_pool(experts, found, page.html)
    nearest = {name: Near(*found.nearest(name, 1)[0]) for name in found.names}
    rows = [(name, one.name, one.similarity) for name, one in nearest.items()]
    compared = [f"rank correlation with the graph by {other}: {shown(correlation)}"] if compare else []
    told = Alike(
        list(found.names), found.similarity.tolist(), nearest, correlation, str(page.html) if page.html else None
    )
    nothing = changing_nothing((entry.name, entry.untouched) for entry in PoolIndex(experts).entries.values())
    report(common.as_json, told, [table(("expert", "nearest", "similarity"), rows), *nothing, *compared])


def draw_pool(experts: ExpertPool, found: TaskGraph, html: Path) -> None:
    """Write the page of a pool's graph, with what cards tell of each task: what it shows, how good its expert is."""
    from pitune.reports import write_graph
    from pitune.studies import ExpertScore

    cards = {expert.name: expert.card for expert in experts}
    scores = {
        name: ExpertScore(metric=card.metric, value=card.validation)
        for name, card in cards.items()
        if card.validation is not None
    }
    write_graph(found, html, kinds={name: card.reads for name, card in cards.items()}, scores=scores)


@dataclass(frozen=True)
class _Target:
    """The backbone and the labels that a search is for, opened by every worker for itself."""

    task: str
    labels: options.Labels
    on: options.OnTask

    def __call__(self) -> tuple[Backbone, Draw]:
        quieten()
        if parent_process() is not None:  # which has told already what there is to tell of the task
            os.environ[VERBOSITY] = QUIET
        return self.on.open_backbone(), self.labels.draw(self.on.open_task(self.task), self.on.seed)


def neighbours(
    task: options.TaskName,
    *,
    pool: options.PoolFolder,
    k: options.Neighbours = 4,
    by: options.By = "probe",
    labels: options.Labels,
    over: options.Spreading,
    on: options.OnTask,
) -> None:
    """Show the experts of a pool that serve TASK best, by how like its task theirs are unless told otherwise."""
    quieten()
    from pitune.studies import Search, search_pool

    open_pool(pool)
    found = search_pool(Search(_Target(task, labels, on), pool, k, by), over.spread, progress=is_told())
    near = found.pairs
    told = NearTask(found.target.draw.task.name, [Near(*pair) for pair in near])
    nothing = changing_nothing((one.name, one.untouched) for one in found.experts)
    report(on.as_json, told, [table(("neighbour", "similarity"), near), *nothing])
