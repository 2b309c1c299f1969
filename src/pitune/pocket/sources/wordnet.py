"""WordNet's glosses: to which of its lexicographer files does the noun so explained belong?"""

from __future__ import annotations

from collections.abc import Iterator

from pitune.archives import fetch
from pitune.pocket.members import read_member
from pitune.pocket.parts import Item, position, stem
from pitune.pocket.pinned import ARCHIVES
from pitune.pocket.source import Source
from pitune.tasks.task import Example

_FIRST = 3  # the number of noun.Tops, whose few synsets head the others, is left out
_NAMES = (
    *("act", "animal", "artifact", "attribute", "body part", "cognition", "communication", "event", "feeling"),
    *("food", "group", "location", "motive", "natural object", "person", "phenomenon", "plant", "possession"),
    *("process", "quantity", "relation", "shape", "state", "substance", "time"),
)
_DROPPED = "motive"
"""42 glosses: too few for every part."""
_SHARE = 0.5


def _items() -> Iterator[Item]:
    data = read_member(fetch(ARCHIVES["wordnet"]), "usr/share/wordnet/data.noun").decode()
    for line in data.splitlines():
        if line.startswith(" "):
            continue  # the licence
        synset, gloss = line.split(" | ", 1)
        number, file, *_ = synset.split()
        text = gloss.split('; "')[0].strip()
        target = _NAMES[int(file) - _FIRST - 1] if int(file) > _FIRST else _DROPPED
        group = stem(text)
        if target != _DROPPED and position(f"kept {group}") < _SHARE:
            yield Item(Example(f"wordnet/{number}", target, text=text), group)


SOURCES = (
    Source(
        name="pocket/glosses",
        about="what kind of thing does the dictionary explain?",
        archives=("wordnet",),
        licence="WordNet 3.0",
        answers=tuple(name for name in _NAMES if name != _DROPPED),
        read=_items,
        answer_template="a kind of {}",
    ),
)
