"""Pocket, a plugin as any package may be one: a backbone and tasks whose data come out of ordinary packages.

Its names load on first use: those of the tasks need no torch, and `pitune.pocket.LIBRARY` none of the sources.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pitune.pocket.backbone import FAMILY as FAMILY
    from pitune.pocket.backbone import Pocket as Pocket
    from pitune.pocket.collections import POCKET_20 as POCKET_20
    from pitune.pocket.library import LIBRARY as LIBRARY
    from pitune.pocket.pinned import ARCHIVES as ARCHIVES
    from pitune.pocket.source import Source as Source

_HOMES = {
    "ARCHIVES": "pitune.pocket.pinned",
    "FAMILY": "pitune.pocket.backbone",
    "LIBRARY": "pitune.pocket.library",
    "POCKET_20": "pitune.pocket.collections",
    "Pocket": "pitune.pocket.backbone",
    "Source": "pitune.pocket.source",
}


def __getattr__(name: str) -> Any:
    """Import a public name from the module that holds it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'pitune.pocket' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
