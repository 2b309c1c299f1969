"""The report of a study: gains with their intervals, what else it measures, and every value."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pitune.errors import InputError
from pitune.files import write_atomic
from pitune.reports.comparison import interval, judged, named, points, told
from pitune.reports.conditions import conditions_of
from pitune.reports.gains import Chart, TrackRow, tick
from pitune.reports.heat_map import Cell, HeatMap, heat_map
from pitune.reports.numbers import fixed
from pitune.reports.page import render
from pitune.reports.report import demo_verdict, write_report
from pitune.reports.table import build_table, show_method
from pitune.reports.text import natural_key
from pitune.reports.tracks import Axis, draw_axis, draw_interval
from pitune.studies import (
    STAGES,
    CompareResults,
    DemoResults,
    Gain,
    PairValues,
    PredictorsResults,
    PromptsResults,
    Results,
    SettingsResults,
    TransferResults,
)
from pitune.tasks import short_name

_GAINED = {
    "unchanged": "as it is",
    "unchanged-loss": "as it is, by the loss",
    "adapted": "once trained on the few labels",
}


def read_study(path: Path) -> Results:
    """Read a study's results; raise `InputError` if the file is not one of those, or a field is missing or wrong."""
    try:
        kept = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected the results of a study") from error
    kept = kept if isinstance(kept, dict) else {}
    kinds: dict[str, type[Results]] = {
        "graph": DemoResults,
        "transfer": TransferResults,
        "predictors": PredictorsResults,
        "study": PromptsResults,
        "plan": CompareResults,
    }
    return next((kind for field, kind in kinds.items() if field in kept), SettingsResults).read(path)


def write_study(results: Results, path: Path) -> None:
    """Write the report of any study as one HTML file."""
    if isinstance(results, DemoResults):
        write_report(results, path)
        return
    gains, drawn = _gains_of(results), isinstance(results, PredictorsResults | TransferResults)
    charts = [chart for shots in dict.fromkeys(gain.shots for gain in gains) for chart in _gains(gains, shots)]
    page = render(
        "study.html",
        title=f"{results.written_by} on {results.environment.backbone}",
        verdict=findings_of(results),
        conditions=conditions_of(results),
        charts=charts + (_predictors(results) if isinstance(results, PredictorsResults) else []),
        maps=_transfer(results) if isinstance(results, TransferResults) else [],
        table=build_table(() if drawn else results.rows),  # of every two tasks, a column for each method says nothing
        rows=sorted(results.rows, key=lambda row: (natural_key(row.task), row.method, row.seed)),
        environment=results.environment,
    )
    write_atomic(path, page)


def findings_of(results: Results) -> list[str]:
    """Return in a few sentences what a study found: of many gains the greatest and the least."""
    if isinstance(results, DemoResults):
        return [demo_verdict(results)]
    if isinstance(results, CompareResults):
        return [told(results, shots) for shots in dict.fromkeys(row.shots for row in results.rows)]
    if isinstance(results, PredictorsResults):
        best = {kind: max(some, key=lambda one: one.spearman.mean) for kind, some in results.predictors.items() if some}
        return [
            f"{one.predictor} tells best what an expert gains {_GAINED.get(kind, kind)}." for kind, one in best.items()
        ]
    if isinstance(results, PromptsResults | SettingsResults):
        gains = _gains_of(results)
        ends = [pick(gains, key=lambda gain: gain.mean) for pick in (max, min)] if gains else []
        return list(dict.fromkeys(f"{named(gain.shots)}: {gain.method} gains {judged(gain)}." for gain in ends))
    return []


def _gains_of(results: Results) -> list[Gain]:
    """Return the gains that a study measured, but for those of a method over itself."""
    if not isinstance(results, CompareResults | PromptsResults | SettingsResults):
        return []
    return [gain for gain in results.gains if gain.method != gain.baseline]


def _gains(gains: Sequence[Gain], shots: int | None) -> list[Chart]:
    """Return the gains of one number of shots over their baselines, a line each."""
    some = [gain for gain in gains if gain.shots == shots]
    lines = [
        (
            f"{show_method(gain.method)} over {show_method(gain.baseline)}"
            if gain.method
            else show_method(gain.baseline),
            f"{gain.wins} won, {gain.losses} lost of {len(gain.tasks)} tasks",
            (100 * gain.mean, *(() if gain.low is None or gain.high is None else (100 * gain.low, 100 * gain.high))),
            points(gain.mean),
            interval(gain.low, gain.high),
        )
        for gain in some
    ]
    return [_chart(f"Gains, {named(shots).lower()}", "points", lines)]


def _predictors(results: PredictorsResults) -> list[Chart]:
    charts = []
    for kind, summaries in results.predictors.items():
        lines = [
            (
                one.predictor,
                f"{one.targets} targets",
                (rho.mean, *(() if rho.low is None or rho.high is None else (rho.low, rho.high))),
                fixed(rho.mean, 2),
                "" if rho.low is None or rho.high is None else f"[{fixed(rho.low, 2)}, {fixed(rho.high, 2)}]",
            )
            for one in summaries
            if (rho := one.spearman)
        ]
        charts.append(
            _chart(f"Rank correlation with what an expert gains {_GAINED.get(kind, kind)}", "Spearman's ρ", lines)
        )
    return charts


def _chart(title: str, unit: str, lines: Sequence[tuple[str, str, tuple[float, ...], str, str]]) -> Chart:
    """Return a chart of lines: a name, what it is of, its mean and the ends of its interval, and both in words."""
    axis = Axis.over([0.0, *(value for _, _, values, _, _ in lines for value in values)])
    rows = tuple(
        TrackRow(name, of, draw_interval(axis, values[0], values[1:] or values, f"{name}: {value} {ends}"), value, ends)
        for name, of, values, value, ends in lines
    )
    return Chart(title, unit, rows, draw_axis(axis, [tick(value) for value in axis.ticks]))


def _transfer(results: TransferResults) -> list[HeatMap]:
    names = [short_name(name) for name in results.tasks]
    stages = [stage for stage in STAGES if stage in results.transfer["test"]]
    return [
        heat_map(
            names,
            names,
            _cells(results.transfer["test"][stage]),
            f"{stage} transfer from each task, down, to each, across",
        )
        for stage in stages
    ]


def _cells(matrix: PairValues) -> list[list[Cell]]:
    return [[Cell("–", None) if one is None else Cell(f"{one:.2f}", one) for one in line] for line in matrix]
