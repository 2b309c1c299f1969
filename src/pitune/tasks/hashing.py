"""One hash for all that a task holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pitune.files import sha256_bytes
from pitune.tasks.images import image_hash
from pitune.tasks.task import Example, Split


def data_hash(splits: Mapping[Split, Sequence[Example]]) -> str:
    """Return the SHA-256 over every part's examples, whatever their order; raise `InputError` on unreadable images."""
    lines = [_line(split, example) for split, examples in splits.items() for example in examples]
    return sha256_bytes("\n".join(sorted(lines)).encode())


def _line(split: Split, example: Example) -> str:
    image = None if example.image is None else image_hash(example)
    held = [split, example.id, example.text, image, example.target, example.candidates]
    return json.dumps([*held, example.references] if example.references else held)
