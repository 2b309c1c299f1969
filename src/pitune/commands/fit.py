"""`pitune fit`: train an expert for a task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pitune.commands import options as options
from pitune.commands.output import note, report, shown, watched


def fit(
    task: options.TaskName,
    method: options.Method = "lora",
    shots: options.Shots = None,
    at_most: options.AtMost = False,
    steps: options.Steps = None,
    learning_rate: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    rank: Annotated[int | None, typer.Option(help="Rank of a LoRA.", show_default=False)] = None,
    own_settings: options.Settings = None,
    start: options.Start = None,
    pool: Annotated[Path | None, typer.Option(metavar="DIR", help="Add the expert here.", show_default=False)] = None,
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
    """Train an expert for a task. Stopped half-way, the same command goes on where it was."""
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
        tell_short,
    )

    quieten()
    from pitune import api
    from pitune.experts import digest
    from pitune.tasks import few_shot
    from pitune.training import TrainingSettings, continued

    given = {"steps": steps, "learning_rate": learning_rate, "batch_size": batch_size}
    settings = make_settings(TrainingSettings, given)
    own = method_config(method, rank, own_settings)
    known = open_task(task, columns, conflicts, limit)
    draw = few_shot(known, shots, seed, at_most=at_most)
    tell_short(draw)
    model = open_backbone(backbone, device, dtype)
    begun = find_start(start, pool)
    check_settings(model, method, continued(begun, model, method, own))
    inputs = {
        "backbone": model.fingerprint,
        "task": known.identity,
        "method": method,
        "config": own,
        "shots": shots,
        **({"at_most": True} if at_most else {}),
        "seed": seed,
        "settings": settings.model_dump(),
        **({"start": digest(begun)} if begun else {}),
    }
    planned = plan_run("fit", inputs, run)
    called = draw.expert_name(method) if name is None else name
    check_delivery(called, out, pool, planned)
    if not planned.ended:
        begin(planned)
        note(f"training a {method} expert for {known.name}; its run is kept in {planned.folder}")
        made = api.fit(
            model,
            known,
            method=method,
            shots=shots,
            at_most=at_most,
            seed=seed,
            settings=settings,
            run=planned.state,
            progress=watched(),
            start=begun,
            **own,
        )
        card = made.card
        result = {
            "task": known.name,
            "method": method,
            "shots": shots,
            "seed": seed,
            "parameters": made.parameters,
            "metric": card.metric,
            "validation": card.validation,
            "best_step": card.hyperparameters["best_step"],
        }
        finish(planned, made, result)
    expert, result = outcome(planned)
    given_labels = "fisher_labels" in expert.card.hyperparameters
    folders = deliver(expert, called, out, pool, planned)
    report(
        as_json,
        {"expert": called, **result, "folders": [str(folder) for folder in folders], "run": str(planned.folder)},
        [
            f"{called}: {result['parameters']:,} parameters, best at step {result['best_step']}, "
            f"{result['metric']} {shown(result['validation'])} on validation data",
            *(["embedded by the given answers: this backbone cannot draw any"] if given_labels else []),
            *(f"saved in {folder}" for folder in folders),
        ],
    )
