"""Emoji: Google's drawings and their names in nine categories; both tasks have the same emoji in the same part."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from pitune.archives import fetch
from pitune.files import sha256_bytes
from pitune.pocket.members import read_members
from pitune.pocket.parts import Item, groups, stem
from pitune.pocket.pinned import ARCHIVES
from pitune.pocket.source import Source
from pitune.pocket.sources.drawings import small_png
from pitune.tasks.task import Example

_LIST = "package/emoji.json"
_IMAGES = "package/img/google/64/"
_CATEGORIES = {
    "Activities": "activity",
    "Animals & Nature": "animal or plant",
    "Flags": "flag",
    "Food & Drink": "food or drink",
    "Objects": "object",
    "People & Body": "person",
    "Smileys & Emotion": "emotion",
    "Symbols": "symbol",
    "Travel & Places": "place or vehicle",
}
_VARIANT = re.compile(r"\b(man|woman|men|women|person|people|male|female|boy|girl|left|right|up|down|sign)s?\b")
_SERIES = ("family", "keycap", "clock", "alphanum", "geometric", "couple", "kiss")
"""Emoji of these differ in a letter, a colour or who is in the family."""


class Emoji(NamedTuple):
    """One emoji: its drawing (PNG), name and category."""

    id: str
    name: str
    target: str
    image: bytes


def emoji() -> Iterator[tuple[Emoji, str]]:
    """Yield one emoji of every set of near-duplicates, and its group."""
    wanted = read_members(fetch(ARCHIVES["emoji"]), lambda name: name == _LIST or name.startswith(_IMAGES))
    files = dict(wanted)
    found, keys = [], []
    for entry in json.loads(files[_LIST]):
        data = files.get(f"{_IMAGES}{entry['image']}")
        image = None if data is None else small_png(data)
        name = _name(entry)
        if image is None or not name or entry["category"] not in _CATEGORIES:
            continue  # skin tones on their own are "Component"; tones of an emoji have no entry
        found.append(Emoji(f"emoji/{entry['unified'].lower()}", name, _CATEGORIES[entry["category"]], image))
        keys.append((f"name {_base(name, entry['subcategory'])}", f"pixels {sha256_bytes(image)}"))
    seen: set[str] = set()
    for one, group in zip(found, groups(keys), strict=True):
        if group not in seen:
            seen.add(group)
            yield one, group


def _name(entry: dict[str, str]) -> str:
    """Return the name in plain words, without the word that says it is a flag."""
    plain = re.sub(r"[-_\s]+", " ", (entry["name"] or entry["short_name"]).lower())
    words = re.sub(r"\bflag\b|\bsquared cjk unified ideograph.*", " ", plain) if entry["category"] else plain
    return " ".join(words.split())


def _base(name: str, subcategory: str) -> str:
    """Return what a name shares with the emoji that look nearly alike."""
    series = next((word for word in _SERIES if word in name or word in subcategory), None)
    return series or " ".join(_VARIANT.sub(" ", stem(name)).split()) or name


def _images() -> Iterator[Item]:
    for one, group in emoji():
        yield Item(Example(one.id, one.target, image=one.image), group)


def _names() -> Iterator[Item]:
    for one, group in emoji():
        yield Item(Example(one.id, one.target, text=one.name), group)


SOURCES = (
    Source(
        name="pocket/emoji-images",
        about="of which category is the emoji in the picture?",
        archives=("emoji",),
        licence="MIT; art Apache-2.0",
        answers=tuple(_CATEGORIES.values()),
        read=_images,
        answer_template="a picture of a {}.",
    ),
    Source(
        name="pocket/emoji-names",
        about="of which category is the emoji with this name?",
        archives=("emoji",),
        licence="MIT",
        answers=tuple(_CATEGORIES.values()),
        read=_names,
        answer_template="a picture of a {}.",
    ),
)
