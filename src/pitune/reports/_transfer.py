"""Measured transfer as a still picture for a document: sources down the left, targets over the columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pitune._files import write_atomic
from pitune.reports._heat_map import Cell, draw_heat_map
from pitune.reports._markup import tag
from pitune.reports._page import resource


def save_transfer_svg(result: Mapping[str, Any], stage: str, path: Path) -> None:
    """Write T (N, N) of `pitune study transfer` on test examples as an SVG.

    1, in full colour, is what the target's own expert gains; pairs without a measure stay blank.
    """
    names = result["tasks"]
    matrix = result["transfer"]["test"][stage]
    cells = [[_cell(value, names[i], names[j]) for j, value in enumerate(line)] for i, line in enumerate(matrix)]
    drawing = draw_heat_map(names, names, cells, f"{stage} transfer from each task (row) to each (column)")
    inside = tag("style", Markup(resource("palette.css")))
    inside += tag("rect", width="100%", height="100%", class_="back")
    head, body = str(drawing).split(">", 1)
    write_atomic(path, f'{head} xmlns="http://www.w3.org/2000/svg">{inside}{body}\n'.encode())


def _cell(value: float | None, source: str, target: str) -> Cell:
    if value is None:
        return Cell("", None, f"{source} to {target}: not measured, the target's own gain is too small")
    return Cell(f"{value:.2f}", value, f"{source} to {target}: {value:.2f} of the target's own gain")
