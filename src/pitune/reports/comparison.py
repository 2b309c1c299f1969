"""A comparison of methods for people: tables in Markdown, and each task's gain as a figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

from markupsafe import Markup

from pitune.files import write_atomic
from pitune.reports.markup import tag
from pitune.reports.numbers import fixed, ticks
from pitune.reports.page import still
from pitune.reports.text import columns, in_code, in_markdown
from pitune.studies import PI, SINGLE, CompareResults, Gain, Row, untouched
from pitune.tasks import short_name
from pitune.tasks.metrics import worth

_ROW, _TOP, _PLOT, _CHARACTER = 24.0, 34.0, 420.0, 7.2
UNTOUCHED = "untouched backbone"  # heads a column of runs whose expert changes nothing
_MARK = " °"
_SETS = 2  # of shots that a figure can tell apart: full and hollow


def write_comparison(results: CompareResults, folder: Path, command: str) -> None:
    """Write `results.md` and `gains.svg` of a comparison's results into a folder."""
    write_atomic(folder / "gains.svg", gains_figure(results.gains, SINGLE))
    parts = [f"{in_code(command)}\n"]
    for shots in dict.fromkeys(row.shots for row in results.rows):
        table = _gains_table(results, shots)
        parts += [f"## {named(shots)}\n", f"{told(results, shots)}\n", table, task_table(results.rows, shots)]
    write_atomic(folder / "results.md", "\n".join(parts).encode())


def told(results: CompareResults, shots: int | None) -> str:
    """Return what a comparison says in words: whether π-Tuning helps over the single expert and over the best other."""
    gains = {gain.baseline: gain for gain in results.gains if gain.shots == shots}
    if not gains:
        return f"{named(shots)}: π-Tuning was not measured beside another method."
    means = {mean.method: mean for mean in results.means if mean.shots == shots and mean.method in gains}
    most = max(mean.tasks for mean in means.values())
    best = max((mean for mean in means.values() if mean.tasks == most), key=lambda mean: mean.mean).method
    said = [judged(gains[SINGLE])] if SINGLE in gains else []
    if best != SINGLE:
        said.append(f"{judged(gains[best])}, the best of {len(means)} others")
    nothing = learned_nothing(row for row in results.rows if row.shots == shots)
    return f"{named(shots)}: π-Tuning gains {'; '.join(said)}.{nothing}"


def learned_nothing(rows: Iterable[Row]) -> str:
    """Return a sentence on the runs of the single expert and of π-Tuning that are the untouched backbone, if any."""
    counts = untouched(rows)
    of = {"the single expert": counts.get(SINGLE), "π-Tuning": counts.get(PI)}
    said = [f"{name} in {in_runs(counted)}" for name, counted in of.items() if counted and counted[0]]
    return f" The untouched backbone is all that came of {' and of '.join(said)}." if said else ""


def judged(gain: Gain) -> str:
    """Return a gain in words; told from none where its interval over labels, or else tasks, excludes 0."""
    low, high = (gain.low, gain.high) if gain.low is not None else gain.over_tasks or (None, None)
    if low is None or high is None:
        said = "of one seed, which has no interval"
    elif low > 0:
        said = "it helps"
    elif high < 0:
        said = "it harms"
    else:
        said = "not told from none"
    return f"{points(gain.mean)} points {interval(low, high)} over {gain.baseline!r} ({said})"


def named(shots: int | None) -> str:
    """Return how many labels per class there were, as headings say it."""
    return "All labels" if shots is None else f"{shots} shot{'s' * (shots != 1)}"


def _gains_table(results: CompareResults, shots: int | None) -> str:
    """Return a line a method: its mean over tasks, by how much π-Tuning is better, and runs that learned nothing."""
    over = {gain.baseline: gain for gain in results.gains if gain.shots == shots}
    means = [mean for mean in results.means if mean.shots == shots]
    most = max(mean.tasks for mean in means)
    best = max(mean.mean for mean in means if mean.tasks == most)
    counts = untouched(row for row in results.rows if row.shots == shots)
    heads = ["", "mean over tasks", "π-Tuning over it, points", "95 %, other labels", "95 %, other tasks"]
    heads += ["win / tie / loss", "seeds", *([UNTOUCHED] if counts else [])]
    lines = []
    for mean in means:
        cells = [mean.method, f"{_cell([mean.mean], best)}{_few(mean.tasks, most)}", _gain_cells(over.get(mean.method))]
        cells += [in_runs(counts.get(mean.method))] if counts else []
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *lines, ""])


def in_runs(counted: tuple[int, int] | None) -> str:
    """Return in how many runs of a method the expert is the untouched backbone, nothing where no run says it."""
    return "" if counted is None else f"{counted[0]} of {counted[1]} run{'s' * (counted[1] != 1)}"


def _few(tasks: int, most: int) -> str:
    return "" if tasks == most else f" ({tasks} tasks)"


def _gain_cells(gain: Gain | None) -> str:
    if gain is None:
        return " | ".join([""] * 5)
    spread = f"{interval(gain.low, gain.high)} | {interval(*(gain.over_tasks or (None, None)))}"
    return f"{points(gain.mean)} | {spread} | {gain.wins} / {gain.ties} / {gain.losses} | {gain.seeds}"


def task_table(rows: Sequence[Row], shots: int | None) -> str:
    """Return a line a task and a column a method: means over seeds, and at the end the mean over tasks."""
    values: dict[str, dict[str, list[float]]] = {}
    metrics = {row.task: row.metric for row in rows}
    some = [row for row in rows if row.shots == shots]
    nothing = {(row.task, row.method) for row in some if row.untouched}
    for row in some:
        values.setdefault(row.task, {}).setdefault(row.method, []).append(row.value)
    methods = list(dict.fromkeys(method for of in values.values() for method in of))
    lines = ["| | " + " | ".join(methods) + " |", "|---|" + "---|" * len(methods)]
    for task, of in values.items():
        best = max(map(fmean, of.values()), key=partial(worth, metrics[task]))
        lines.append(
            f"| {in_markdown(short_name(task))} | "
            + " | ".join(_cell(of.get(method), best) + _MARK * ((task, method) in nothing) for method in methods)
            + " |"
        )
    means = [[fmean(of[method]) for of in values.values() if method in of] for method in methods]
    lines.append("| **mean** | " + " | ".join(f"{fmean(of):.3f}{_few(len(of), len(values))}" for of in means) + " |")
    note = f"\n{_MARK.strip()} In some of its runs, or all, the expert is the untouched backbone.\n" if nothing else ""
    return "\n".join([*lines, note])


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


def gains_figure(gains: Sequence[Gain], baseline: str) -> bytes:
    """Return an SVG of each task's mean gain over a baseline, in points; full dots for the fewest shots.

    A figure shows the first two numbers of shots there are.
    """
    sets = [gain for gain in gains if gain.baseline == baseline][:_SETS]
    tasks = sorted({task for gain in sets for task in gain.tasks}, key=lambda task: (-_sum(sets, task), task))
    names = [short_name(task) for task in tasks]
    left = max((columns(name) for name in names), default=0) * _CHARACTER + 16
    shown = [100 * value for gain in sets for value in gain.tasks.values()] or [0.0]
    marks = ticks(min(0.0, *shown), max(0.0, *shown))

    def at(value: float) -> float:
        return left + _PLOT * (value - marks[0]) / (marks[-1] - marks[0])

    bottom = _TOP + _ROW * len(tasks)
    parts = list[Markup]()
    for mark in marks:
        width = 2.0 if mark == 0 else 1.0
        parts.append(_line(at(mark), _TOP, at(mark), bottom, width))
        parts.append(tag("text", f"{mark:g}", x=at(mark), y=bottom + 18, text_anchor="middle"))
    for i, (task, name) in enumerate(zip(tasks, names, strict=True)):
        y = _TOP + _ROW * (i + 0.5)
        parts.append(tag("text", name, x=left - 8, y=y + 4, text_anchor="end"))
        for number, gain in enumerate(sets):
            if task in gain.tasks:
                value = gain.tasks[task]
                title = tag("title", f"{name}, {named(gain.shots)}: {points(value)} points")
                style = "kind-0" if number == 0 else "hollow"
                parts.append(tag("circle", title, cx=at(100 * value), cy=y, r=6, class_=style))
    legend = " · ".join(f"{sign} {named(gain.shots)}" for sign, gain in zip("●○", sets, strict=False))
    parts.append(tag("text", f"π-Tuning's gain over {baseline}, points: {legend}", x=8, y=20))
    size = (left + _PLOT + 30, bottom + 30)
    return still(tag("svg", *parts, viewBox=f"0 0 {size[0]:.0f} {size[1]:.0f}"))


def _sum(gains: Sequence[Gain], task: str) -> float:
    return float(sum(gain.tasks.get(task, 0.0) for gain in gains))


def _line(x1: float, y1: float, x2: float, y2: float, width: float) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_="grid", stroke_width=width)
