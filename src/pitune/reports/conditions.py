"""What a study's numbers pass and fail: harm, guessing, and claims that are too sure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import fmean
from typing import NamedTuple

from pitune.reports.comparison import interval as in_points
from pitune.reports.comparison import named, points
from pitune.studies import PI, SINGLE, CompareResults, DemoResults, Results, Row, interval, paired_gains
from pitune.studies.statistics import HALF_A_POINT
from pitune.tasks import short_name
from pitune.training import Condition, wilson

_ONLY = (CompareResults, DemoResults)  # what measures π-Tuning beside the single expert


class _Span(NamedTuple):
    """A task's mean value over seeds, the ends of its interval, and the mean of something that its rows hold."""

    task: str
    value: float
    low: float
    high: float
    held: float


def conditions_of(results: Results) -> list[Condition]:
    """Return what π-Tuning passes and fails on the tasks of a study, by shots, as far as its rows tell."""
    if not isinstance(results, _ONLY):
        return []
    shots = dict.fromkeys(row.shots for row in results.rows)
    return [
        one.model_copy(update={"name": f"{one.name}, {named(few).lower()}"}) if len(shots) > 1 else one
        for few in shots
        for one in _conditions([row for row in results.rows if row.shots == few])
    ]


def _conditions(rows: Sequence[Row]) -> Iterator[Condition]:
    gains = [gain for gain in paired_gains(rows, PI, SINGLE) if gain.high is not None]  # of more than one seed
    if gains:
        harmed = [
            f"{short_name(gain.task)} {points(gain.mean)} {in_points(gain.low, gain.high)}"
            for gain in gains
            if gain.high is not None and gain.high < -HALF_A_POINT
        ]
        yield _judged("no harm", "half a point below the single expert, interval and all", harmed, len(gains))
    of = _by_task(row for row in rows if row.method == PI)
    guessed = _spans(of, lambda row: row.chance)
    if guessed:
        failed = [f"{one.task} {one.value:.3f}, guessing {one.held:.3f}" for one in guessed if one.low <= one.held]
        yield _judged("better than guessing", "not told from guessing", failed, len(guessed))
    claimed = _spans(of, lambda row: row.claimed)
    if claimed:
        failed = [f"{one.task} claims {one.held:.3f}, right {one.value:.3f}" for one in claimed if one.held > one.high]
        yield _judged("not too sure", "surer than they are right", failed, len(claimed))


def _judged(name: str, what: str, failed: Sequence[str], of: int) -> Condition:
    counted = f"{len(failed) or 'none'} of {of} task{'s' * (of != 1)}"
    said = f"{what}: {'; '.join(failed)} ({counted})" if failed else f"{what}: {counted}"
    return Condition(name=name, passed=not failed, said=said)


def _by_task(rows: Iterable[Row]) -> dict[str, list[Row]]:
    of: dict[str, list[Row]] = {}
    for row in rows:
        of.setdefault(row.task, []).append(row)
    return of


def _spans(of: dict[str, list[Row]], held: Callable[[Row], float | None]) -> list[_Span]:
    """Return the tasks whose rows all hold something; an interval of one seed is over the examples tested."""
    spans = []
    for name, rows in of.items():
        kept = [value for row in rows if (value := held(row)) is not None]
        if len(kept) == len(rows):
            values = [row.value for row in rows]
            low, high = interval(values) or wilson(values[0], rows[0].n)
            spans.append(_Span(short_name(name), fmean(values), low, high, fmean(kept)))
    return spans
