"""The prompt studies for people: tables in Markdown, and transfer as a still picture for a document."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pitune.files import write_atomic
from pitune.reports.comparison import interval, named, points, task_table
from pitune.reports.heat_map import Cell, draw_heat_map
from pitune.reports.markup import tag
from pitune.reports.page import resource
from pitune.tasks import short_name

_STAGES = ("zero-adaptation", "adapted")


def write_prompts(result: Mapping[str, Any], folder: Path, command: str) -> None:
    """Write `results.md` of `pitune study coop`, `elevater` or `cross-task`: gains, then every task."""
    parts = [f"`{command}`\n"]
    for shots in dict.fromkeys(row["shots"] for row in result["rows"]):
        rows = []
        for gain in (one for one in result["gains"] if one["shots"] == shots):
            mean = points(gain["mean"])
            kind = gain["baseline"].removesuffix(" alone")
            spread = interval(gain["low"], gain["high"])
            rows.append(f"| {kind} | {mean} | {spread} | {gain['wins']} / {gain['losses']} | {gain['seeds']} |")
        head = "| from multitask over alone | points | 95 % interval | win / loss | seeds |\n|---|---|---|---|---|"
        parts += [f"## {named(shots)}\n", "\n".join([head, *rows, ""]), task_table(result["rows"], shots)]
    write_atomic(folder / "results.md", "\n".join(parts).encode())


def write_transfer(result: Mapping[str, Any], folder: Path, command: str) -> None:
    """Write `results.md`, `adapted.svg` and `zero-adaptation.svg` of `pitune study transfer`."""
    names = [short_name(name) for name in result["tasks"]]
    parts = [f"`{command}`\n", _correlations(result["correlations"])]
    for stage in _STAGES if "adapted" in result["plan"]["stages"] else _STAGES[:1]:
        write_atomic(folder / f"{stage}.svg", transfer_figure(result, stage))
        lines = [f"| {stage}: from | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
        for name, line in zip(names, result["transfer"]["test"][stage], strict=True):
            lines.append(f"| {name} | " + " | ".join("–" if one is None else f"{one:.2f}" for one in line) + " |")
        parts.append("\n".join([*lines, ""]))
    write_atomic(folder / "results.md", "\n".join(parts).encode())


def transfer_figure(result: Mapping[str, Any], stage: str) -> bytes:
    """Return T (N, N) on test examples as an SVG: sources down the left, targets over the columns.

    1, in full colour, is what the target's own expert gains; pairs without a measure stay blank.
    """
    names = [short_name(name) for name in result["tasks"]]
    matrix = result["transfer"]["test"][stage]
    cells = [[_cell(value, names[i], names[j]) for j, value in enumerate(line)] for i, line in enumerate(matrix)]
    drawing = draw_heat_map(names, names, cells, f"{stage} transfer from each task (row) to each (column)")
    inside = tag("style", Markup(resource("palette.css"))) + tag("rect", width="100%", height="100%", class_="back")
    head, body = str(drawing).split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg">{inside}{body}\n'.encode()


def _cell(value: float | None, source: str, target: str) -> Cell:
    if value is None:
        return Cell("", None, f"{source} to {target}: not measured, the target's own gain is too small")
    return Cell(f"{value:.2f}", value, f"{source} to {target}: {value:.2f} of the target's own gain")


def _correlations(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return a line a similarity: its rank correlation with transfer, and over how many pairs."""
    lines = ["| similarity | " + " | ".join(f"ρ with {stage} transfer (pairs)" for stage in _STAGES) + " |"]
    lines.append("|---|" + "---|" * len(_STAGES))
    for name in found[_STAGES[0]]:
        lines.append(f"| {name} | " + " | ".join(_shown(found[stage][name]) for stage in _STAGES) + " |")
    return "\n".join([*lines, ""])


def _shown(one: Mapping[str, Any]) -> str:
    return "–" if one["rho"] is None else f"{one['rho']:.2f} ({one['pairs']})"
