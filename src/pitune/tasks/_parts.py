"""Which part an example falls into: by a hash of its content, never by chance or order."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from hashlib import sha256

import networkx as nx


def position(key: str) -> float:
    """Return a number in [0, 1) that depends on `key` alone."""
    return int.from_bytes(sha256(key.encode()).digest()[:8], "big") / 2**64


def groups(keys: Sequence[Sequence[Hashable]]) -> list[str]:
    """Return one group per entry; entries that share a key, directly or through others, share the group.

    A group is named by its smallest key, so that the name does not depend on the order of entries.
    """
    graph: nx.Graph[Hashable] = nx.Graph()
    for row in keys:
        nx.add_path(graph, row)
    names = {}
    for component in nx.connected_components(graph):
        name = min(map(str, component))
        names.update(dict.fromkeys(component, name))
    return [names[row[0]] for row in keys]


def stem(text: str) -> str:
    """Return `text` in lower case with punctuation, spaces and digits at the end folded away."""
    return re.sub(r"[\s\d]+$", "", re.sub(r"[\W_]+", " ", text.lower())).strip()
