"""`pitune tasks` and `pitune data`: what there is to learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pitune.commands import options as options
from pitune.commands.output import note, report, table
from pitune.defaults import TASKS
from pitune.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from pitune.tasks import Inspection, Outlook, Task

_SHOWN = 50  # lines of a kind, so that a report fits a screen or two


def list_tasks(
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """List the named tasks."""
    from pitune.tasks import task_facts, task_names

    known = [task_facts(name) for name in task_names()]
    rows = [
        {
            "name": one.name,
            "about": one.about,
            "answers": None if one.answers is None else list(one.answers),
            "licence": one.licence,
            "provenance": one.provenance,
        }
        for one in known
    ]
    cells = [(one.name, one.about, one.classes, one.licence) for one in known]
    report(as_json, {"tasks": rows}, [table(("task", "about", "answers", "licence"), cells)])


def show(
    task: options.TaskName,
    columns: options.Columns = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Show a task's parts, answers and origin, or a collection's tasks; fetches their data if need be."""
    from pitune.tasks import task_collections

    if members := task_collections().get(task):
        cards = [_card(_load(name, None)) for name in members]
        report(
            as_json, {"name": task, "tasks": cards}, [table(tuple(cards[0]), (list(card.values()) for card in cards))]
        )
        return
    facts = _facts(_load(task, columns))
    rows = {key: value for key, value in facts.items() if key not in ("answers", "parts")}
    rows |= {part: f"{number} examples" for part, number in facts["parts"].items()}
    answers = facts["answers"]
    rows["answers"] = f"{len(answers)}: {', '.join(answers)}" if answers else "open"
    report(as_json, facts, [table(("field", "value"), rows.items())])


def check(
    task: options.TaskName,
    columns: options.Columns = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Read all of a task's data and tell what is in it, what is wrong with it, and what is worth a look."""
    from pitune.commands.set_up import read_columns
    from pitune.tasks import inspect, load_task, read_task

    _announce(task)
    found = inspect(read_task(task, read_columns(columns), note))
    found, ahead = _ahead(found, lambda: load_task(task, read_columns(columns)), seed=seed)
    sound = not found.problems
    told = {"sound": sound, **asdict(found), "outlook": asdict(ahead) if ahead else None}
    parts = ", ".join(f"{number} {part}" for part, number in found.parts.items()) or "no examples"
    state = "sound" if sound else f"{len(found.problems)} problem(s)"
    lines = [one for one in (ahead.line, ahead.warning) if one] if ahead else []
    report(as_json, told, [*_report(found), f"{found.name}: {state} ({parts})", *lines])
    if not sound:
        more = f" (and {len(found.problems) - 1} more)" if len(found.problems) > 1 else ""
        raise InputError(f"{found.problems[0]}{more}")


def _ahead(
    found: Inspection, load: Callable[[], Task], *, shots: int | None = None, seed: int = 0
) -> tuple[Inspection, Outlook | None]:
    """Load the task as a fit does, and return what it will use of it, or what keeps it from that as a problem."""
    from pitune.tasks import outlook

    if found.problems:
        return found, None
    try:
        return found, outlook(load(), shots, seed)
    except InputError as error:
        return replace(found, problems=(str(error),)), None


def _report(found: Inspection) -> Iterator[str | Table]:
    """Yield the lines and tables of a report: counts, preview, problems and remarks."""
    parts = list(found.parts)
    rows = [(name, *(counts.get(part, 0) for part in parts)) for name, counts in found.classes.items()]
    if rows:
        yield table(("class", *parts), rows[:_SHOWN])
    if len(rows) > _SHOWN:
        yield f"… and {len(rows) - _SHOWN} more classes"
    if found.sizes:
        modes = ", ".join(f"{number} {mode}" for mode, number in found.modes.items())
        yield f"images: {modes}, from {found.sizes[0]} to {found.sizes[-1]}"
    if found.preview:
        cells = [(one["where"], one["image"], (one["text"] or "")[:80], one["target"]) for one in found.preview]
        yield table(("preview", "image", "text", "answer"), cells)
    for kind, said in (("problem", found.problems), ("remark", found.remarks)):
        yield from (f"{kind}: {one}" for one in said[:_SHOWN])
        if len(said) > _SHOWN:
            yield f"… and {len(said) - _SHOWN} more {kind}s"


def pull(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME…", help=f"Named tasks, collections such as {TASKS}, or archives.")
    ],
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Download and prepare data; safe to run again."""
    from pitune.tasks import pull

    pull(names, note)
    report(as_json, {"pulled": list(names)}, [f"{len(names)} ready"])


def _load(name: str, columns: list[str] | None) -> Task:
    from pitune.commands.set_up import open_task

    _announce(name)
    return open_task(name, columns)


def _announce(name: str) -> None:
    from pitune.tasks import library_of

    library = library_of(name)
    if library is not None and library.fetches:
        note(f"reading {name}; the first time fetches its data")


def _card(task: Task) -> dict[str, Any]:
    """Return a task's line in the data card of its collection; `majority` is the share of the commonest answer."""
    test = task.examples("test")
    commonest = max(Counter(example.target for example in test).values()) / len(test)
    inputs = [kind for kind, there in (("image", test[0].image), ("text", test[0].text)) if there is not None]
    return {
        "task": task.name,
        "input": " + ".join(inputs),
        "answers": None if task.answers is None else len(task.answers),
        **{part: len(examples) for part, examples in task.splits.items()},
        "majority": commonest if task.answers else 1 / len(test[0].candidates or ("",)),
        "metric": task.metric,
        "licence": task.licence,
        "source": task.provenance,
    }


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
