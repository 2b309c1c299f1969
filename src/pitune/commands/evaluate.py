"""`pitune eval`: how good an expert is, or the backbone alone."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from pitune.commands import options as options
from pitune.commands.output import note, report
from pitune.errors import InputError


def evaluate(
    expert: Annotated[str, typer.Argument(metavar="EXPERT", help="An expert's folder, or its name with --pool.")],
    task: Annotated[str | None, typer.Argument(metavar="TASK", help=options.TASK_HELP, show_default=False)] = None,
    zero_shot: Annotated[bool, typer.Option("--zero-shot", help="The backbone alone, without EXPERT.")] = False,
    split: Annotated[Literal["train", "validation", "test"], typer.Option(help="Part of the task.")] = "test",
    pool: options.MaybePool = None,
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
    """Measure an expert on a task; with --zero-shot, give only the task."""
    if zero_shot and task is not None:
        raise InputError(f"--zero-shot takes no expert; found {expert!r} before the task {task!r}")
    if not zero_shot and task is None:
        raise InputError(
            f"expected an expert and a task; found only {expert!r} (add --zero-shot for the backbone alone)"
        )
    from pitune.commands.set_up import find_expert, open_backbone, open_task, quieten

    quieten()
    from pitune import api
    from pitune.training import check_backbone

    found = None if zero_shot else find_expert(expert, pool)
    known = open_task(task or expert, columns, conflicts, limit)
    examples = known.examples(split)
    model = open_backbone(backbone, device, dtype)
    if found is not None:
        check_backbone(found, model)
    note(f"answering {len(examples)} {split} examples of {known.name}")
    value = api.evaluate(model, known, found, split)
    result = {"expert": found.name if found else None, "task": known.name, "split": split, **value}
    who = found.name if found else "zero-shot"
    report(
        as_json,
        result,
        [f"{who} on {known.name}: {value['metric']} {value['value']:.4f} of {value['n']} {split} examples"],
    )
