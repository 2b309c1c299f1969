"""What π-Tuning gains over each baseline, and every seed behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pitune.reports.numbers import PERCENT, Unit, fixed, unit_of
from pitune.reports.table import by_target, order_methods, show_method, show_shots
from pitune.reports.text import natural_key
from pitune.reports.tracks import Axis, Dot, draw_axis, draw_dots, draw_interval
from pitune.studies import PI, SINGLE, Row, TaskGain


@dataclass(frozen=True)
class TrackRow:
    """One line of a chart: what it is of, the drawing, and the numbers in words."""

    name: str
    setting: str
    track: Markup
    value: str
    interval: str = ""


@dataclass(frozen=True)
class Chart:
    """Tracks over one axis; `unit` says what the axis counts."""

    title: str
    unit: str
    rows: tuple[TrackRow, ...]
    axis: Markup


def gain_charts(gains: Sequence[TaskGain], rows: Sequence[Row]) -> list[Chart]:
    """Return one chart a baseline (and unit), the single expert first."""
    baselines = order_methods([gain.baseline for gain in gains])
    baselines.sort(key=lambda baseline: baseline != SINGLE)
    charts = []
    for baseline in baselines:
        of_baseline = sorted((g for g in gains if g.baseline == baseline), key=lambda g: natural_key(g.task))
        by_unit: dict[Unit, list[TaskGain]] = {}
        for gain in of_baseline:
            by_unit.setdefault(_unit(gain, rows), []).append(gain)
        charts += [_gain_chart(show_method(baseline), unit, some) for unit, some in by_unit.items()]
    return charts


def _unit(gain: TaskGain, rows: Sequence[Row]) -> Unit:
    return unit_of([row.value for row in rows if row.task == gain.task] or _ends(gain))


def _ends(gain: TaskGain) -> list[float]:
    return [gain.mean] if gain.low is None or gain.high is None else [gain.low, gain.high]


def _gain_chart(baseline: str, unit: Unit, gains: Sequence[TaskGain]) -> Chart:
    axis = Axis.over([0.0, *(value * unit.factor for gain in gains for value in _ends(gain))])
    lines = []
    for gain in gains:
        shown = unit.show_gain(gain.mean)
        ends = _ends(gain)
        interval = " to ".join(map(unit.show_gain, ends)) if len(ends) > 1 else ""
        title = f"{gain.task}: {shown} over {baseline}, {f'95% interval {interval}' if interval else 'one seed'}"
        track = draw_interval(axis, gain.mean * unit.factor, [end * unit.factor for end in ends], title)
        seeds = "1 seed" if gain.seeds == 1 else f"{gain.seeds} seeds"
        lines.append(TrackRow(gain.task, seeds, track, shown, interval))
    labels = [tick(value, signed=True) for value in axis.ticks]
    return Chart(baseline, "points" if unit is PERCENT else "metric", tuple(lines), draw_axis(axis, labels))


def verdict(gains: Sequence[TaskGain]) -> str:
    """Return in one sentence how often π-Tuning beats the single expert, and how sure that is."""
    over = [gain for gain in gains if gain.baseline == SINGLE]
    if not over:
        return "No gain over the single expert was measured."
    better = sum(gain.mean > 0 for gain in over)
    surely = sum(gain.low is not None and gain.low > 0 for gain in over)
    worse = sum(gain.high is not None and gain.high < 0 for gain in over)
    text = f"π-Tuning is ahead on {better} of {_targets(len(over))}"
    if all(gain.low is None for gain in over):
        return f"{text}; one seed has no interval."
    return f"{text}; the 95% interval lies above zero on {surely or 'none'} and below zero on {worse or 'none'}."


def _targets(count: int) -> str:
    return "1 target" if count == 1 else f"{count} targets"


def seed_charts(rows: Sequence[Row]) -> list[Chart]:
    """Return one chart a metric: each seed of π above the same seed of the single expert."""
    groups = {key: group for key, group in by_target(rows).items() if any(row.method == PI for row in group)}
    charts = []
    for metric in sorted({metric for _, _, metric in groups}):
        shown = {
            (task, shots): [row for row in group if row.method in (PI, SINGLE)]
            for (task, shots, of), group in groups.items()
            if of == metric
        }
        values = [row.value for group in shown.values() for row in group]
        unit = unit_of(values)
        axis = Axis.over([value * unit.factor for value in values])
        lines = tuple(_seeds(*key, group, axis, unit) for key, group in shown.items())
        title = f"{metric}, {unit.name}" if unit.name else metric
        charts.append(Chart(title, unit.name, lines, draw_axis(axis, [tick(value) for value in axis.ticks])))
    return charts


def _seeds(task: str, shots: int | None, rows: Sequence[Row], axis: Axis, unit: Unit) -> TrackRow:
    above = {row.seed: row.value for row in rows if row.method == PI}
    below = {row.seed: row.value for row in rows if row.method == SINGLE}
    dots, told = [], []
    for seed in sorted(above.keys() | below.keys()):
        pairs = ((show_method(PI), above), (show_method(SINGLE), below))
        told.append(f"seed {seed}, " + ", ".join(f"{name} {unit.show(of[seed])}" for name, of in pairs if seed in of))
        upper, lower = above.get(seed), below.get(seed)
        dots.append(Dot(None if upper is None else upper * unit.factor, None if lower is None else lower * unit.factor))
    paired = above.keys() & below.keys()
    wins = sum(above[seed] > below[seed] for seed in paired)
    title = f"{task}, {show_shots(shots)}: {'; '.join(told)}"
    value = f"{wins} of {len(paired)} seeds ahead" if paired else ""
    return TrackRow(task, show_shots(shots), draw_dots(axis, dots, title), value)


def tick(value: float, signed: bool = False) -> str:
    """Return a number as an axis shows it."""
    digits = 0 if float(f"{value:.6g}").is_integer() else 1 if abs(value) >= 1 else 2
    text = fixed(value, digits)
    return f"+{text}" if signed and value > 1e-9 else text
