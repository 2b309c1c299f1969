"""`pitune multitask`: one expert for several tasks, or one for each group of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pitune.commands import options as options
from pitune.commands.output import note, report, shown, table, watched
from pitune.errors import InputError

if TYPE_CHECKING:
    from pitune.backbones import Backbone
    from pitune.prediction import Grouping
    from pitune.prediction.groups import How
    from pitune.tasks import Draw


def multitask(
    tasks: Annotated[list[str], typer.Argument(metavar="TASK...", help=options.TASK_HELP)],
    method: options.Method = "lora",
    mixing: Annotated[
        str, typer.Option(help="How often tasks are drawn: balanced, proportional, temperature=2 or capped=256.")
    ] = "balanced",
    scope: Annotated[
        Literal["task", "union"], typer.Option(help="Score over the example's own task's answers, or over all.")
    ] = "task",
    shots: options.Shots = None,
    steps: options.Steps = None,
    learning_rate: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    own_settings: options.Settings = None,
    start: options.Start = None,
    group_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Divide the tasks into groups of at most so many, one expert each.", show_default=False
        ),
    ] = None,
    transfer: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Group by what `pitune study transfer` measured, not by similarity.",
            show_default=False,
        ),
    ] = None,
    grouping: Annotated[
        Literal["agglomerative", "greedy"], typer.Option(help="How groups are made.")
    ] = "agglomerative",
    pool: Annotated[Path | None, typer.Option(metavar="DIR", help="Add the experts here.", show_default=False)] = None,
    name: options.ExpertName = None,
    out: options.Out = None,
    run: options.RunFolder = None,
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
    """Train one expert over several tasks, to start others from or to mix with. Goes on where it was stopped."""
    from pitune.commands.deliver import check_delivery, deliver
    from pitune.commands.runs import begin, finish, outcome, plan_run
    from pitune.commands.set_up import (
        check_settings,
        find_start,
        make_settings,
        method_config,
        open_backbone,
        open_task,
        quieten,
    )

    quieten()
    from pitune import api
    from pitune.experts import digest
    from pitune.tasks import few_shot
    from pitune.training import TrainingSettings, continued, multitask_name, read_mixing

    given = {"steps": steps, "learning_rate": learning_rate, "batch_size": batch_size}
    settings = make_settings(TrainingSettings, given)
    own = method_config(method, None, own_settings)
    chosen_mixing = str(read_mixing(mixing))
    if pool is None and out is None:
        raise InputError("nowhere to keep the expert; give --pool DIR or --out DIR")
    if group_size is not None and (name is not None or out is not None):
        raise InputError("--group-size makes several experts; leave out --name and --out, and give --pool DIR")
    if transfer is not None and group_size is None:
        raise InputError("--transfer says how to group; give --group-size too")
    draws = [few_shot(open_task(one, columns, conflicts, limit), shots, seed) for one in tasks]
    model = open_backbone(backbone, device, dtype)
    begun = find_start(start, pool)
    check_settings(model, method, continued(begun, model, method, own))
    groups, reasons = [draws], tuple[str, ...]()
    if group_size is not None:
        found = _grouped(model, draws, group_size, grouping, transfer)
        groups = [[one for one in draws if one.task.name in group] for group in found.groups]
        reasons = found.reasons
        for reason in reasons:
            note(f"group {reason}")
    planned = []
    for group in groups:
        called = multitask_name(group, method, seed) if name is None else name
        inputs = {
            "backbone": model.fingerprint,
            "tasks": [one.task.identity for one in group],
            "method": method,
            "config": own,
            "start": digest(begun) if begun else None,
            "mixing": chosen_mixing,
            "scope": scope,
            "shots": shots,
            "seed": seed,
            "settings": settings.model_dump(),
        }
        folder = run / called if run and group_size is not None else run
        planned.append((group, called, plan_run("multitask", inputs, folder)))
        check_delivery(called, out, pool, planned[-1][2])
    told = []
    for group, called, one in planned:
        if not one.ended:
            begin(one)
            over = ", ".join(draw.task.name for draw in group)
            note(f"training a {method} expert over {over}; its run is kept in {one.folder}")
            made = api.fit_multitask(
                model,
                [draw.task for draw in group],
                method=method,
                shots=shots,
                seed=seed,
                mixing=mixing,
                scope=scope,
                settings=settings,
                run=one.state,
                progress=watched(),
                start=begun,
                **own,
            )
            card = made.card
            curves = {task: curve[_best(curve, card)][1] for task, curve in card.hyperparameters["curves"].items()}
            result: dict[str, Any] = {
                "method": method,
                "shots": shots,
                "seed": seed,
                "mixing": chosen_mixing,
                "scope": scope,
            }
            result |= {"parameters": made.parameters, "metric": card.metric, "validation": card.validation}
            finish(one, made, {**result, "tasks": list(card.tasks), "by_task": curves, "best_step": _step(card)})
        expert, result = outcome(one)
        folders = deliver(expert, called, out, pool, one)
        told.append({"expert": called, **result, "folders": [str(at) for at in folders], "run": str(one.folder)})
    report(as_json, {"experts": told, "groups": list(reasons)}, _lines(told, reasons))


def _step(card: Any) -> int:
    return int(card.hyperparameters["best_step"])


def _best(curve: Sequence[Sequence[float]], card: Any) -> int:
    return next(i for i, point in enumerate(curve) if point[0] == _step(card))


def _grouped(model: Backbone, draws: Sequence[Draw], most: int, how: How, transfer: Path | None) -> Grouping:
    """Return groups by measured transfer, or by the similarity of the tasks' probe embeddings."""
    from pitune.prediction import build_graph, group_tasks, probe_fisher
    from pitune.prediction.embedding import EMBEDDED
    from pitune.studies import read_transfer
    from pitune.tasks import spread

    names = [draw.task.name for draw in draws]
    if transfer is not None:
        return group_tasks(names, read_transfer(transfer, names), most, how)
    if len(names) == 1:
        raise InputError("--group-size divides several tasks; found one")
    examples = [spread(draw.labels, EMBEDDED) for draw in draws]
    found = {one.task.name: probe_fisher(model, one.task, some) for one, some in zip(draws, examples, strict=True)}
    return group_tasks(names, build_graph(found).similarity, most, how)


def _lines(told: Sequence[dict[str, Any]], reasons: Sequence[str]) -> list[Any]:
    lines: list[Any] = [f"group {reason}" for reason in reasons]
    for one in told:
        lines.append(table(("task", "metric on validation data"), one["by_task"].items()))
        lines.append(
            f"{one['expert']}: {one['parameters']:,} parameters, best at step {one['best_step']}, mean {one['metric']} "
            f"{shown(one['validation'])} on validation data"
        )
        lines += [f"saved in {folder}" for folder in one["folders"]]
    return lines
