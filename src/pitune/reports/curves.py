"""How runs went: their losses by step, as `log.jsonl` of each run has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, ValidationError

from pitune.errors import InputError, first_problem
from pitune.reports.markup import coordinate, tag
from pitune.reports.numbers import fixed, ticks
from pitune.reports.text import clean, natural_key
from pitune.training import LOG

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _EDGE = 640.0, 250.0, 48.0, 26.0, 12.0
_COLOURS = 5


class LogLine(BaseModel):
    """A look at a run: the mean training loss since the last one, and how validation examples are answered."""

    model_config = ConfigDict(frozen=True, extra="allow")

    step: int
    loss: float | None = None
    validation: float | None = None
    validation_loss: float | None = None


Curves = Mapping[str, Sequence[LogLine]]


@dataclass(frozen=True)
class CurveChart:
    """Losses by step, and a mark for each way of training in its legend."""

    title: str
    drawing: Markup
    legend: tuple[tuple[Markup, str], ...]


def read_curves(folder: Path) -> Curves:
    """Return the log of each run below a folder, by its name; raise `InputError` if one was altered."""
    found = {}
    for path in sorted(folder.rglob(LOG), key=lambda path: natural_key(str(path))):
        try:
            lines = [LogLine.model_validate_json(line) for line in path.read_bytes().splitlines()]
        except ValidationError as error:
            raise InputError(f"{path}: malformed at {first_problem(error)}; delete it") from error
        found["-".join(path.parent.relative_to(folder).parts) or "all"] = lines
    return found


def curve_charts(curves: Curves) -> list[CurveChart]:
    """Return the charts of training loss and, where runs looked at validation examples, of their loss."""
    fields = {"Training loss": "loss", "Validation loss": "validation_loss"}
    charts = [
        _chart(title, {name: _points(lines, field) for name, lines in curves.items()})
        for title, field in fields.items()
    ]
    return [chart for chart in charts if chart is not None]


def _points(lines: Sequence[LogLine], field: str) -> list[tuple[int, float]]:
    return [(line.step, value) for line in lines if (value := getattr(line, field)) is not None]


def _chart(title: str, curves: Mapping[str, list[tuple[int, float]]]) -> CurveChart | None:
    curves = {name: points for name, points in curves.items() if len(points) > 1}
    if not curves:
        return None
    ways = list(dict.fromkeys(map(_way, curves)))
    values = [value for points in curves.values() for _, value in points]
    down, across = ticks(min(0.0, *values), max(values)), ticks(0, max(points[-1][0] for points in curves.values()))

    def at(step: float, value: float) -> tuple[float, float]:
        x = _LEFT + (_WIDTH - _LEFT - _EDGE) * step / across[-1]
        return x, _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _EDGE) * (value - down[0]) / (down[-1] - down[0])

    parts = []
    for value in down:
        (x1, y), (x2, _) = at(0, value), at(across[-1], value)
        parts.append(tag("line", x1=x1, x2=x2, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", f"{value:g}", x=x1 - 8, y=y + 4, text_anchor="end"))
    parts += [tag("text", f"{step:g}", x=at(step, 0)[0], y=_HEIGHT - 5, text_anchor="middle") for step in across]
    for name, points in sorted(curves.items(), key=lambda pair: not _is_fold(pair[0])):
        places = " ".join(",".join(map(coordinate, at(*point))) for point in points)
        style = f"{'fold' if _is_fold(name) else 'whole'} stroke-{ways.index(_way(name)) % _COLOURS}"
        parts.append(tag("polyline", points=places, class_=style))
    told = "; ".join(
        f"{name} from {fixed(points[0][1], 3)} to {fixed(points[-1][1], 3)}" for name, points in curves.items()
    )
    box = f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}"
    drawing = tag("svg", *parts, viewBox=box, class_="curve", role="img", aria_label=f"{title} by step: {clean(told)}")
    return CurveChart(title, drawing, tuple((_mark(i % _COLOURS), way) for i, way in enumerate(ways)))


def _is_fold(name: str) -> bool:
    return "fold-" in name


def _way(name: str) -> str:
    """Return the way of training that a run is of: that of all labels, for one of a fold."""
    return name.split("fold-")[0].rstrip("-") or "all"


def _mark(colour: int) -> Markup:
    line = tag("line", x1=0, x2=18, y1=6, y2=6, class_=f"stroke-{colour}", stroke_width=3)
    return tag("svg", line, width=18, height=12, aria_hidden="true")
