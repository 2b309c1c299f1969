"""The verdict says what the labels tell: how good, why chosen, whether neighbours help, and whether it is chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from scipy.stats import binomtest

from pitune.interpolation import Candidate
from pitune.interpolation.verdict import verdict
from pitune.tasks import Draw, Task, few_shot
from pitune.training import wilson, worth


@pytest.fixture
def draw(tiny_tasks: Mapping[str, Task]) -> Draw:
    return few_shot(tiny_tasks["mood"], 4, 0)


def candidate(name: str, value: float, loss: float, n: int = 40) -> Candidate:
    return Candidate(name, value, (loss,) * n, 10, 10)


@pytest.mark.parametrize(("right", "n"), [(0, 8), (5, 8), (30, 40), (40, 40)])
def test_the_interval_is_wilsons(right: int, n: int) -> None:
    expected = binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right / n, n) == pytest.approx((expected.low, expected.high), abs=1e-4)


def test_a_clear_winner_and_neighbours_that_help(draw: Draw) -> None:
    tried = [candidate("backbone", 0.5, 1.0), candidate("alone", 0.7, 0.6), candidate("joint", 0.9, 0.3)]
    worth, why, help_ = verdict(draw, tried, "joint")  # neither relatives nor labels are asked for
    assert worth.startswith(
        "joint has accuracy 0.900 [0.77, 0.96] on the 40 labels that judge (the backbone alone 0.500 [0.35, 0.65], "
    )
    assert "lowest loss of 3" in why
    assert help_ == "The neighbours help: joint has a lower loss than the own expert alone by 12.0 nats."


def test_what_is_taken_in_doubt_says_so(draw: Draw) -> None:
    tried = [candidate("alone", 0.9, 0.30), candidate("joint", 0.9, 0.32)]
    _, why, help_ = verdict(draw, tried, "joint")
    assert "in doubt: alone has a lower loss by 0.8 nats" in why
    assert help_ == "Whether the neighbours help, so few labels cannot tell (-0.8 nats)."


def test_chance_is_called_chance_and_missing_relatives_are_named(draw: Draw) -> None:
    told = verdict(draw, [candidate("backbone", 0.4, 1.1, 8), candidate("alone", 0.5, 1.0, 8)], "alone")
    assert any(line.startswith("That is not told from guessing") for line in told)
    assert told[-2].startswith("No neighbour lowers the loss on the labels at any scale")
    assert told[-1] == (
        "No expert of this pool is a relative; these would be: experts of other tasks on texts, with answers that tell "
        "apart what 'happy', 'sad' tell apart."
    )


def test_neighbours_that_harm_are_no_relatives(draw: Draw) -> None:
    told = verdict(draw, [candidate("alone", 0.9, 0.3), candidate("joint", 0.8, 0.5)], "alone")
    assert told[-2] == "The neighbours do not help here: the own expert alone has a lower loss by 8.0 nats."
    assert told[-1].startswith("No expert of this pool is a relative")


@pytest.mark.parametrize(
    ("backbone", "joint", "says"),
    [
        (1.0, 0.58, "takes 16.0 nats off the loss, these neighbours 0.8."),
        (1.0, 0.62, "takes 16.0 nats off the loss, these neighbours none."),
        (1.0, 0.40, None),  # the pool helps
        (0.62, 0.58, None),  # labels teach as little
    ],
)
def test_labels_are_weighed_against_the_pool(draw: Draw, backbone: float, joint: float, says: str | None) -> None:
    tried = [candidate("backbone", 0.5, backbone), candidate("alone", 0.7, 0.6), candidate("joint", 0.7, joint)]
    told = verdict(draw, tried, "joint")[-1]
    assert told.endswith(says) if says else "More labels" not in told
    assert (says is not None) is told.startswith("More labels would help more than this pool")


def test_without_labels_to_judge_by_nothing_is_claimed(draw: Draw) -> None:
    (line,) = verdict(draw, [Candidate("joint", 0.0, (), 10, 10)], "joint")
    assert "its worth is not known" in line


def test_where_each_example_lists_its_answers_chance_is_that_of_guessing_among_them(draw: Draw) -> None:
    listed = [replace(one, candidates=(one.target, "b", "c", "d")) for one in draw.train]
    told = worth(draw.task, listed, "it", 0.5, 8)
    assert "(guessing 0.250)" in told[0]
    assert told[1].startswith("That is not told from guessing")
