"""Easy-VQA: questions about the shape and colour of the one figure in a picture."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pitune.archives import fetch
from pitune.files import sha256_bytes
from pitune.pocket.members import read_members
from pitune.pocket.parts import Item, position
from pitune.pocket.pinned import ARCHIVES
from pitune.pocket.source import Source
from pitune.tasks.task import Example

_COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
_SHAPES = ("circle", "rectangle", "triangle")
_IMAGE_SHARE = 0.4
"""So many of the images are enough for the questions kept, and quick to encode."""


def _items() -> Iterator[Item]:
    files = dict(read_members(fetch(ARCHIVES["easy-vqa"]), lambda name: name.endswith((".png", "questions.json"))))
    for part in ("train", "test"):
        for number, (question, answer, image) in enumerate(json.loads(files[f"easy_vqa/data/{part}/questions.json"])):
            png = files[f"easy_vqa/data/{part}/images/{image}.png"]
            group = sha256_bytes(png)
            if position(f"kept {group}") < _IMAGE_SHARE:
                yield Item(Example(f"easy-vqa/{part}/{number}", answer, text=question, image=png), group)


SOURCES = (
    Source(
        name="pocket/easy-vqa",
        about="answer a question about the figure in the picture",
        archives=("easy-vqa",),
        licence="MIT",
        answers=("no", "yes", *_SHAPES, *_COLOURS),
        read=_items,
        answer_template="The answer is {}.",
    ),
)
