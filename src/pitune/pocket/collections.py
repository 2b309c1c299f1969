"""Pocket-20: the embedded counterpart of π-Tuning's 14 unimodal and 6 multimodal tasks."""

from __future__ import annotations

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
