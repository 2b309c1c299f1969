"""Pocket-20: the embedded counterpart of π-Tuning's 14 unimodal and 6 multimodal tasks; and parts of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

VISION = (
    "pocket/mnist",
    "pocket/digits",
    "pocket/fashion",
    "pocket/textile",
    "pocket/emoji-images",
    "pocket/openclipart-images",
    "pocket/tuxpaint-images",
)
LANGUAGE = (
    "pocket/tweets",
    "pocket/movie",
    "pocket/amazon",
    "pocket/nyt",
    "pocket/domain",
    "pocket/emoji-names",
    "pocket/glosses",
)
VISION_LANGUAGE = (
    "pocket/easy-vqa",
    "pocket/openclipart-retrieval",
    "pocket/tuxpaint-retrieval",
    "pocket/emoji-match",
    "pocket/openclipart-tags",
    "pocket/openclipart-pairs",
)
POCKET_20 = (*VISION, *LANGUAGE, *VISION_LANGUAGE)

QUICK = ("pocket/mnist", "pocket/digits", "pocket/emoji-names", "pocket/tweets", "pocket/nyt")
DEMO_SOURCES = (
    "pocket/tweets",
    "pocket/amazon",
    "pocket/movie",
    "pocket/domain",
    "pocket/mnist",
    "pocket/easy-vqa",
    "pocket/textile",
)
DEMO_TARGETS = ("pocket/digits", "pocket/nyt")
QUICK_DEMO_SOURCES = ("pocket/amazon", "pocket/tweets", "pocket/mnist")
QUICK_DEMO_TARGETS = ("pocket/nyt",)

COLLECTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "pocket-20": POCKET_20,
        "pocket-images": VISION,
        "pocket-quick": QUICK,
        "pocket-demo-sources": DEMO_SOURCES,
        "pocket-demo-targets": DEMO_TARGETS,
        "pocket-demo-quick-sources": QUICK_DEMO_SOURCES,
        "pocket-demo-quick-targets": QUICK_DEMO_TARGETS,
    }
)
