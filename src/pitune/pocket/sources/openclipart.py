"""Openclipart: drawings with titles and keywords; one side of them aligns the backbone, the other makes tasks.

Pairs go to a side by a hash of their group: pairs with the same caption, the same file name up to
trailing numbers, or the same pixels are one group, so no image and no caption is on both sides.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from pitune.archives import fetch
from pitune.files import sha256_bytes
from pitune.pocket.members import read_members
from pitune.pocket.parts import groups, position, stem
from pitune.pocket.pinned import ARCHIVES
from pitune.pocket.prepared import prepared
from pitune.pocket.sources.drawings import Pair, by_category, small_png

_PNG, _SVG = ARCHIVES["openclipart-png"], ARCHIVES["openclipart-svg"]
_FOLDER = "usr/share/openclipart/"
_ALIGNMENT_SHARE = 0.6
_MOST_PER_CAPTION = 4
_MOST_KEYWORDS = 6
_SERIES = 4
_NOT_FOR_TASKS = ("shapes", "computer", "unsorted")
_ARTISTS = re.compile(r"\b(archite\w*|frances?c?\w*|rollandin\w*|ganson|nicu|aj|r)\b")
_VARIANTS = re.compile(
    r"\b(b and w|bw|black|white|grey|gray|red|green|blue|yellow|orange|pink|purple|brown|gold|silver|\d+|\w)\b"
)
_NO_KEYWORDS = {"unsorted", "clip art", "icon", "icons", "theme", "action", "lemon theme icon"}


def pairs(part: Literal["alignment", "tasks"]) -> list[Pair]:
    """Return the drawings of one side; the first call reads them out of the archives (about two minutes)."""
    table = prepared("openclipart-pairs", (_PNG, _SVG), 1, _build)
    rows = table.filter(pc.equal(table["side"], part)).drop_columns("side").to_pylist()
    return [Pair(**row) for row in rows]


def _build() -> pa.Table:
    captions = _captions()
    images = dict(_images(set(captions)))
    names = sorted(images)
    keys = [
        (f"caption {_base(captions[name])}", f"file {_base(_file_words(name))}", f"pixels {sha256_bytes(images[name])}")
        for name in names
    ]
    rows, seen = [], Counter[str]()
    for name, key, group in zip(names, keys, groups(keys), strict=True):
        category = name.split("/")[0]
        side = "alignment" if position(group) < _ALIGNMENT_SHARE else "tasks"
        seen.update(key)
        if max(seen[key[0]], seen[key[1]]) > _MOST_PER_CAPTION or seen[key[2]] > 1:
            continue
        if side == "tasks" and category in _NOT_FOR_TASKS:
            continue
        rows.append(
            {
                "id": name,
                "category": category.replace("_", " "),
                "caption": captions[name],
                "image": images[name],
                "group": group,
                "side": side,
            }
        )
    return pa.Table.from_pylist(rows)


def _captions() -> dict[str, str]:
    """Return each drawing's caption by its path without suffix."""
    found: dict[str, tuple[str, list[str]]] = {}
    path = fetch(_SVG)
    for member, data in read_members(path, lambda name: name.startswith(_FOLDER) and name.endswith(".svg")):
        name = member.removeprefix(f"{_FOLDER}svg/").removesuffix(".svg")
        found[name] = _metadata(data.decode("utf-8", "replace"))
    titles = Counter(stem(title) for title, _ in found.values())
    captions = {}
    for name, (title, keywords) in found.items():
        series = titles[stem(title)] >= _SERIES or not stem(title)  # a series' title says little of the one drawing
        captions[name] = _caption(_file_words(name) if series else title, keywords, name)
    return {name: caption for name, caption in captions.items() if stem(caption)}


def _metadata(svg: str) -> tuple[str, list[str]]:
    """Return title and keywords; by regular expressions, so nothing in the file is ever expanded."""
    block = re.search(r"<metadata.*?</metadata>", svg, re.DOTALL)
    text = block.group() if block else ""
    title = re.search(r"<dc:title>([^<]*)</dc:title>", text)
    keywords = re.findall(r"<rdf:li[^>]*>([^<]*)</rdf:li>", text)
    return _clean(title.group(1) if title else ""), [_clean(keyword) for keyword in keywords]


def _clean(text: str) -> str:
    plain = re.sub(r"[\s_]+", " ", html.unescape(html.unescape(text))).strip()
    return "" if plain.lower().startswith(("clipart by", "hash", "0x", "http", "part of the flat icon")) else plain


def _file_words(name: str) -> str:
    words = re.sub(r"[\W_\d]+", " ", PurePosixPath(name).name)
    return " ".join(_ARTISTS.sub(" ", words.lower()).split())


def _base(text: str) -> str:
    """Return `text` without what tells variants of one drawing apart: colours, numbers, single letters."""
    plain = stem(text)
    return " ".join(_VARIANTS.sub(" ", plain).split()) or plain


def _caption(title: str, keywords: list[str], name: str) -> str:
    """Join the title and the keywords that add to it and do not give the category away."""
    given = tuple(word.rstrip("s") for word in name.split("/")[0].split("_"))
    words, kept = title.lower(), [title]
    for keyword in dict.fromkeys(keyword.lower() for keyword in keywords):
        plain = keyword.rstrip("s")
        known = plain in words or keyword in _NO_KEYWORDS or keyword.startswith(given)
        new = len(plain) > 2 and not known and not _ARTISTS.search(keyword)
        if new and len(kept) <= _MOST_KEYWORDS:
            kept.append(keyword)
            words += f" {keyword}"
    return ", ".join(text for text in kept if text)


def _images(wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the drawings' paths and pixels, small and on white; those too large to decode safely are passed over."""
    path = fetch(_PNG)
    for member, data in read_members(path, lambda name: name.startswith(_FOLDER) and name.endswith(".png")):
        name = member.removeprefix(f"{_FOLDER}png/").removesuffix(".png")
        if name in wanted:
            small = small_png(data)
            if small is not None:
                yield name, small


def part_group(pair: Pair) -> str:
    """Return what decides a pair's part: its group's own hash has chosen the side already, another one the part."""
    return f"part {pair.group}"


CATEGORIES = {
    "animals": "animal",
    "food": "food",
    "geography": "map or landscape",
    "office": "office article",
    "people": "person",
    "recreation": "leisure",
    "signs and symbols": "sign or symbol",
    "tools": "tool",
    "transportation": "vehicle or traffic",
}

SOURCES = by_category(
    "openclipart",
    partial(pairs, "tasks"),
    part_group,
    CATEGORIES,
    about=("of which category is the drawing?", "of which category is the drawing with this caption?"),
    archives=("openclipart-png", "openclipart-svg"),
    licence="public domain",
)
