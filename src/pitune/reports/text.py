"""Text of strangers made fit to print, and names cut to the room a figure has."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

# Marks that turn the direction of the text after them could make one name look like another.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_SEPARATORS = "/._-:"


def clean(text: str) -> str:
    """Return the text with every character that HTML or XML forbids, or that reorders text, shown as U+FFFD."""
    return "".join("\ufffd" if _forbidden(character) else character for character in text)


def _forbidden(character: str) -> bool:
    if character in "\n\t":
        return False
    return unicodedata.category(character) in ("Cc", "Cs") or character in _TURNING or ord(character) & 0xFFFE == 0xFFFE


def in_markdown(text: str) -> str:
    """Return a text as Markdown shows it in a line or a cell: no cell, element, link or code begins in it."""
    return re.sub(r"([\\|<`\[])", r"\\\1", " ".join(clean(text).split()))


def in_code(text: str) -> str:
    """Return a text as a line of code in Markdown."""
    return f"`{' '.join(clean(text).split()).replace('`', chr(0x2019))}`"


def short_labels(names: Sequence[str], limit: int = 20) -> list[str]:
    """Return the names without the beginning that all share and the ending that most do, where still too long cut.

    `limit` counts half-width characters; what is cut out of a name is its middle. The whole names belong in a tooltip
    or a list next to the figure.
    """
    shared = _shared_beginning(names) if len(set(names)) > 1 else 0
    shorter = _without_ending([name[shared:] for name in names])
    return [_ellipsis(clean(name), limit) for name in shorter]


def _without_ending(names: Sequence[str]) -> list[str]:
    """Return names without the longest ending that more than half of them share, such as -lora-16-0.

    All stay as they are where two would become the same, or a number alone would be left or taken.
    """
    endings = Counter(
        name[i:] for name in names for i in range(1, len(name)) if name[i] in "-_" and not name[i + 1 :].isdigit()
    )
    shared = max((end for end, count in endings.items() if 2 * count > len(names)), key=len, default="")
    found = [name.removesuffix(shared) for name in names]
    return found if len(set(found)) == len(set(names)) and not any(name.isdigit() for name in found) else list(names)


def _shared_beginning(names: Sequence[str]) -> int:
    first, last = min(names), max(names)  # what these two share, all between them share
    length = next((i for i, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    ends = [0, *(i + 1 for i in range(length) if first[i] in _SEPARATORS)] if length < len(first) else [0]
    bare = any(name[ends[-1] : ends[-1] + 1].isdigit() for name in names)  # layer.2 says more than 2
    return ends[-2] if bare and len(ends) > 1 else ends[-1]


def _ellipsis(text: str, limit: int) -> str:
    if columns(text) <= limit:
        return text
    head, tail = "", ""
    for character in text:
        if columns(head + character) > (limit - 1) // 2:
            break
        head += character
    for character in reversed(text):
        if columns(head + character + tail) > limit - 1:
            break
        tail = character + tail
    return f"{head}…{tail}"


def columns(text: str) -> int:
    """Return how many half-width characters wide the text is."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts numbers inside names by their value: layer.2 before layer.10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text)
    return tuple((0, int(part), "") if part[0] in "0123456789" else (1, 0, part) for part in parts)
