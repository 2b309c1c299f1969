"""Drawings as the sources hand them on: small PNGs on white, with captions."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_LONG_SIDE = 256
_MOST_PIXELS = 40_000_000


@dataclass(frozen=True)
class Pair:
    """One drawing (PNG, at most 256 pixels long) and its caption.

    Pairs of one `group` may show or say the same and belong in one part.
    """

    id: str
    category: str
    caption: str
    image: bytes
    group: str = ""


def small_png(data: bytes) -> bytes | None:
    """Return a PNG scaled down and laid on white, or None if it is too large to decode safely."""
    width, height = (int.from_bytes(data[start : start + 4], "big") for start in (16, 20))  # of the PNG's header
    if width * height > _MOST_PIXELS:
        return None
    with Image.open(io.BytesIO(data)) as image:
        drawing = image.convert("RGBA")
    drawing.thumbnail((_LONG_SIDE, _LONG_SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    ground = Image.new("RGBA", drawing.size, "white")
    return _encode(Image.alpha_composite(ground, drawing).convert("RGB"))


def grey_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return grey levels, shape (height, width), as a PNG."""
    return _encode(Image.fromarray(pixels))


def _encode(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()
