"""`pitune graph` and `pitune neighbours`: how alike tasks are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pitune.commands import options as options
from pitune.commands.output import report, shown, table

if TYPE_CHECKING:
    from pitune.prediction import TaskGraph


def graph(
    pool: options.PoolFolder,
    by: Annotated[Literal["probe", "expert"], typer.Option(help="Which embedding of the tasks to compare.")] = "probe",
    compare: Annotated[
        bool, typer.Option("--compare", help="Correlate the ranks of pairs with those by the other embedding.")
    ] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it here.", show_default=False)] = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Show how alike the tasks of a pool are."""
    from pitune.commands.set_up import check_file, open_pool, quieten

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
        _draw(found, html)
    nearest = {name: found.nearest(name, 1)[0] for name in found.names}
    report(
        as_json,
        {
            "names": list(found.names),
            "similarity": found.similarity.tolist(),
            "nearest": {name: {"name": other, "similarity": value} for name, (other, value) in nearest.items()},
            "correlation": correlation,
            "html": html and str(html),
        },
        [
            table(("expert", "nearest", "similarity"), [(name, *pair) for name, pair in nearest.items()]),
            *([f"rank correlation with the graph by {other}: {shown(correlation)}"] if compare else []),
        ],
    )


def neighbours(
    task: options.TaskName,
    pool: options.PoolFolder,
    k: options.Neighbours = 2,
    by: options.By = "probe",
    shots: options.Shots = None,
    at_most: options.AtMost = False,
    columns: options.Columns = None,
    conflicts: options.Conflicts = "refuse",
    limit: options.Limit = None,
    backbone: options.BackboneName = options.BACKBONE,
    dtype: options.Dtype = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Show the experts of a pool that serve TASK best, by how like its task theirs are unless told otherwise."""
    from pitune.commands.set_up import open_backbone, open_pool, open_task, quieten

    quieten()
    from pitune import api
    from pitune.tasks import few_shot

    experts = open_pool(pool)
    known = open_task(task, columns, conflicts, limit)
    few_shot(known, shots, seed, at_most=at_most)
    model = open_backbone(backbone, device, dtype)
    near = api.neighbours(model, known, experts, k=k, shots=shots, at_most=at_most, seed=seed, by=by)
    report(
        as_json,
        {"task": known.name, "neighbours": [{"name": name, "similarity": value} for name, value in near]},
        [table(("neighbour", "similarity"), near)],
    )


def _draw(found: TaskGraph, file: Path) -> None:
    from pitune.reports import write_graph

    write_graph(found, file)
