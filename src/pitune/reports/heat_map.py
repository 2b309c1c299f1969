"""A matrix as coloured cells, each with its number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pitune.reports.markup import tag
from pitune.reports.text import columns, short_labels

_CHARACTER = 7.2  # the width of one character of a label, in the drawing's units
_SLOPE = math.radians(45)


@dataclass(frozen=True)
class Cell:
    """One number: as text, as a share of full colour from −1 to 1, and in words; a share of None leaves it blank."""

    text: str
    share: float | None
    tip: str


def draw_heat_map(
    rows: Sequence[str],
    names: Sequence[str],
    cells: Sequence[Sequence[Cell]],
    title: str,
    width: float = 40.0,
    height: float = 30.0,
) -> Markup:
    """Return an SVG with `rows` down the left, `names` slanting over the columns, and one cell at each crossing.

    Numbers are left out where cells are too small to hold them.
    """
    row_labels, labels = short_labels(rows), short_labels(names)
    left = max(columns(text) for text in row_labels) * _CHARACTER + 14
    reach = max(columns(text) for text in labels) * _CHARACTER
    top = reach * math.sin(_SLOPE) + 16
    right = max(0.0, columns(labels[-1]) * _CHARACTER * math.cos(_SLOPE) - width / 2 + 12)
    total = (left + len(names) * width + right, top + len(rows) * height + 2)
    parts = [_column(label, left + (j + 0.5) * width, top - 6) for j, label in enumerate(labels)]
    for i, row in enumerate(cells):
        y = top + i * height
        parts.append(tag("text", row_labels[i], x=left - 8, y=y + height / 2 + 4, text_anchor="end"))
        parts += [_cell(cell, left + j * width, y, width, height) for j, cell in enumerate(row)]
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


def _cell(cell: Cell, x: float, y: float, width: float, height: float) -> Markup:
    share = 0.0 if cell.share is None else max(-1.0, min(1.0, cell.share))
    colour = "none" if cell.share is None else "below" if share < 0 else "above"
    box = tag(
        "rect",
        x=x + 1,
        y=y + 1,
        width=width - 2,
        height=height - 2,
        rx=3,
        class_=f"cell {colour}",
        fill_opacity=0.06 + 0.94 * abs(share),
        data_tip=cell.tip,
    )
    if width < 34 or not cell.text:
        return box
    # Shares at which palette.css needs another ink to keep a contrast of 4.5, in the dark scheme and in the light.
    ink = "on-full" if abs(share) > 0.76 else "on-middle" if abs(share) > 0.55 else "on-faint"
    return box + tag("text", cell.text, x=x + width / 2, y=y + height / 2 + 4, class_=ink, text_anchor="middle")
