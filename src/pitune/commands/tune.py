"""`pitune tune`: the whole of π-Tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pitune.commands import options as options
from pitune.commands.output import note, report, shown, table, watched

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.table import Table

    from pitune.experts import ExpertPool
    from pitune.interpolation import TuneResult


def tune(
    task: options.TaskName,
    pool: options.PoolFolder,
    k: options.Neighbours = 4,
    by: options.By = "probe",
    method: options.Method = "lora",
    shots: options.Shots = None,
    at_most: options.AtMost = False,
    steps: options.Steps = None,
    learning_rate: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    granularity: Annotated[
        Literal["site", "layer", "global"], typer.Option(help="What shares a mixing weight.")
    ] = "layer",
    kind: Annotated[
        Literal["free", "softmax"], typer.Option(help="Free and signed mixing weights, or the paper's softmax.")
    ] = "free",
    rank: Annotated[
        int | None, typer.Option(min=1, help="Rank of the folded LoRA; exact unless given.", show_default=False)
    ] = None,
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
    """Find the nearest tasks' experts, train their mix with the target's own, and fold it to one expert."""
    from pitune.commands.deliver import deliver
    from pitune.commands.runs import begin, finish, outcome, plan_run
    from pitune.commands.set_up import (
        check_out,
        make_settings,
        method_config,
        open_backbone,
        open_pool,
        open_task,
        quieten,
        tell_short,
    )

    quieten()
    from pitune import api
    from pitune.experts import check_name
    from pitune.interpolation import TuneSettings, tune_nearest
    from pitune.prediction import neighbours
    from pitune.tasks import few_shot
    from pitune.training import TrainingSettings, target_training

    given = {"steps": steps, "learning_rate": learning_rate, "batch_size": batch_size}
    if name is not None:
        check_name(name)
    method_config(method, rank)
    experts = open_pool(pool)
    known = open_task(task, columns, conflicts, limit)
    draw = few_shot(known, shots, seed, at_most=at_most)
    tell_short(draw)
    training = make_settings(TrainingSettings, given, target_training(len(draw.train)))
    settings = TuneSettings(training=training, granularity=granularity, kind=kind, rank=rank)
    model = open_backbone(backbone, device, dtype)
    inputs = {
        "backbone": model.fingerprint,
        "task": known.identity,
        "pool": _contents(experts),
        "k": k,
        "method": method,
        **({"by": by} if by != "probe" else {}),
        "shots": shots,
        **({"at_most": True} if at_most else {}),
        "seed": seed,
        "settings": settings.model_dump(mode="json"),
    }
    planned = plan_run("tune", inputs, run)
    if out is not None:
        check_out(out)
    if not planned.ended:
        near = neighbours(model, draw, experts, k=k, by=by, method=method)  # before anything is written
        begin(planned)
        helpers = ", ".join(expert.name for expert in near.experts)
        note(f"tuning {known.name} with {helpers}; its run is kept in {planned.folder}")
        made = tune_nearest(near, settings=settings, run=planned.state, progress=watched())
        test = api.evaluate(model, known, made.expert) if known.splits.get("test") else None
        finish(planned, made.expert, {"task": known.name, **_described(made), "test": test})
    expert, result = outcome(planned)
    called = expert.name if name is None else name
    folders = deliver(expert, called, out, None, planned)
    told = {"expert": called, **result, "folders": [str(folder) for folder in folders], "run": str(planned.folder)}
    report(as_json, told, _lines(told))


def _contents(pool: ExpertPool) -> dict[str, str]:
    """Return a hash of every expert's record, which holds the hashes of its files."""
    from pitune.files import sha256_file

    return {name: sha256_file(pool.path(name) / "expert.json") for name in pool.names()}


def _described(result: TuneResult) -> dict[str, Any]:
    """Return what a run found out, as JSON holds it."""
    return {
        "neighbours": [{"name": name, "similarity": value} for name, value in result.neighbours],
        "candidates": [candidate.described() for candidate in result.candidates],
        "choice": result.choice,
        "weights": {group: dict(values) for group, values in result.weights.items()},
        "metric": result.expert.card.metric,
        "validation": result.expert.card.validation,
        "parameters": result.expert.parameters,
        "truncation_error": result.expert.card.hyperparameters.get("truncation_error"),
    }


def _lines(told: Mapping[str, Any]) -> Iterator[str | Table]:
    yield table(("neighbour", "similarity"), [(one["name"], one["similarity"]) for one in told["neighbours"]])
    chosen = {told["choice"]: "chosen"}
    rows = [(one["name"], one["validation"], one["loss"], chosen.get(one["name"], "")) for one in told["candidates"]]
    yield table(("candidate", f"validation {told['metric']}", "validation loss", ""), rows)
    used = {name for values in told["weights"].values() for name in values}
    near = [one["name"] for one in told["neighbours"] if one["name"] in used]
    experts = [*sorted(used - set(near)), *near]  # the target's own first
    groups = sorted(told["weights"], key=lambda group: [part.zfill(6) for part in group.split(".")])
    rows = [(group, *(told["weights"][group].get(name) for name in experts)) for group in groups]
    yield table(("weights at", *experts), rows)
    if told["truncation_error"] is not None:
        yield f"folded to the rank asked for: off by {shown(told['truncation_error'])} of ΔW (Frobenius)"
    test = told["test"]
    if test:
        yield f"{told['expert']}: {test['metric']} {shown(test['value'])} of {test['n']} test examples"
    yield from (f"saved in {folder}" for folder in told["folders"])
