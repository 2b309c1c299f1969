"""Tux Paint's stamps: photographs and drawings with captions. GPL-2: read in place, never shipped.

No stamp is ever trained on by the backbone's alignment, which is judged by retrieval among them.
"""

from __future__ import annotations

from dataclasses import asdict, replace

import pyarrow as pa

from pitune.archives import fetch
from pitune.files import sha256_bytes
from pitune.pocket.members import read_members
from pitune.pocket.parts import groups, stem
from pitune.pocket.pinned import ARCHIVES
from pitune.pocket.prepared import prepared
from pitune.pocket.sources.drawings import Pair, by_category, small_png

_KINDS = (".png", ".txt")
_FOLDER = "usr/share/tuxpaint/stamps/"
_ANSWERS = {
    "animals": "animal",
    "food": "food",
    "household": "household article",
    "plants": "plant",
    "seasonal": "holiday",
    "symbols": "symbol",
    "town": "building or street",
    "vehicles": "vehicle",
}
"""The categories with enough stamps for every part."""


def pairs() -> list[Pair]:
    """Return the stamps with their English captions, one for every caption; the first call reads the archive."""
    table = prepared("tuxpaint-pairs", (ARCHIVES["tuxpaint"],), 1, _build)
    return [Pair(**row) for row in table.to_pylist()]


def _build() -> pa.Table:
    wanted = read_members(fetch(ARCHIVES["tuxpaint"]), lambda name: name.startswith(_FOLDER) and name[-4:] in _KINDS)
    files = dict(wanted)
    found = []
    for name in sorted(name for name in files if name.endswith(".png")):
        caption, image = _caption(files.get(name.removesuffix(".png") + ".txt", b"")), small_png(files[name])
        if caption and image is not None:
            path = name.removeprefix(_FOLDER).removesuffix(".png")
            found.append(Pair(path, path.split("/")[0], caption, image))
    named = groups([(f"caption {stem(pair.caption)}", f"pixels {sha256_bytes(pair.image)}") for pair in found])
    first: dict[str, Pair] = {}
    for pair, group in zip(found, named, strict=True):
        first.setdefault(group, replace(pair, group=group))
    return pa.Table.from_pylist([asdict(pair) for pair in first.values()])


def _caption(text: bytes) -> str:
    """Return the first line, which is English; the others are translations."""
    lines = text.decode("utf-8", "replace").splitlines()
    return lines[0].strip() if lines else ""


def part_group(pair: Pair) -> str:
    """Return what decides a stamp's part."""
    return f"stamp {pair.group}"


SOURCES = by_category(
    "tuxpaint",
    pairs,
    part_group,
    _ANSWERS,
    about=("of which category is the stamp in the picture?", "of which category is the stamp with this caption?"),
    archives=("tuxpaint",),
    licence="GPL-2.0",
)
