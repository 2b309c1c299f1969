"""`pitune tasks` and `pitune data`: what there is to learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument

from pitune.commands import options
from pitune.commands.output import note, report, table
from pitune.commands.set_up import read_columns
from pitune.defaults import TASKS
from pitune.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from pitune.tasks import Facts, Inspection, Outlook, Task

_SHOWN = 50  # lines of a kind, so that a report fits a screen or two


def list_tasks(common: options.Common) -> None:
    """List the named tasks."""
    from pitune.tasks import task_facts, task_names

    known = [task_facts(name) for name in task_names()]
    rows = [_fields(one, "name", "about", "answers", "licence", "provenance") for one in known]
    cells = [(one.name, one.about, one.classes, one.licence) for one in known]
    report(common.as_json, {"tasks": rows}, [table(("task", "about", "answers", "licence"), cells)])


def show(task: options.TaskName, *, columns: options.Columns = None, common: options.Common) -> None:
    """Show a task's parts, answers and origin, or a collection's tasks; fetches their data if need be."""
    from pitune.tasks import task_collections

    if members := task_collections().get(task):
        cards = [_card(_load(name, None)) for name in members]
        rows = [list(card.values()) for card in cards]
        report(common.as_json, {"name": task, "tasks": cards}, [table(tuple(cards[0]), rows)])
        return
    known = _load(task, columns)
    facts = _fields(known, "name", "metric", "template", "answer_template", "licence", "provenance", "data_hash")
    facts |= {"answers": known.answers, "parts": {part: len(examples) for part, examples in known.splits.items()}}
    shown = {key: value for key, value in facts.items() if key not in ("answers", "parts")}
    shown |= {part: f"{number} examples" for part, number in facts["parts"].items()}
    shown["answers"] = f"{len(known.answers)}: {', '.join(known.answers)}" if known.answers else "open"
    report(common.as_json, facts, [table(("field", "value"), shown.items())])


def check(task: options.TaskName, *, columns: options.Columns = None, common: options.Common) -> None:
    """Read all of a task's data and tell what is in it, what is wrong with it, and what is worth a look."""
    from pitune.tasks import inspect, load_task, read_task

    _announce(task)
    named = read_columns(columns)
    found, ahead = _ahead(inspect(read_task(task, named, note)), lambda: load_task(task, named), seed=common.seed)
    sound = not found.problems
    told = {"sound": sound, **asdict(found), "outlook": asdict(ahead) if ahead else None}
    parts = ", ".join(f"{number} {part}" for part, number in found.parts.items()) or "no examples"
    state = "sound" if sound else f"{len(found.problems)} problem(s)"
    lines = [one for one in (ahead.line, ahead.warning) if one] if ahead else []
    report(common.as_json, told, [*_report(found), f"{found.name}: {state} ({parts})", *lines])
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
        list[str], Argument(metavar="NAME…", help=f"Named tasks, collections such as {TASKS}, or archives.")
    ],
    *,
    common: options.Common,
) -> None:
    """Download and prepare data; safe to run again."""
    from pitune.tasks import pull

    pull(names, note)
    report(common.as_json, {"pulled": list(names)}, [f"{len(names)} ready"])


def _load(name: str, columns: list[str] | None) -> Task:
    from pitune.tasks import load_task

    _announce(name)
    return load_task(name, read_columns(columns), note)


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


def _fields(known: Facts | Task, *names: str) -> dict[str, Any]:
    """Return some of what is known of a task, by name."""
    return {name: getattr(known, name) for name in names}
