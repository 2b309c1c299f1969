"""Fashion-MNIST: articles of clothing in 28 by 28 grey pixels, white on black."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import numpy as np

from pitune.archives import fetch
from pitune.files import sha256_bytes
from pitune.pocket.members import read_members
from pitune.pocket.parts import Item
from pitune.pocket.pinned import ARCHIVES
from pitune.pocket.source import Source
from pitune.pocket.sources.drawings import grey_png
from pitune.tasks.task import Example

_PREFIX = "usr/share/datasets/fashion-mnist/t10k-"  # these 10,000 are more than are kept
_NAMES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_IMAGE_HEADER, _LABEL_HEADER = 16, 8


def _items() -> Iterator[Item]:
    files = dict(read_members(fetch(ARCHIVES["fashion-mnist"]), lambda name: name.startswith(_PREFIX)))
    pixels = gzip.decompress(files[f"{_PREFIX}images-idx3-ubyte.gz"])[_IMAGE_HEADER:]
    labels = gzip.decompress(files[f"{_PREFIX}labels-idx1-ubyte.gz"])[_LABEL_HEADER:]
    images = np.frombuffer(pixels, dtype=np.uint8).reshape(len(labels), 28, 28)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        png = grey_png(image)
        yield Item(Example(f"fashion/{number}", _NAMES[label], image=png), sha256_bytes(png))


SOURCES = (
    Source(
        name="pocket/fashion",
        about="which article of clothing is it?",
        archives=("fashion-mnist",),
        licence="MIT",
        answers=_NAMES,
        read=_items,
        answer_template="a photo of a {}.",
    ),
)
