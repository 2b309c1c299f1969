"""Parts share nothing, whatever comes in and in whatever order."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from pitune.pocket.parts import Item, Limits, divide, groups, position, stem
from pitune.tasks import Example

items = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from("abc"), st.integers(0, 15)), min_size=1, max_size=80
).map(
    lambda rows: [
        Item(Example(f"{i}", target, text=f"text {word}x"), f"g{word}") for i, (word, target, _) in enumerate(rows)
    ]
)


@given(items)
def test_no_group_and_no_text_is_in_two_parts(found: list[Item]) -> None:
    group_of = {item.example.id: item.group for item in found}
    parts = [{group_of[example.id] for example in examples} for examples in divide(found, Limits()).values()]
    assert sum(map(len, parts)) == len(set().union(*parts))


@given(items, st.randoms())
def test_which_part_does_not_depend_on_order(found: list[Item], chance: random.Random) -> None:
    distinct = list({item.group: item for item in found}.values())
    mixed = chance.sample(distinct, len(distinct))
    assert divide(distinct, Limits()) == divide(mixed, Limits())


def test_repeats_are_dropped_and_contradictions_with_all_copies() -> None:
    rows = [("1", "yes", "Same text."), ("2", "yes", "same  text!"), ("3", "no", "other"), ("4", "yes", "Other")]
    parts = divide([Item(Example(i, target, text=text), stem(text)) for i, target, text in rows], Limits())
    assert [example.id for examples in parts.values() for example in examples] == ["1"]


def test_parts_are_capped_and_evened_out() -> None:
    found = [Item(Example(f"{i}", "rare" if i % 10 == 0 else "common", text=f"{i} words"), f"{i}") for i in range(3000)]
    parts = divide(found, Limits(train=100, validation=50, test=60, skew=3.0))
    assert {split: len(examples) for split, examples in parts.items()} == {"train": 100, "validation": 50, "test": 60}
    for examples in parts.values():
        assert sum(example.target == "rare" for example in examples) >= len(examples) / 2 - 1
    wide = divide(found, Limits(skew=3.0))["train"]
    counts = [sum(example.target == target for example in wide) for target in ("rare", "common")]
    assert counts[1] == 3 * counts[0]


def test_groups_are_joined_through_shared_keys() -> None:
    assert groups([("a", "b"), ("b", "c"), ("d", "e"), ("f", "c")]) == ["a", "a", "d", "a"]


def test_position_is_the_same_for_ever() -> None:
    assert [round(position(key), 6) for key in ("a", "b")] == [0.791374, 0.242735]


def test_stem_folds_what_tells_copies_apart() -> None:
    assert stem("Apple_Pie 02") == stem("apple pie") == "apple pie"
