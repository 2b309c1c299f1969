"""How `pitune eval` shows evaluations: one expert in full, several side by side, each beside the backbone alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pitune.commands.output import shown, table

if TYPE_CHECKING:
    from rich.table import Table

    from pitune.tasks import Example, Task
    from pitune.training import Difference, Judgement

ALONE = "zero-shot"  # what the backbone alone is called
_MOST_COLUMNS = 10  # of a confusion matrix on a screen
_MOST_ROWS = 20


def judgement_lines(who: str, found: Judgement, task: str, split: str) -> list[str | Table]:
    """Return one expert's evaluation for reading: the metric, calibration, the classes, what is taken for what."""
    lines: list[str | Table] = [
        f"{who} on {task}: {found.metric} {found.value:.4f} of {found.n} {split} examples{_between(found)}"
    ]
    if found.calibration is not None:
        said = found.calibration
        lines.append(
            f"calibration error {said.ece:.4f}: {said.right:.4f} right, {said.probability:.4f} their mean probability"
        )
    if found.classes:
        lines.append(_classes(found))
    if found.confusion is not None:
        lines += _confusion([one.name for one in found.classes], found.confusion)
    return lines


def side_by_side(found: Mapping[str, Judgement], differences: Mapping[str, Difference]) -> list[str | Table]:
    """Return a table of several experts, and one of their classes' recall where there are few.

    `differences` are from the backbone alone, with the interval of the same examples drawn anew.
    """
    rows = [
        (
            name,
            one.value,
            _range(one.low, one.high),
            f"{differences[name].value:+.4f}" if name in differences else None,
            _range(differences[name].low, differences[name].high) if name in differences else None,
            None if one.calibration is None else one.calibration.ece,
        )
        for name, one in found.items()
    ]
    first = next(iter(found.values()))
    lines: list[str | Table] = [
        table(("expert", first.metric, "95 %", "over zero-shot", "95 %", "calibration error"), rows)
    ]
    if first.confusion is not None:
        ranked = sorted(range(len(first.classes)), key=lambda i: -first.classes[i].n)[:_MOST_ROWS]
        each = [
            (first.classes[i].name, first.classes[i].n, *(one.classes[i].recall for one in found.values()))
            for i in sorted(ranked)
        ]
        lines.append(table(("right share of class", "examples", *found), each))
        lines += _left(len(first.classes), len(each), "classes")
    return lines


def verdict_lines(
    task: Task, examples: Sequence[Example], split: str, found: Mapping[str, Judgement], apart: Mapping[str, Difference]
) -> list[str]:
    """Return in words how good each expert is, against guessing and the backbone alone."""
    from pitune.training import worth

    said = list[str]()
    beside = {"the backbone alone": found[ALONE].value} if apart else {}
    for name, one in ({name: found[name] for name in apart} or found).items():
        said += worth(task, examples, name, one.value, one.n, beside, judges=f"{split} examples")
        if name in apart:
            over = apart[name]
            said.append(f"That is {over.value:+.3f}{over.spread} over the backbone alone: {_told(task, over)}.")
    return said


def _told(task: Task, one: Difference) -> str:
    """Return what a difference says, by its interval and whichever way the task's metric goes."""
    from pitune.tasks.metrics import worth

    if one.low is None or one.high is None:
        return "it has no interval"
    low, high = sorted(worth(task.metric, end) for end in (one.low, one.high))
    return "better" if low > 0 else "worse" if high < 0 else "not told from none"


def _between(found: Judgement) -> str:
    return "" if found.low is None else f" (95 % {_range(found.low, found.high)})"


def _range(low: float | None, high: float | None) -> str | None:
    return None if low is None else f"{shown(low)} to {shown(high)}"


def _classes(found: Judgement) -> Table:
    """Return the classes of most examples, in the task's order."""
    several = found.confusion is None
    ranked = sorted(range(len(found.classes)), key=lambda i: -found.classes[i].n)[:_MOST_ROWS]
    names = ("class", "examples", *(("average precision",) if several else ("answered", "recall", "precision")))
    rows = [
        (one.name, one.n, *((one.average_precision,) if several else (one.answered, one.recall, one.precision)))
        for one in (found.classes[i] for i in sorted(ranked))
    ]
    return table(names, rows)


def _confusion(names: Sequence[str], confusion: Mapping[str, Mapping[str, int]]) -> list[str | Table]:
    """Return the matrix, or of many classes the commonest mistakes."""
    if len(names) <= _MOST_COLUMNS:
        rows = [(name, *(confusion.get(name, {}).get(other, 0) for other in names)) for name in names]
        return [table(("right, answered:", *names), rows)]
    wrong = sorted(
        ((number, right, answered) for right, row in confusion.items() for answered, number in row.items()),
        key=lambda one: -one[0],
    )
    mistakes = [(right, answered, number) for number, right, answered in wrong if right != answered]
    left = _left(len(names), _MOST_ROWS, "classes")
    return [*left, *([table(("right", "answered", "examples"), mistakes[:_MOST_COLUMNS])] if mistakes else [])]


def _left(number: int, told: int, of: str) -> list[str | Table]:
    return [f"{number - told} more {of}: --json or --out has all"] if number > told else []
