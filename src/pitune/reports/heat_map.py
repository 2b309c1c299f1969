"""A matrix as coloured cells, each with its number: a table in a page, a drawing in a document."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pitune.reports.markup import tag
from pitune.reports.text import columns, short_labels

_CHARACTER = 7.2  # the width of one character of a label, in the drawing's units
_SLOPE = math.radians(45)
_WIDTH, _HEIGHT = 40.0, 30.0  # of a cell
_PRINTED = 24  # columns at most whose numbers are printed on paper


@dataclass(frozen=True)
class Cell:
    """One number: as text, as a share of full colour from −1 to 1, and in words; a share of None leaves it blank."""

    text: str
    share: float | None
    tip: str = ""


@dataclass(frozen=True)
class HeatRow:
    """A row of a heat map: its name, and each cell with its colour."""

    name: str
    cells: tuple[tuple[Cell, str], ...]


@dataclass(frozen=True)
class HeatMap:
    """A heat map as a page shows it; `narrow` ones have more columns than paper has room for their numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[HeatRow, ...]

    @property
    def narrow(self) -> bool:
        """Whether numbers are left out on paper."""
        return len(self.columns) > _PRINTED


def heat_map(rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[Cell]], title: str) -> HeatMap:
    """Return a heat map for a page, whose names stand in full."""
    lines = (
        HeatRow(name, tuple((cell, _colour(cell)) for cell in line)) for name, line in zip(rows, cells, strict=True)
    )
    return HeatMap(title, tuple(columns), tuple(lines))


def _colour(cell: Cell) -> str:
    """Return the classes of a cell's colour in tenths, and of the ink that can be read on it in both schemes."""
    if cell.share is None:
        return "none"
    tenths = round(10 * min(1.0, abs(cell.share)))
    ink = "on-full" if tenths > 7 else "on-middle" if tenths > 5 else "on-faint"
    return f"{'below' if cell.share < 0 else 'above'} s{tenths} {ink}"


def draw_heat_map(
    rows: Sequence[str],
    names: Sequence[str],
    cells: Sequence[Sequence[Cell]],
    title: str,
) -> Markup:
    """Return an SVG with `rows` down the left, `names` slanting over the columns, and one cell at each crossing."""
    row_labels, labels = short_labels(rows), short_labels(names)
    left = max(columns(text) for text in row_labels) * _CHARACTER + 14
    reach = max(columns(text) for text in labels) * _CHARACTER
    top = reach * math.sin(_SLOPE) + 16
    right = max(0.0, columns(labels[-1]) * _CHARACTER * math.cos(_SLOPE) - _WIDTH / 2 + 12)
    total = (left + len(names) * _WIDTH + right, top + len(rows) * _HEIGHT + 2)
    parts = [_column(label, left + (j + 0.5) * _WIDTH, top - 6) for j, label in enumerate(labels)]
    for i, row in enumerate(cells):
        y = top + i * _HEIGHT
        parts.append(tag("text", row_labels[i], x=left - 8, y=y + _HEIGHT / 2 + 4, text_anchor="end"))
        parts += [_cell(cell, left + j * _WIDTH, y) for j, cell in enumerate(row)]
    return tag(
        "svg",
        *parts,
        viewBox=f"0 0 {total[0]:.0f} {total[1]:.0f}",
        width=f"{total[0]:.0f}",
        class_="heat",
        role="img",
        aria_label=title,
    )


def _column(label: str, x: float, y: float) -> Markup:
    return tag("text", label, transform=f"translate({x:.1f} {y:.1f}) rotate(-45)")


def _cell(cell: Cell, x: float, y: float) -> Markup:
    share = 0.0 if cell.share is None else max(-1.0, min(1.0, cell.share))
    colour = "none" if cell.share is None else "below" if share < 0 else "above"
    box = tag(
        "rect",
        *([tag("title", cell.tip)] if cell.tip else []),
        x=x + 1,
        y=y + 1,
        width=_WIDTH - 2,
        height=_HEIGHT - 2,
        rx=3,
        class_=f"cell {colour}",
        fill_opacity=0.06 + 0.94 * abs(share),
    )
    # Shares at which figure.css needs another ink to keep a contrast of 4.5, in the dark scheme and in the light.
    ink = "on-full" if abs(share) > 0.76 else "on-middle" if abs(share) > 0.55 else "on-faint"
    return box + tag("text", cell.text, x=x + _WIDTH / 2, y=y + _HEIGHT / 2 + 4, class_=ink, text_anchor="middle")
