"""Metrics of referring expressions, whose answers are boxes written as text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pitune.tasks.metrics.metric import Metric

Box = tuple[float, float, float, float]
_TOKEN = r"<loc_(\d+)>"
_NUMBER = r"(?<![\w.])(-?\d+(?:\.\d+)?)(?![\w]|\.\d)"
_BETWEEN = r"[\s,;()\[\]]+(?:[\"']?[A-Za-z]\w*[\"']?\s*[=:]\s*)?"  # with a name, as in x1=10
_TOKENS = re.compile(r"\s*".join([_TOKEN] * 4))
_BRACKETED = re.compile(r"[(\[]\s*" + _BETWEEN.join([_NUMBER] * 4))
_NUMBERS = re.compile(_BETWEEN.join([_NUMBER] * 4))


def parse_box(text: str) -> Box | None:
    """Return the first box `(left, top, right, bottom)` in a text; None if there is none.

    A box is four location tokens in a row, or else four numbers with nothing but commas, spaces and brackets between
    them, those in brackets first: a number on its own, or inside a word, is none of its sides.
    """
    forms = (_TOKENS,) if "<loc_" in text else (_BRACKETED, _NUMBERS)
    found = next(filter(None, (form.search(text) for form in forms)), None)
    if found is None:
        return None
    left, top, right, bottom = map(float, found.groups())
    return left, top, right, bottom


def overlap(one: Box, other: Box) -> float:
    """Return intersection over union of two boxes; 0 where one is empty."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def iou_at_half(written: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return the share of boxes that overlap a right one by half or more of their union."""
    return sum(_hit(one, some) for one, some in zip(written, references, strict=True)) / len(written)


def _hit(written: str, references: Sequence[str]) -> bool:
    box = parse_box(written)
    right = [parse_box(one) for one in references]
    return box is not None and any(one is not None and overlap(box, one) >= 0.5 for one in right)


IOU_AT_HALF = Metric(
    "iou@0.5",
    "share of boxes that overlap a right one by half of their union",
    iou_at_half,
    reads="text",
    mean=True,
    answers="boxes (four numbers, or four tokens such as <loc_12>)",
    accepts=lambda answer: parse_box(answer) is not None,
)
