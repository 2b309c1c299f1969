"""A comparison of methods for people: tables in Markdown, and each task's gain as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from markupsafe import Markup

from pitune.files import write_atomic
from pitune.reports.markup import tag
from pitune.reports.numbers import fixed, ticks
from pitune.reports.page import resource
from pitune.reports.text import columns
from pitune.tasks import short_name

_ROW, _TOP, _PLOT, _CHARACTER = 24.0, 34.0, 420.0, 7.2
_SETS = 2  # of shots that a figure can tell apart: full and hollow


def write_comparison(result: Mapping[str, Any], folder: Path, command: str) -> None:
    """Write `results.md` and `gains.svg` of a comparison's results into a folder."""
    write_atomic(folder / "gains.svg", gains_figure(result["gains"], "single"))
    parts = [f"`{command}`\n"]
    for shots in dict.fromkeys(row["shots"] for row in result["rows"]):
        table = _gains_table(result["means"], result["gains"], shots)
        parts += [f"## {named(shots)}\n", table, task_table(result["rows"], shots)]
    write_atomic(folder / "results.md", "\n".join(parts).encode())


def named(shots: int | None) -> str:
    return "All labels" if shots is None else f"{shots} shots"


def _gains_table(means: Sequence[Mapping[str, Any]], gains: Sequence[Mapping[str, Any]], shots: int | None) -> str:
    """Return a line a method: its mean over tasks, and by how much π-Tuning is better."""
    by_baseline = {gain["baseline"]: gain for gain in gains if gain["shots"] == shots}
    found = [mean for mean in means if mean["shots"] == shots]
    most = max(mean["tasks"] for mean in found)
    best = max(mean["mean"] for mean in found if mean["tasks"] == most)
    rows = []
    for mean in found:
        few = "" if mean["tasks"] == most else f" ({mean['tasks']} tasks)"
        value = f"{_cell([mean['mean']], best)}{few}"
        rows.append(f"| {mean['method']} | {value} | {_gain_cells(by_baseline.get(mean['method']))} |")
    head = (
        "| | mean over tasks | π-Tuning over it, points | 95 %, other labels | 95 %, other tasks | win / tie / loss "
        "| seeds |\n|---|---|---|---|---|---|---|"
    )
    return "\n".join([head, *rows, ""])


def _gain_cells(gain: Mapping[str, Any] | None) -> str:
    if gain is None:
        return " | ".join([""] * 5)
    ties = len(gain["tasks"]) - gain["wins"] - gain["losses"]
    spread = f"{interval(gain['low'], gain['high'])} | {interval(*gain['over_tasks'])}"
    return f"{points(gain['mean'])} | {spread} | {gain['wins']} / {ties} / {gain['losses']} | {gain['seeds']}"


def task_table(rows: Sequence[Mapping[str, Any]], shots: int | None) -> str:
    """Return a line a task and a column a method: means over seeds, and at the end the mean over tasks."""
    values: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row["shots"] == shots:
            values.setdefault(row["task"], {}).setdefault(row["method"], []).append(row["value"])
    methods = list(dict.fromkeys(method for of in values.values() for method in of))
    lines = ["| | " + " | ".join(methods) + " |", "|---|" + "---|" * len(methods)]
    for task, of in values.items():
        best = max(fmean(found) for found in of.values())
        cells = [_cell(of.get(method), best) for method in methods]
        lines.append(f"| {short_name(task)} | " + " | ".join(cells) + " |")
    means = [[fmean(of[method]) for of in values.values() if method in of] for method in methods]
    few = [f" ({len(of)} tasks)" if len(of) < len(values) else "" for of in means]
    lines.append("| **mean** | " + " | ".join(f"{fmean(of):.3f}{n}" for of, n in zip(means, few, strict=True)) + " |")
    return "\n".join([*lines, ""])


def _cell(values: Sequence[float] | None, best: float) -> str:
    if values is None:
        return "–"
    text = f"{fmean(values):.3f}"
    return f"**{text}**" if fmean(values) == best else text


def points(value: float) -> str:
    """Return a difference of fractions in points, with its sign."""
    text = fixed(100 * value, 1)
    return text if value <= 0 else f"+{text}"


def interval(low: float | None, high: float | None) -> str:
    """Return an interval in points, a dash where one seed gives none."""
    return "–" if low is None or high is None else f"[{points(low)}, {points(high)}]"


def gains_figure(gains: Sequence[Mapping[str, Any]], baseline: str) -> bytes:
    """Return an SVG of each task's mean gain over a baseline, in points; full dots for the fewest shots.

    A figure shows the first two numbers of shots there are.
    """
    found = [gain for gain in gains if gain["baseline"] == baseline][:_SETS]
    tasks = sorted({task for gain in found for task in gain["tasks"]}, key=lambda task: -_sum(found, task))
    names = [short_name(task) for task in tasks]
    left = max((columns(name) for name in names), default=0) * _CHARACTER + 16
    shown = [100 * value for gain in found for value in gain["tasks"].values()] or [0.0]
    marks = ticks(min(0.0, *shown), max(0.0, *shown))

    def at(value: float) -> float:
        return left + _PLOT * (value - marks[0]) / (marks[-1] - marks[0])

    bottom = _TOP + _ROW * len(tasks)
    parts = [tag("style", Markup(resource("palette.css"))), tag("rect", width="100%", height="100%", class_="back")]
    for mark in marks:
        width = 2.0 if mark == 0 else 1.0
        parts.append(_line(at(mark), _TOP, at(mark), bottom, width))
        parts.append(tag("text", f"{mark:g}", x=at(mark), y=bottom + 18, text_anchor="middle"))
    for i, (task, name) in enumerate(zip(tasks, names, strict=True)):
        y = _TOP + _ROW * (i + 0.5)
        parts.append(tag("text", name, x=left - 8, y=y + 4, text_anchor="end"))
        for number, gain in enumerate(found):
            if task in gain["tasks"]:
                value = 100 * gain["tasks"][task]
                said = tag("title", f"{name}, {named(gain['shots'])}: {points(value / 100)} points")
                style = {"fill": "var(--k0)"} if number == 0 else {"fill": "none"}
                parts.append(tag("circle", said, cx=at(value), cy=y, r=6, stroke="var(--k0)", stroke_width=2, **style))
    legend = " · ".join(f"{sign} {named(gain['shots'])}" for sign, gain in zip("●○", found, strict=False))
    title = f"π-Tuning's gain over {baseline}, points: {legend}"
    parts.append(tag("text", title, x=8, y=20))
    size = (left + _PLOT + 30, bottom + 30)
    drawing = tag("svg", *parts, xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {size[0]:.0f} {size[1]:.0f}")
    return f"{drawing}\n".encode()


def _sum(gains: Sequence[Mapping[str, Any]], task: str) -> float:
    return float(sum(gain["tasks"].get(task, 0.0) for gain in gains))


def _line(x1: float, y1: float, x2: float, y2: float, width: float) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke="var(--line)", stroke_width=width)
