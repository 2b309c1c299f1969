"""The table of results: targets down, methods across, mean and interval over seeds, best in bold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from pitune.reports.numbers import Summary, Unit, summarise, unit_of
from pitune.reports.text import natural_key
from pitune.studies import BASELINES, PI, Row
from pitune.tasks.metrics import worth


def show_method(method: str) -> str:
    """Return a method's name as readers see it."""
    return (BASELINES.get(method).title if method in BASELINES.names() else "") or method


def order_methods(methods: Sequence[str]) -> list[str]:
    """Return each method once: π-Tuning, those that are registered in their order, the others after them by name."""
    there, registered = set(methods), sorted(BASELINES.names(), key=lambda method: method != PI)
    return [method for method in registered if method in there] + sorted(there - set(registered), key=natural_key)


def show_shots(shots: int | None) -> str:
    """Return how many labels per class there were."""
    return "all labels" if shots is None else "1 shot" if shots == 1 else f"{shots} shots"


@dataclass(frozen=True)
class Entry:
    """One method on one target, as printed; `untouched` says of how many of its runs nothing but the backbone came."""

    value: str
    interval: str
    best: bool
    untouched: str


@dataclass(frozen=True)
class Line:
    """One target's line of the table; an entry is None where a method was not run."""

    task: str
    setting: str
    entries: tuple[Entry | None, ...]


@dataclass(frozen=True)
class Table:
    """The heads of the columns and the lines below them."""

    methods: tuple[str, ...]
    lines: tuple[Line, ...]

    @property
    def untouched(self) -> bool:
        """Whether some run of it is the untouched backbone."""
        return any(entry and entry.untouched for line in self.lines for entry in line.entries)


Key = tuple[str, int | None, str]


def by_target(rows: Sequence[Row]) -> dict[Key, list[Row]]:
    """Return the rows of each (task, shots, metric), sorted by name and then by shots, all labels last."""
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        groups.setdefault((row.task, row.shots, row.metric), []).append(row)
    return dict(sorted(groups.items(), key=lambda item: _place(item[0])))


def _place(key: Key) -> tuple[object, ...]:
    task, shots, metric = key
    return natural_key(task), shots is None, shots or 0, metric


def build_table(rows: Sequence[Row]) -> Table:
    """Return the table of all rows."""
    methods = order_methods([row.method for row in rows])
    lines = tuple(_line(key, group, methods) for key, group in by_target(rows).items())
    return Table(tuple(show_method(method) for method in methods), lines)


def _line(key: Key, rows: Sequence[Row], methods: Sequence[str]) -> Line:
    task, shots, metric = key
    unit = unit_of([row.value for row in rows])
    of = {method: [row for row in rows if row.method == method] for method in methods}
    summaries = {method: summarise([row.value for row in some]) for method, some in of.items() if some}
    best = unit.show(max((summary.mean for summary in summaries.values()), key=partial(worth, metric)))
    seeds = max(summary.count for summary in summaries.values())
    count = f"n = {_range([row.n for row in rows])}".replace(" ", "\N{NO-BREAK SPACE}")
    setting = f"{show_shots(shots)}, {metric}, {_count(seeds, 'seed')}, {count}"
    entries = tuple(
        _entry(summaries[method], unit, seeds, best, of[method]) if method in summaries else None for method in methods
    )
    return Line(task, setting, entries)


def _entry(summary: Summary, unit: Unit, seeds: int, best: str, rows: Sequence[Row]) -> Entry:
    value = unit.show(summary.mean)
    interval = "" if summary.half_width is None else f"±{unit.show(summary.half_width)}"
    if summary.count != seeds:
        interval = f"{interval} ({_count(summary.count, 'seed')})".strip()
    found = sum(bool(row.untouched) for row in rows)
    nothing = f"untouched backbone{f' in {found} of {len(rows)}' if len(rows) > 1 else ''}" if found else ""
    return Entry(value, interval, value == best, nothing)


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low}–{high}"
