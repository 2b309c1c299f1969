"""Which examples an epoch draws: the shares of each rule, and an order that is new each time."""

from __future__ import annotations

from collections import Counter

import pytest

from pitune.errors import InputError
from pitune.training.proportions import quotas, read_mixing, turn

SIZES = (900, 90, 10)


@pytest.mark.parametrize(
    ("mixing", "expected"),
    [
        ("proportional", [900, 90, 10]),
        ("balanced", [334, 333, 333]),
        ("temperature=2", [703, 223, 74]),  # √900 : √90 : √10 of 1000
        ("temperature=1", [900, 90, 10]),
        ("capped=90", [474, 474, 52]),  # 90 : 90 : 10 of 1000
    ],
)
def test_shares(mixing: str, expected: list[int]) -> None:
    found = quotas(SIZES, read_mixing(mixing))
    assert sum(found) == 1000
    assert all(abs(a - b) <= 1 for a, b in zip(found, expected, strict=True))


def test_the_smallest_task_is_drawn_too() -> None:
    assert quotas((5000, 1), read_mixing("proportional")) == [5000, 1]
    assert min(quotas((5000, 1, 1), read_mixing("temperature=1"))) == 1


def test_every_example_is_drawn_once_before_any_is_drawn_again() -> None:
    items = list(range(10))
    epochs = [turn(items, 4, 0, 0, epoch) for epoch in range(5)]  # two turns in five epochs
    drawn = [item for epoch in epochs for item in epoch]
    assert Counter(drawn) == dict.fromkeys(items, 2)
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == items
    assert drawn[:10] != drawn[10:]  # reshuffled
    assert epochs[3] == turn(items, 4, 0, 0, 3)  # whatever was drawn before
    assert turn(items, 10, 0, 0, 0) != turn(items, 10, 1, 0, 0)
    assert turn(items, 10, 0, 0, 0) != turn(items, 10, 0, 1, 0)


@pytest.mark.parametrize("text", ["even", "balanced=2", "temperature=hot", "capped=0", "capped=nan", ""])
def test_other_rules_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="mixing"):
        read_mixing(text)


def test_rules_are_written_as_they_are_read() -> None:
    for text in ("balanced", "proportional", "temperature=2", "capped=256"):
        assert str(read_mixing(text)) == text
    assert read_mixing("temperature") == read_mixing("temperature=2")
