"""`pitune tasks` and `pitune data`: what there is to learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from pitune.commands import options
from pitune.commands.output import note, report, table
from pitune.commands.set_up import quieten
from pitune.defaults import TASKS
from pitune.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from pitune.tasks import Facts, Inspection, Task

_SHOWN = 50  # lines of a kind, so that a report fits a screen or two


def list_tasks(common: options.Common) -> None:
    """List the named tasks."""
    from pitune.tasks import task_facts, task_names

    known = [task_facts(name) for name in task_names()]
    rows = [_fields(one, "name", "about", "answers", "licence", "provenance") for one in known]
    cells = [(one.name, one.about, one.classes, one.licence) for one in known]
    report(common.as_json, {"tasks": rows}, [table(("task", "about", "answers", "licence"), cells)])


def show(task: options.TaskName, *, data: options.Data, common: options.Common) -> None:
    """Show a task's parts, answers and origin, or a collection's tasks; fetches their data if need be."""
    from pitune.tasks import task_collections

    if members := task_collections().get(task):
        cards = [_card(_load(name, data)) for name in members]
        rows = [list(card.values()) for card in cards]
        report(common.as_json, {"name": task, "tasks": cards}, [table(tuple(cards[0]), rows)])
        return
    known = _load(task, data)
    asked = ("template", "answer_template", "more_templates")
    facts = _fields(known, "name", "metric", *asked, "licence", "provenance", "data_hash")
    facts |= {"answers": known.answers, "parts": {part: len(examples) for part, examples in known.splits.items()}}
    shown = {key: value for key, value in facts.items() if key not in ("answers", "parts")}
    shown |= {part: f"{number} examples" for part, number in facts["parts"].items()}
    shown["answers"] = f"{len(known.answers)}: {', '.join(known.answers)}" if known.answers else "open"
    report(common.as_json, facts, [table(("field", "value"), shown.items())])


def check(
    task: options.TaskName,
    *,
    shots: options.Shots = None,
    backbone: Annotated[str | None, Option(help="Try on this backbone how long a fit of the task will take.")] = None,
    method: options.Method = "lora",
    data: options.Data,
    common: options.Common,
) -> None:
    """Read all of a task's data and tell what is in it, what is wrong with it, and what a fit will do with it."""
    _announce(task)
    found, known = data.inspect(task), None
    try:
        if not found.problems:
            known = data.open_task(task, lambda _: None)  # the report says all that it would tell
            ahead = _ahead(known, shots, common, backbone, method)
    except InputError as error:
        found, known = replace(found, problems=(str(error),)), None
    sound = known is not None
    told = {"sound": sound, **asdict(found), "outlook": ahead[0] if sound else None}
    parts = ", ".join(f"{number} {part}" for part, number in found.parts.items()) or "no examples"
    state = "sound" if sound else f"{len(found.problems)} problem(s)"
    lines = ahead[1] if sound else []
    report(common.as_json, told, [*_report(found), f"{found.name}: {state} ({parts})", *lines])
    if not sound:
        more = f" (and {len(found.problems) - 1} more)" if len(found.problems) > 1 else ""
        raise InputError(f"{found.problems[0]}{more}")


def _ahead(
    task: Task, shots: int | None, common: options.Common, backbone: str | None, method: str
) -> tuple[dict[str, Any], list[str]]:
    """Return what a fit will use of a task, and how long it takes on a backbone, if one is named: as fields, as lines.

    Raise `InputError` if there is nothing to learn.
    """
    from pitune.tasks import few_shot, outlook

    ahead = outlook(task, shots, common.seed)
    fields, lines = asdict(ahead), [one for one in (ahead.line, ahead.warning) if one]
    if backbone is not None:
        quieten()
        from pitune.backbones import load_backbone
        from pitune.training import expected_time

        draw = few_shot(task, shots, common.seed, at_most=True)
        expected = expected_time(load_backbone(backbone, common.device), draw, method=method)
        fields, lines = {**fields, "expected": asdict(expected)}, [*lines, expected.line]
    return fields, lines


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


def _load(name: str, data: options.Data) -> Task:
    _announce(name)
    return data.open_task(name)


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
