"""Which part an example falls into: by a hash of its content, never by chance or order."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from pitune.tasks.task import SPLITS, Example, Split

_SHARES: tuple[tuple[Split, float], ...] = (("test", 0.25), ("validation", 0.4), ("train", 1.0))


class Item(NamedTuple):
    """An example and the group it belongs to; a group is never divided between parts."""

    example: Example
    group: str


@dataclass(frozen=True)
class Limits:
    """The most examples of each part, and how often the commonest class may occur to the rarest's once."""

    train: int = 4000
    validation: int = 500
    test: int = 1000
    skew: float = 3.0


def position(key: str) -> float:
    """Return a number in [0, 1) that depends on `key` alone."""
    return int.from_bytes(sha256(key.encode()).digest()[:8], "big") / 2**64


def part_of(group: str) -> Split:
    """Return the part that a group falls into."""
    place = position(group)
    return next(split for split, end in _SHARES if place < end)


def stem(text: str) -> str:
    """Return `text` in lower case with punctuation, spaces and digits at the end folded away."""
    return re.sub(r"[\s\d]+$", "", re.sub(r"[\W_]+", " ", text.lower())).strip()


def groups(keys: Sequence[Sequence[Hashable]]) -> list[str]:
    """Return one group per entry; entries that share a key, directly or through others, share the group.

    A group is named by its smallest key, so that the name does not depend on the order of entries.
    """
    above: dict[Hashable, Hashable] = {}

    def top(key: Hashable) -> Hashable:
        while (higher := above.setdefault(key, key)) != key:
            above[key] = above[higher]
            key = above[key]
        return key

    for row in keys:
        for key in row:
            above[top(key)] = top(row[0])
    names: dict[Hashable, str] = {}
    for key in above:
        names[top(key)] = min(names.get(top(key), str(key)), str(key))
    return [names[top(row[0])] for row in keys]


def divide(items: Iterable[Item], limits: Limits) -> dict[Split, list[Example]]:
    """Return the parts: whole groups by hash, then at most `limits` examples of each, classes evened out."""
    whole: dict[Split, list[Example]] = {split: [] for split in SPLITS}
    for example, group in _consistent(items):
        whole[part_of(group)].append(example)
    return {split: _trim(found, getattr(limits, split), limits.skew) for split, found in whole.items()}


def _consistent(items: Iterable[Item]) -> list[Item]:
    """Drop repeats of an input, and every copy of an input that comes with different targets."""
    seen: dict[tuple[str | None, object], list[Item]] = defaultdict(list)
    for item in items:
        text = item.example.text
        seen[None if text is None else stem(text) or text, item.example.image].append(item)
    return [same[0] for same in seen.values() if len({item.example.target for item in same}) == 1]


def _trim(examples: list[Example], limit: int, skew: float) -> list[Example]:
    """Keep `limit` examples, taking from every class in turn; the order is by hash of the id."""
    classes: dict[str, list[Example]] = defaultdict(list)
    for example in sorted(examples, key=lambda example: position(example.id)):
        classes[example.target].append(example)
    most = round(skew * min(map(len, classes.values()), default=0))
    ranked = [(rank, position(found.id), found) for same in classes.values() for rank, found in enumerate(same[:most])]
    kept = sorted(ranked, key=lambda entry: entry[:2])[:limit]
    return [found for _, _, found in sorted(kept, key=lambda entry: entry[1])]
