"""Few-shot sampling is a pure function of (task, shots, seed)."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pitune.errors import InputError
from pitune.tasks import Draw, Example, Task, data_hash, few_shot

CLASSES = ("red", "green", "blue")


def make_task(per_class: int = 12, validation: int = 6) -> Task:
    def examples(part: str, count: int) -> tuple[Example, ...]:
        return tuple(Example(f"{part}/{c}/{i}", c, text=f"{part} {c} {i}") for c in CLASSES for i in range(count))

    splits = {"train": examples("train", per_class), "validation": examples("validation", validation)}
    return Task("toy", splits, answers=CLASSES, data_hash=data_hash(splits))  # type: ignore[arg-type]


TASK = make_task()


def counts(examples: tuple[Example, ...]) -> set[int]:
    return {sum(example.target == target for example in examples) for target in CLASSES}


@given(shots=st.integers(1, 12), seed=st.integers(0, 2**64))
def test_so_many_of_every_class_from_the_right_part(shots: int, seed: int) -> None:
    drawn = few_shot(TASK, shots, seed)
    assert counts(drawn.train) == {shots}
    assert counts(drawn.validation) == {min(shots, 4)}
    assert set(drawn.train) <= set(TASK.splits["train"])
    assert set(drawn.validation) <= set(TASK.splits["validation"])
    assert len(set(drawn.train)) == len(drawn.train)


@given(shots=st.none() | st.integers(1, 12), seed=st.integers(0, 99), chance=st.randoms())
def test_the_order_of_the_examples_does_not_matter(shots: int | None, seed: int, chance: random.Random) -> None:
    mixed = {split: tuple(chance.sample(found, len(found))) for split, found in TASK.splits.items()}
    expected = few_shot(TASK, shots, seed)
    for task in (replace(TASK, splits=mixed), replace(TASK, splits=mixed, data_hash="")):
        drawn = few_shot(task, shots, seed)
        assert (drawn.train, drawn.validation) == (expected.train, expected.validation)


def test_seeds_shots_and_data_change_the_draw() -> None:
    first = few_shot(TASK, 4, 0)
    assert first == few_shot(TASK, 4, 0)
    assert first != few_shot(TASK, 4, 1)
    assert not set(first.train) <= set(few_shot(TASK, 5, 0).train)
    assert first != few_shot(replace(TASK, data_hash="other"), 4, 0)


def test_the_draw_is_the_same_for_ever() -> None:
    drawn = few_shot(replace(TASK, data_hash="fixed"), 1, 0)
    assert [example.id for example in drawn.train] == ["train/red/6", "train/green/1", "train/blue/5"]


def test_none_means_everything() -> None:
    drawn = few_shot(TASK, None, 0)
    assert {example.id for example in drawn.train} == {example.id for example in TASK.splits["train"]}
    assert counts(drawn.validation) == {6}


def test_a_small_validation_part_gives_what_it_has() -> None:
    assert counts(few_shot(make_task(validation=2), 8, 0).validation) == {2}


@pytest.mark.parametrize("shots", [0, -1])
def test_no_shots_is_an_input_error(shots: int) -> None:
    with pytest.raises(InputError, match=f"shots is {shots}, expected 1 or more"):
        few_shot(TASK, shots, 0)


def test_more_shots_than_labels_names_class_found_and_expected() -> None:
    with pytest.raises(InputError, match=r"class 'red' has 12 train example\(s\), expected at least 13"):
        few_shot(TASK, 13, 0)


@pytest.mark.parametrize("shots", [1, None])
@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_class_without_examples_is_named(shots: int | None, part: str) -> None:
    splits = {
        split: tuple(e for e in found if (split, e.target) != (part, "green")) for split, found in TASK.splits.items()
    }
    with pytest.raises(InputError, match=rf"class 'green' has 0 {part} example"):
        few_shot(replace(TASK, splits=splits), shots, 0)


def test_an_empty_part_is_an_input_error() -> None:
    with pytest.raises(InputError, match="has no validation examples"):
        few_shot(replace(TASK, splits={"train": TASK.splits["train"]}), 1, 0)


def test_open_answers_are_classes_of_their_own() -> None:
    drawn = few_shot(replace(TASK, answers=None, metric="exact-match"), 2, 0)
    assert isinstance(drawn, Draw)
    assert counts(drawn.train) == {2}


def test_folds_exchange_the_labels_to_stop_by() -> None:
    draw = few_shot(TASK, 2, 0)
    first, second = draw.folds(2)
    assert first == draw
    assert set(second.labels) == set(draw.labels)
    assert set(second.validation) == set(draw.train)
    assert set(second.train) == set(draw.validation)
    assert draw.folds(1) == (draw,)
    with pytest.raises(InputError, match="found 0 folds; expected 1 to 4, as many as a class has labels"):
        draw.folds(0)
    with pytest.raises(InputError, match="has no validation labels"):
        replace(draw, validation=()).folds(2)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_every_label_judges_once_however_many_folds_there_are(n: int) -> None:
    draw = few_shot(TASK, 2, 0)
    folds = draw.folds(n)
    assert sorted(e.id for fold in folds for e in fold.validation) == sorted(e.id for e in draw.labels)
    for fold in folds:
        assert sorted(e.id for e in fold.labels) == sorted(e.id for e in draw.labels)
        held = [sum(e.target == answer for e in fold.validation) for answer in TASK.answers or ()]
        assert all(4 // n <= one <= -(-4 // n) for one in held)
    with pytest.raises(InputError, match="found 5 folds; expected 1 to 4"):
        draw.folds(5)


def test_of_many_labels_as_many_are_held_as_there_are_to_stop_by() -> None:
    draw = few_shot(TASK, 6, 0)
    kept = len(draw.validation)
    assert 2 * kept < len(draw.labels)
    folds = draw.folds(2)
    assert [len(fold.validation) for fold in folds] == [kept, kept]
    assert not {e.id for e in folds[0].validation} & {e.id for e in folds[1].validation}
