"""Means, 95% intervals, and numbers as they are printed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from pitune.studies import interval

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Summary:
    """The mean of some values and the half-width of its 95% interval (Student's t); None for a single value."""

    mean: float
    half_width: float | None
    count: int


def summarise(values: Sequence[float]) -> Summary:
    """Return the mean of one or more values and its 95% interval."""
    mean, between = fmean(values), interval(values)
    return Summary(mean, None if between is None else between[1] - mean, len(values))


@dataclass(frozen=True)
class Unit:
    """How the values of one metric are shown: fractions as percent, anything else as it is."""

    factor: float
    digits: int
    name: str

    def show(self, value: float) -> str:
        """Return a value, or a half-width, in this unit."""
        return fixed(value * self.factor, self.digits)

    def show_gain(self, value: float) -> str:
        """Return a difference with its sign."""
        text = self.show(value)
        return text if text.startswith(MINUS) or not text.strip("0.") else f"+{text}"


PERCENT = Unit(100.0, 1, "%")
PLAIN = Unit(1.0, 3, "")


def unit_of(values: Sequence[float]) -> Unit:
    """Return percent if every value could be a fraction."""
    return PERCENT if all(-1.0 <= value <= 1.0 for value in values) else PLAIN


def fixed(value: float, digits: int) -> str:
    """Return a number to some digits after the point, with a real minus sign and never a negative zero."""
    text = f"{abs(value):.{digits}f}"
    return f"{MINUS}{text}" if value < 0 and text.strip("0.") else text


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return at most `most` round numbers that span low to high, both ends covered."""
    span = max(high - low, 1e-9, 1e-6 * max(abs(low), abs(high)))  # floats must tell the ticks apart
    power = 10.0 ** math.floor(math.log10(span / most))
    for step in (power, 2 * power, 5 * power, 10 * power, 20 * power):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first + 1 <= most:
            break
    last = max(last, first + 1)
    return [i * step for i in range(first, last + 1)]
