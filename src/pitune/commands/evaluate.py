"""`pitune eval`: how good an expert is, or the backbone alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from typer import Argument, Option

from pitune.commands import options
from pitune.commands.output import note, report
from pitune.commands.set_up import find_expert, quieten
from pitune.errors import InputError


@dataclass(frozen=True)
class Evaluated:
    """What `pitune eval` tells; no expert's name where the backbone is alone."""

    expert: str | None
    task: str
    split: str
    metric: Any
    value: Any
    n: Any


def evaluate(
    expert: Annotated[str, Argument(metavar="EXPERT", help="An expert's folder, or its name with --pool.")],
    task: Annotated[str | None, Argument(metavar="TASK", help=options.TASK_HELP)] = None,
    *,
    zero_shot: Annotated[bool, Option("--zero-shot", help="The backbone alone, without EXPERT.")] = False,
    split: Annotated[Literal["train", "validation", "test"], Option(help="Part of the task.")] = "test",
    pool: options.MaybePool = None,
    on: options.OnTask,
) -> None:
    """Measure an expert on a task; with --zero-shot, give only the task."""
    if zero_shot and task is not None:
        raise InputError(f"--zero-shot takes no expert; found {expert!r} before the task {task!r}")
    if not zero_shot and task is None:
        raise InputError(
            f"expected an expert and a task; found only {expert!r} (add --zero-shot for the backbone alone)"
        )
    quieten()
    from pitune import api
    from pitune.training import check_backbone

    found = None if zero_shot else find_expert(expert, pool)
    known = on.open_task(task or expert)
    examples = known.examples(split)
    model = on.open_backbone()
    if found is not None:
        check_backbone(found, model)
    note(f"answering {len(examples)} {split} examples of {known.name}")
    told = Evaluated(found.name if found else None, known.name, split, **api.evaluate(model, known, found, split))
    who = told.expert or "zero-shot"
    line = f"{who} on {known.name}: {told.metric} {told.value:.4f} of {told.n} {split} examples"
    report(on.as_json, told, [line])
