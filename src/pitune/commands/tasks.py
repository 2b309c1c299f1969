"""`pitune tasks` and `pitune data`: what there is to learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pitune.commands import _options as options
from pitune.commands._output import note, report, table
from pitune.errors import InputError

if TYPE_CHECKING:
    from pitune.tasks import Task


def list_tasks(
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """List the named tasks."""
    from pitune.tasks import task_names, task_source

    sources = [task_source(name) for name in task_names()]
    rows = [
        {
            "name": one.name,
            "about": one.about,
            "answers": list(one.answers),
            "licence": one.licence,
            "provenance": one.provenance(),
        }
        for one in sources
    ]
    cells = [(one.name, one.about, len(one.answers), one.licence) for one in sources]
    report(as_json, {"tasks": rows}, [table(("task", "about", "answers", "licence"), cells)])


def show(
    task: options.TaskName,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Show a task's parts, answers and origin; fetches its data if need be."""
    facts = _facts(_load(task))
    rows = {key: value for key, value in facts.items() if key not in ("answers", "parts")}
    rows |= {part: f"{number} examples" for part, number in facts["parts"].items()}
    answers = facts["answers"]
    rows["answers"] = f"{len(answers)}: {', '.join(answers)}" if answers else "open"
    report(as_json, facts, [table(("field", "value"), rows.items())])


def check(
    task: options.TaskName,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Check that a task can be learned from: every class in every part, no input in two parts, sound images."""
    found = _load(task)
    _check_classes(found)
    _check_inputs(found)
    facts = _facts(found)
    parts = ", ".join(f"{number} {part}" for part, number in facts["parts"].items())
    report(as_json, {"sound": True, **facts}, [f"{found.name}: sound ({parts})"])


def pull(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="Named tasks, or archives.")],
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Download and prepare data; safe to run again."""
    from pitune.tasks import pull

    pull(names, note)
    report(as_json, {"pulled": list(names)}, [f"{len(names)} ready"])


def _load(name: str) -> Task:
    from pitune.tasks import load_task, task_names

    if name in task_names():
        note(f"reading {name}; the first time fetches its data")
    return load_task(name)


def _facts(task: Task) -> dict[str, Any]:
    return {
        "name": task.name,
        "metric": task.metric,
        "template": task.template,
        "answer_template": task.answer_template,
        "licence": task.licence,
        "provenance": task.provenance,
        "data_hash": task.data_hash,
        "answers": None if task.answers is None else list(task.answers),
        "parts": {part: len(examples) for part, examples in task.splits.items()},
    }


def _check_classes(task: Task) -> None:
    for part in task.splits:
        have = {example.target for example in task.examples(part)}
        for answer in task.answers or ():
            if answer not in have:
                raise InputError(f"task {task.name!r}: class {answer!r} has no {part} examples; add some")
        for example in task.examples(part):
            if example.target not in task.candidates(example):
                raise InputError(
                    f"task {task.name!r}: the target {example.target!r} of {example.id!r} is not among its answers"
                )


def _check_inputs(task: Task) -> None:
    from pitune.tasks import image_hash, open_image

    seen: dict[tuple[str | None, str | None], tuple[str, str]] = {}
    for part, examples in task.splits.items():
        for example in examples:
            if example.image is not None:
                open_image(example)
            key = (example.text, None if example.image is None else image_hash(example))
            first, where = seen.setdefault(key, (example.id, part))
            if where != part:
                raise InputError(
                    f"task {task.name!r}: {first!r} in {where} and {example.id!r} in {part} are the same input"
                )
