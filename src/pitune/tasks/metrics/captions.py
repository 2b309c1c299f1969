"""Metrics of captions: BLEU-4 by sacreBLEU, and CIDEr-D (Vedantam et al., arXiv 1411.5726)."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain

from pitune.extras import need
from pitune.tasks.metrics.metric import Metric

_LONGEST = 4
_SIGMA = 6.0
_Grams = Counter[tuple[str, ...]]


def words(caption: str) -> list[str]:
    """Return a caption's words in lower case without punctuation, as COCO's evaluation compares them."""
    return re.findall(r"[^\W_]+(?:[-'.,][^\W_]+)*", caption.lower())


def bleu4(written: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return corpus BLEU-4 in [0, 1], unsmoothed, against the reference of nearest length."""
    most = max(map(len, references))
    lines = [[" ".join(words(one)) for one in some] for some in references]
    streams = [[some[i] if i < len(some) else some[0] for some in lines] for i in range(most)]
    metric = need("sacrebleu", "metrics").BLEU(tokenize="none", smooth_method="none", force=True)
    return float(metric.corpus_score([" ".join(words(one)) for one in written], streams).score) / 100


def cider(written: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return CIDEr-D in [0, 10]: the tf-idf cosine of n-grams up to 4, clipped, with a penalty on length."""
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
    found = words(caption)
    return Counter(tuple(found[i : i + n]) for n in range(1, _LONGEST + 1) for i in range(len(found) - n + 1))


def _similarity(one: _Grams, other: _Grams, weigh: Mapping[tuple[str, ...], float], rare: float) -> float:
    """Return the mean over n of the clipped cosine; an n-gram that no reference has weighs most."""
    length = [sum(number for gram, number in grams.items() if len(gram) == 2) for grams in (one, other)]
    penalty = math.exp(-((length[0] - length[1]) ** 2) / (2 * _SIGMA**2))
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
