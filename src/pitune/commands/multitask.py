"""`pitune multitask`: one expert for several tasks, or one for each group of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from pitune.commands import options
from pitune.commands.fit import Fitted
from pitune.commands.kinds import OfKind, read_settings
from pitune.commands.output import note, report, table, watched
from pitune.commands.runs import Delivered, Keep, plan_run
from pitune.commands.set_up import quieten
from pitune.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from pitune.backbones import Backbone
    from pitune.experts import Expert
    from pitune.prediction import Grouping
    from pitune.tasks import Draw


@dataclass(frozen=True)
class Groups:
    """How the tasks are divided."""

    group_size: Annotated[
        int | None, Option(min=1, help="Divide the tasks into groups of at most so many, one expert each.")
    ] = None
    transfer: Annotated[
        Path | None, Option(metavar="FILE", help="Group by what `pitune study transfer` measured, not by similarity.")
    ] = None
    grouping: Annotated[Literal["agglomerative", "greedy"], Option(help="How groups are made.")] = "agglomerative"


@dataclass(frozen=True, kw_only=True)
class FittedTasks(Fitted):
    """What `pitune multitask` tells of one expert; `by_task` is the metric on each task's validation data."""

    mixing: str
    scope: str
    tasks: list[str]
    by_task: dict[str, float]


def multitask(
    tasks: Annotated[list[str], Argument(metavar="TASK...", help=options.TASK_HELP)],
    *,
    method: options.Method = "lora",
    mixing: Annotated[
        str, Option(help="How often tasks are drawn: balanced, proportional, temperature=2 or capped=256.")
    ] = "balanced",
    scope: Annotated[
        Literal["task", "union"], Option(help="Score over the example's own task's answers, or over all.")
    ] = "task",
    shots: options.Shots = None,
    training: options.Training,
    own: OfKind,
    groups: Groups,
    pool: Annotated[Path | None, Option(metavar="DIR", help="Add the experts here.")] = None,
    keep: Keep,
    on: options.OnTask,
) -> None:
    """Train one expert over several tasks, to start others from or to mix with. Goes on where it was stopped."""
    quieten()
    keep.check()
    from pitune import api
    from pitune.experts import digest
    from pitune.tasks import few_shot
    from pitune.training import multitask_name, read_mixing, tracking

    settings = training.settings(method)
    config = read_settings(method, None, own.own_settings)
    mixed = str(read_mixing(mixing))
    if pool is None and keep.out is None:
        raise InputError("nowhere to keep the expert; give --pool DIR or --out DIR")
    if groups.group_size is not None and (keep.name is not None or keep.out is not None):
        raise InputError("--group-size makes several experts; leave out --name and --out, and give --pool DIR")
    if groups.transfer is not None and groups.group_size is None:
        raise InputError("--transfer says how to group; give --group-size too")
    if len(tasks) > 1 and (on.validation or on.test):
        raise InputError("--validation and --test are of one task; declare them in a YAML file for each")
    draws = [few_shot(on.open_task(one), shots, on.seed) for one in tasks]
    model = on.open_backbone()
    start = own.find_start(model, method, config, pool)
    parts, reasons = [draws], tuple[str, ...]()
    if groups.group_size is not None:
        found = _grouped(model, draws, groups, groups.group_size)
        parts = [[one for one in draws if one.task.name in group] for group in found.groups]
        reasons = found.reasons
        for reason in reasons:
            note(f"group {reason}")
    planned = []
    for part in parts:
        name = multitask_name(part, method, on.seed) if keep.name is None else keep.name
        inputs = {
            "backbone": model.fingerprint,
            "tasks": [one.task.identity for one in part],
            "method": method,
            "config": config,
            "start": digest(start) if start else None,
            "mixing": mixed,
            "scope": scope,
            "shots": shots,
            "seed": on.seed,
            "settings": settings.model_dump(),
        }
        folder = keep.run / name if keep.run and groups.group_size is not None else keep.run
        planned.append((part, plan_run("multitask", inputs, folder, name=name, out=keep.out, pool=pool)))
    made = []
    for part, run in planned:
        if not run.ended:
            run.begin(f"training a {method} expert over {', '.join(draw.task.name for draw in part)}")
            with tracking(keep.track, run.folder):
                expert = api.fit_multitask(
                    model,
                    [draw.task for draw in part],
                    method=method,
                    shots=shots,
                    seed=on.seed,
                    mixing=mixing,
                    scope=scope,
                    settings=settings,
                    run=run.state,
                    progress=watched(),
                    start=start,
                    **config,
                )
            over = {"tasks": list(expert.card.tasks), "by_task": _by_task(expert)}
            run.finish(expert, FittedTasks.of(expert, mixing=mixed, scope=scope, **over))
        made.append(run.deliver(FittedTasks))
    lines = [f"group {reason}" for reason in reasons]
    told = {"experts": [one.described() for one in made], "groups": list(reasons)}
    report(on.as_json, told, [*lines, *(line for one in made for line in _lines(one))])


def _by_task(expert: Expert) -> dict[str, float]:
    """Return the metric on each task's validation data at the step that was kept."""
    told = expert.card.hyperparameters
    return {
        task: next(metric for step, metric, _ in curve if step == told["best_step"])
        for task, curve in told["curves"].items()
    }


def _grouped(model: Backbone, draws: Sequence[Draw], groups: Groups, most: int) -> Grouping:
    """Return groups by measured transfer, or by the similarity of the tasks' probe embeddings."""
    from pitune.prediction import build_graph, group_tasks, probe_fisher
    from pitune.prediction.embedding import EMBEDDED
    from pitune.studies import read_transfer
    from pitune.tasks import spread

    names = [draw.task.name for draw in draws]
    if groups.transfer is not None:
        return group_tasks(names, read_transfer(groups.transfer, names), most, groups.grouping)
    if len(names) == 1:
        raise InputError("--group-size divides several tasks; found one")
    probes = {one.task.name: probe_fisher(model, one.task, spread(one.labels, EMBEDDED)) for one in draws}
    return group_tasks(names, build_graph(probes).similarity, most, groups.grouping)


def _lines(made: Delivered[FittedTasks]) -> Iterator[str | Table]:
    yield table(("task", "metric on validation data"), made.result.by_task.items())
    yield made.result.line(made.expert.name, "mean ")
    yield from made.saved()
