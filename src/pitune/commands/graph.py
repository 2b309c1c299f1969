"""`pitune graph` and `pitune neighbours`: how alike tasks are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from pitune.commands import options
from pitune.commands.output import report, shown, table
from pitune.commands.set_up import check_file, open_pool, quieten


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
    html: Annotated[Path | None, Option(metavar="FILE", help="Draw it here.")] = None,
    common: options.Common,
) -> None:
    """Show how alike the tasks of a pool are."""
    quieten()
    from pitune import api
    from pitune.prediction import graph_correlation

    if html is not None:
        check_file(html)
    experts = open_pool(pool)
    found = api.task_graph(experts, by)
    other: Literal["probe", "expert"] = "expert" if by == "probe" else "probe"
    correlation = graph_correlation(found, api.task_graph(experts, other)) if compare else None
    if html is not None:
        from pitune.reports import write_graph

        write_graph(found, html)
    nearest = {name: Near(*found.nearest(name, 1)[0]) for name in found.names}
    rows = [(name, one.name, one.similarity) for name, one in nearest.items()]
    compared = [f"rank correlation with the graph by {other}: {shown(correlation)}"] if compare else []
    told = Alike(list(found.names), found.similarity.tolist(), nearest, correlation, str(html) if html else None)
    report(common.as_json, told, [table(("expert", "nearest", "similarity"), rows), *compared])


def neighbours(
    task: options.TaskName,
    *,
    pool: options.PoolFolder,
    k: options.Neighbours = 4,
    by: options.By = "probe",
    labels: options.Labels,
    on: options.OnTask,
) -> None:
    """Show the experts of a pool that serve TASK best, by how like its task theirs are unless told otherwise."""
    quieten()
    from pitune import prediction
    from pitune.tasks import few_shot

    experts = open_pool(pool)
    draw = few_shot(on.open_task(task), labels.shots, on.seed, at_most=labels.at_most)
    near = prediction.neighbours(on.open_backbone(), draw, experts, k=k, by=by).pairs
    told = NearTask(draw.task.name, [Near(*pair) for pair in near])
    report(on.as_json, told, [table(("neighbour", "similarity"), near)])
