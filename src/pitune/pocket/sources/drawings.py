"""Drawings as the sources hand them on: small PNGs on white, with captions."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pitune.pocket.parts import Item, Limits
from pitune.pocket.source import Source
from pitune.tasks.task import Example

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


def by_category(
    name: str,
    pairs: Callable[[], Iterable[Pair]],
    group: Callable[[Pair], str],
    answers: Mapping[str, str],
    *,
    about: tuple[str, str],
    archives: tuple[str, ...],
    licence: str,
) -> tuple[Source, Source]:
    """Return two tasks that ask for the category of pairs: `<name>-images` shows them, `<name>-captions` reads them.

    `answers` maps the categories that are asked for; `group` says what is never divided between parts.
    """

    def items(shown: bool) -> Iterator[Item]:
        for pair in pairs():
            if pair.category in answers:
                text, image = (None, pair.image) if shown else (pair.caption, None)
                yield Item(Example(f"{name}/{pair.id}", answers[pair.category], text=text, image=image), group(pair))

    images, captions = (
        Source(
            name=f"pocket/{name}-{kind}",
            about=asked,
            archives=archives,
            licence=licence,
            answers=tuple(answers.values()),
            read=partial(items, kind == "images"),
            answer_template="a picture of a {}.",
            limits=Limits(skew=4.0),
        )
        for kind, asked in zip(("images", "captions"), about, strict=True)
    )
    return images, captions


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
