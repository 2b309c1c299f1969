"""Textile: simulated close-ups of a weave without a defect, with a local one, or wrong all over."""

from __future__ import annotations

from collections.abc import Iterator

from pitune.archives import fetch
from pitune.files import sha256_bytes
from pitune.pocket.members import read_members
from pitune.pocket.parts import Item
from pitune.pocket.pinned import ARCHIVES
from pitune.pocket.source import Source
from pitune.tasks.task import Example

_FOLDER = "conformal_clip_data/data/textile_images/simulated/"


def _items() -> Iterator[Item]:
    for name, data in read_members(fetch(ARCHIVES["textile"]), lambda name: name.startswith(_FOLDER)):
        target, file = name.removeprefix(_FOLDER).split("/")
        yield Item(Example(f"textile/{target}/{file}", target, image=data), sha256_bytes(data))


SOURCES = (
    Source(
        name="pocket/textile",
        about="what defect does the weave have?",
        archives=("textile",),
        licence="MIT",
        answers=("nominal", "local", "global"),
        read=_items,
        answer_template="a photo of a textile with a {} defect.",
    ),
)
