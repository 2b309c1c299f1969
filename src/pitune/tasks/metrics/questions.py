"""Metrics of written answers to questions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pitune.tasks.metrics.metric import Metric

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_WORDS = {word: str(number) for number, word in enumerate(_NUMBERS)} | {"none": "0"}
_ARTICLES = frozenset(("a", "an", "the"))
_SIGNS = ';/[]"{}()=+\\_-><@`,?!'
_PEOPLE = 3  # of ten who must agree for an answer to be wholly right
# As VQA's evaluation has them: not lets, shes, im, ive and the like.
_SHORTENED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd
    he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've
    needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've
    somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll
    that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've
    weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll
    why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""
_WHOLE = (
    {  # the same with an apostrophe left out
        word[:at] + word[at + 1 :]: word for word in _SHORTENED.split() for at, sign in enumerate(word) if sign == "'"
    }
    | {"somebody'd": "somebodyd"}
)


def normalised(answer: str) -> str:
    """Return an answer without case, punctuation and articles, numbers as digits, as VQA's evaluation compares them.

    A sign goes where a space is beside one of its kind, or where the answer has a comma between digits; elsewhere it
    becomes a space. A full stop goes unless a digit follows, an apostrophe stays, and don't is put for dont.
    """
    text = _stripped(answer)
    grouped = re.search(r"\d,\d", text)
    gone = [sign for sign in _SIGNS if grouped or f"{sign} " in text or f" {sign}" in text]
    text = "".join("" if sign in gone else " " if sign in _SIGNS else sign for sign in text)
    text = re.sub(r"\.(?!\d)", "", text)
    words = (_WORDS.get(word, word) for word in text.lower().split())
    return " ".join(_WHOLE.get(word, word) for word in words if word not in _ARTICLES)


def _stripped(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()


def exact_match(written: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return the share of answers that are one of the right ones, but for case, punctuation and articles."""
    right = [normalised(one) in map(normalised, some) for one, some in zip(written, references, strict=True)]
    return sum(right) / len(right)


def vqa_accuracy(written: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return the mean of min(people who gave the answer / 3, 1), over all ways to leave one person out (VQAv2).

    As VQA's own evaluation, it takes answers as they are written where all people gave the same. A question with three
    answers or fewer has no such people; there an answer is right if it is one of them.
    """
    return sum(_soft(one, some) for one, some in zip(written, references, strict=True)) / len(written)


def _soft(written: str, references: Sequence[str]) -> float:
    given = [_stripped(one) for one in references]
    if len(given) <= _PEOPLE:
        return float(normalised(written) in map(normalised, given))
    alike = len(set(given)) == 1
    answer = _stripped(written) if alike else normalised(written)
    given = given if alike else [normalised(one) for one in given]
    same = given.count(answer)
    return sum(min((same - (one == answer)) / _PEOPLE, 1.0) for one in given) / len(given)


EXACT_MATCH = Metric(
    "exact-match", "share of written answers that are a right one", exact_match, reads="text", mean=True
)
VQA_ACCURACY = Metric(
    "vqa-accuracy", "share of people who gave the answer, VQAv2's", vqa_accuracy, reads="text", mean=True
)
