"""The prompt studies for people: tables in Markdown, and transfer as a still picture for a document."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pitune.files import write_atomic
from pitune.reports.comparison import interval, named, points, task_table
from pitune.reports.heat_map import Cell, draw_heat_map
from pitune.reports.page import still
from pitune.reports.text import in_code, in_markdown
from pitune.studies import STAGES, Correlation, Gain, PairValues, PromptsResults, Stage, TransferResults
from pitune.tasks import short_name


def write_prompts(results: PromptsResults, folder: Path, command: str) -> None:
    """Write `results.md` of `pitune study coop`, `elevater` or `cross-task`: gains, then every task."""
    head = "| from multitask over alone | points | 95 % interval | win / loss | seeds |\n|---|---|---|---|---|"
    parts = [f"{in_code(command)}\n"]
    for shots in dict.fromkeys(row.shots for row in results.rows):
        lines = [_line(gain) for gain in results.gains if gain.shots == shots]
        parts += [f"## {named(shots)}\n", "\n".join([head, *lines, ""]), task_table(results.rows, shots)]
    write_atomic(folder / "results.md", "\n".join(parts).encode())


def _line(gain: Gain) -> str:
    kind, spread = gain.baseline.removesuffix(" alone"), interval(gain.low, gain.high)
    return f"| {kind} | {points(gain.mean)} | {spread} | {gain.wins} / {gain.losses} | {gain.seeds} |"


def write_transfer(results: TransferResults, folder: Path, command: str) -> None:
    """Write `results.md`, `adapted.svg` and `zero-adaptation.svg` of `pitune study transfer`."""
    names = [short_name(name) for name in results.tasks]
    parts = [f"{in_code(command)}\n", _correlations(results.correlations)]
    for stage in STAGES if "adapted" in results.plan.stages else STAGES[:1]:
        matrix = results.transfer["test"][stage]
        write_atomic(folder / f"{stage}.svg", transfer_figure(names, matrix, stage))
        lines = [f"| {stage}: from | " + " | ".join(map(in_markdown, names)) + " |", "|---|" + "---|" * len(names)]
        for name, line in zip(names, matrix, strict=True):
            lines.append(
                f"| {in_markdown(name)} | " + " | ".join("–" if one is None else f"{one:.2f}" for one in line) + " |"
            )
        parts.append("\n".join([*lines, ""]))
    write_atomic(folder / "results.md", "\n".join(parts).encode())


def transfer_figure(names: list[str], matrix: PairValues, stage: Stage) -> bytes:
    """Return T (N, N) as an SVG: sources down the left, targets over the columns.

    1, in full colour, is what the target's own expert gains; pairs without a measure stay blank.
    """
    cells = [[_cell(value, names[i], names[j]) for j, value in enumerate(line)] for i, line in enumerate(matrix)]
    return still(draw_heat_map(names, names, cells, f"{stage} transfer from each task (row) to each (column)"))


def _cell(value: float | None, source: str, target: str) -> Cell:
    if value is None:
        return Cell("", None, f"{source} to {target}: not measured, the target's own gain is too small")
    return Cell(f"{value:.2f}", value, f"{source} to {target}: {value:.2f} of the target's own gain")


def _correlations(by_stage: Mapping[Stage, Mapping[str, Correlation]]) -> str:
    """Return a line a similarity: its rank correlation with transfer, and over how many pairs."""
    lines = ["| similarity | " + " | ".join(f"ρ with {stage} transfer (pairs)" for stage in STAGES) + " |"]
    lines.append("|---|" + "---|" * len(STAGES))
    for name in by_stage[STAGES[0]]:
        cells = [_shown(by_stage.get(stage, {}).get(name)) for stage in STAGES]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _shown(one: Correlation | None) -> str:
    return "–" if one is None or one.rho is None else f"{one.rho:.2f} ({one.pairs})"
