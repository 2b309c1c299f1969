"""Points along a line: gains with their intervals, and seeds as dots. Positions are percent, so any width fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pitune.reports.markup import percent, tag
from pitune.reports.numbers import ticks

_EDGE = 3.0  # percent kept free at both ends, so that marks at the ends are whole


@dataclass(frozen=True)
class Axis:
    """A linear scale from the first tick to the last."""

    ticks: tuple[float, ...]

    @classmethod
    def over(cls, values: Sequence[float]) -> Axis:
        """Return an axis that covers all the values."""
        return cls(tuple(ticks(min(values), max(values))))

    def at(self, value: float) -> float:
        """Return where a value lies, in percent of the width."""
        low, high = self.ticks[0], self.ticks[-1]
        return _EDGE + (100.0 - 2 * _EDGE) * (value - low) / (high - low)


def draw_axis(axis: Axis, labels: Sequence[str]) -> Markup:
    """Return the line of numbers below a set of tracks."""
    parts = [
        tag("text", label, x=percent(axis.at(value)), y=14, text_anchor="middle")
        for value, label in zip(axis.ticks, labels, strict=True)
    ]
    return tag("svg", *parts, class_="track axis", height=18, aria_hidden="true")


def draw_interval(axis: Axis, mean: float, ends: Sequence[float], title: str) -> Markup:
    """Return a point and its interval, if it has two ends, against a line at zero."""
    low, high = min(ends), max(ends)
    side = "unsure" if len(ends) < 2 else "better" if low > 0 else "worse" if high < 0 else "unsure"
    start, end = percent(axis.at(low)), percent(axis.at(high))
    parts = [
        *_grid(axis, 34),
        _line(percent(axis.at(0.0)), percent(axis.at(0.0)), 0, 34, "zero"),
        _line(start, end, 17, 17, f"bar {side}"),
        _line(start, start, 11, 23, f"bar {side}"),
        _line(end, end, 11, 23, f"bar {side}"),
        tag("circle", cx=percent(axis.at(mean)), cy=17, r=6, class_=side),
    ]
    return tag("svg", *parts, class_="track", height=34, role="img", aria_label=title)


@dataclass(frozen=True)
class Dot:
    """One seed's value on the upper and on the lower lane, either possibly absent."""

    upper: float | None
    lower: float | None


def draw_dots(axis: Axis, dots: Sequence[Dot], title: str) -> Markup:
    """Return two lanes of marks, filled above and hollow below, with a line between those of one seed."""
    parts = list(_grid(axis, 48))
    for dot in dots:
        if dot.upper is not None and dot.lower is not None:
            parts.append(_line(percent(axis.at(dot.upper)), percent(axis.at(dot.lower)), 13, 35, "pair"))
    for dot in dots:
        if dot.lower is not None:
            mark = tag("rect", x=-5, y=-5, width=10, height=10, class_="lower", transform="rotate(45)")
            parts.append(tag("svg", mark, x=percent(axis.at(dot.lower)), y=35, class_="mark"))
        if dot.upper is not None:
            parts.append(tag("circle", cx=percent(axis.at(dot.upper)), cy=13, r=6, class_="upper"))
    return tag("svg", *parts, class_="track", height=48, role="img", aria_label=title)


def _grid(axis: Axis, height: int) -> list[Markup]:
    places = [percent(axis.at(value)) for value in axis.ticks]
    return [_line(place, place, 0, height, "grid") for place in places]


def _line(x1: str, x2: str, y1: int, y2: int, class_: str) -> Markup:
    return tag("line", x1=x1, x2=x2, y1=y1, y2=y2, class_=class_)
