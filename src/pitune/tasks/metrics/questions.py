"""Metrics of written answers to questions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pitune.tasks.metrics.metric import Metric

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_WORDS = {word: str(number) for number, word in enumerate(_NUMBERS)} | {"none": "0"}
_ARTICLES = frozenset(("a", "an", "the"))
_PEOPLE = 3  # of ten who must agree for an answer to be wholly right


def normalised(answer: str) -> str:
    """Return an answer without case, punctuation and articles, numbers as digits, as VQA's evaluation compares them."""
    text = answer.lower().replace("\n", " ").replace("\t", " ").replace("'", "").replace("’", "")
    text = re.sub(r"(?<=\d),(?=\d)", "", text)
    text = re.sub(r"[;/\[\]\"{}()=+\\_\-<>@`?!:,]|(?<!\d)\.|\.(?!\d)", " ", text)
    return " ".join(_WORDS.get(word, word) for word in text.split() if word not in _ARTICLES)


def exact_match(written: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return the share of answers that are one of the right ones, but for case, punctuation and articles."""
    right = [normalised(one) in map(normalised, some) for one, some in zip(written, references, strict=True)]
    return sum(right) / len(right)


def vqa_accuracy(written: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return the mean of min(people who gave the answer / 3, 1), over all ways to leave one person out (VQAv2).

    A question with three answers or fewer has no such people; there an answer is right if it is one of them.
    """
    return sum(_soft(one, some) for one, some in zip(written, references, strict=True)) / len(written)


def _soft(written: str, references: Sequence[str]) -> float:
    answer, given = normalised(written), [normalised(one) for one in references]
    if len(given) <= _PEOPLE:
        return float(answer in given)
    same = given.count(answer)
    return sum(min((same - (one == answer)) / _PEOPLE, 1.0) for one in given) / len(given)


EXACT_MATCH = Metric("exact-match", "share of written answers that are a right one", exact_match, reads="text")
VQA_ACCURACY = Metric("vqa-accuracy", "share of people who gave the answer, VQAv2's", vqa_accuracy, reads="text")
