"""Metrics of captions as COCO's evaluation has them: BLEU-4, and CIDEr-D (Vedantam et al., arXiv 1411.5726)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain

from pitune.tasks.metrics.metric import Metric
from pitune.tasks.metrics.penn import penn_words

_LONGEST = 4
_SIGMA = 6.0
_TINY, _SMALL = 1e-15, 1e-9  # what COCO adds to counts of n-grams found and tried, instead of smoothing
_Grams = Counter[tuple[str, ...]]


def bleu4(written: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return corpus BLEU-4 (Papineni et al., 2002), unsmoothed, against the reference of nearest length."""
    found, tried = [0] * _LONGEST, [0] * _LONGEST
    length = nearest = 0
    for one, some in zip(written, references, strict=True):
        grams, right = _grams(one), [_grams(reference) for reference in some]
        most: _Grams = Counter()
        for reference in right:
            most |= reference
        for gram, number in grams.items():
            tried[len(gram) - 1] += number
            found[len(gram) - 1] += min(number, most[gram])
        own, lengths = _length(grams), map(_length, right)
        length += own
        nearest += min(lengths, key=lambda other: (abs(other - own), other))
    precision = math.prod((a + _TINY) / (b + _SMALL) for a, b in zip(found, tried, strict=True)) ** (1 / _LONGEST)
    ratio = (length + _TINY) / (nearest + _SMALL)
    return precision * (math.exp(1 - 1 / ratio) if ratio < 1 else 1.0)


def cider(written: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return CIDEr-D: the tf-idf cosine of n-grams up to 4, clipped, with a penalty on length, times 10."""
    counted = [[_grams(one) for one in some] for some in references]
    frequency = Counter(chain.from_iterable({gram for one in some for gram in one} for some in counted))
    common = math.log(len(references))
    weigh = {gram: common - math.log(max(1, number)) for gram, number in frequency.items()}
    values = []
    for one, some in zip(written, counted, strict=True):
        grams = _grams(one)
        values.append(sum(_similarity(grams, reference, weigh, common) for reference in some) / len(some))
    return 10 * sum(values) / len(values)


def _grams(caption: str) -> _Grams:
    words = penn_words(caption)
    return Counter(tuple(words[i : i + n]) for n in range(1, _LONGEST + 1) for i in range(len(words) - n + 1))


def _length(grams: _Grams, n: int = 1) -> int:
    """Return how many n-grams there are, each as often as it is there."""
    return sum(number for gram, number in grams.items() if len(gram) == n)


def _similarity(one: _Grams, other: _Grams, weigh: Mapping[tuple[str, ...], float], rare: float) -> float:
    """Return the mean over n of the clipped cosine; an n-gram that no reference has weighs most."""
    penalty = math.exp(-((_length(one, 2) - _length(other, 2)) ** 2) / (2 * _SIGMA**2))
    total = 0.0
    for n in range(1, _LONGEST + 1):
        mine = {gram: number * weigh.get(gram, rare) for gram, number in one.items() if len(gram) == n}
        theirs = {gram: number * weigh.get(gram, rare) for gram, number in other.items() if len(gram) == n}
        norm = math.sqrt(sum(v * v for v in mine.values()) * sum(v * v for v in theirs.values()))
        shared = sum(min(value, theirs[gram]) * theirs[gram] for gram, value in mine.items() if gram in theirs)
        total += shared / norm if norm else 0.0
    return penalty * total / _LONGEST


BLEU_4 = Metric("bleu-4", "n-grams up to 4 that a caption shares with its references", bleu4, reads="text")
CIDER = Metric("cider", "rare n-grams that a caption shares with its references", cider, reads="text", high=10.0)
