"""Sentences of four domains, each rated by some twenty people (Hutto and Gilbert, ICWSM 2014)."""

from __future__ import annotations

import html
import io
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from pitune.archives import fetch
from pitune.pocket.members import read_member, tar_members
from pitune.pocket.parts import Item, Limits, stem
from pitune.pocket.pinned import ARCHIVES
from pitune.pocket.source import Source
from pitune.tasks.task import Example

_NESTED = "vaderSentiment-2.5/additional_resources/hutto_ICWSM_2014.tar.gz"
_FILES = {
    "tweets": "tweets_GroundTruth.txt",
    "movie": "movieReviewSnippets_GroundTruth.txt",
    "amazon": "amazonReviewSnippets_GroundTruth.txt",
    "nyt": "nytEditorialSnippets_GroundTruth.txt",
}
_DOMAINS = {"tweets": "tweet", "movie": "movie review", "amazon": "product review", "nyt": "newspaper editorial"}
_NEUTRAL = 0.5
"""Mean ratings run from -4 to 4; below this size people disagree about the sign."""


class _Sentence(NamedTuple):
    id: str
    domain: str
    rating: float
    text: str


def _sentences() -> Iterator[_Sentence]:
    path = fetch(ARCHIVES["vader"])
    nested = io.BytesIO(read_member(path, _NESTED))
    domains = {file: domain for domain, file in _FILES.items()}
    for member, data in tar_members(nested, lambda name: name.split("/")[-1] in domains):
        domain = domains[member.split("/")[-1]]
        for line in data.decode("utf-8", "replace").splitlines():
            number, rating, text = line.split("\t", 2)
            yield _Sentence(f"{domain}/{number}", domain, float(rating), " ".join(html.unescape(text).split()))


def _sentiment(domain: str) -> Iterator[Item]:
    for sentence in _sentences():
        if sentence.domain == domain and abs(sentence.rating) >= _NEUTRAL:
            target = "great" if sentence.rating > 0 else "terrible"
            yield Item(Example(sentence.id, target, text=sentence.text), stem(sentence.text))


def _domain() -> Iterator[Item]:
    for sentence in _sentences():
        yield Item(Example(sentence.id, _DOMAINS[sentence.domain], text=sentence.text), stem(sentence.text))


SOURCES = (
    *(
        Source(
            name=f"pocket/{domain}",
            about=f"is the sentence of a {noun} positive or negative?",
            archives=("vader",),
            licence="MIT",
            answers=("terrible", "great"),
            read=partial(_sentiment, domain),
            answer_template="It was {}.",
            limits=Limits(skew=1.5),
        )
        for domain, noun in _DOMAINS.items()
    ),
    Source(
        name="pocket/domain",
        about="where was the sentence published?",
        archives=("vader",),
        licence="MIT",
        answers=tuple(_DOMAINS.values()),
        read=_domain,
        answer_template="This is from a {}.",
    ),
)
