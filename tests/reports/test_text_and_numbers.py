from __future__ import annotations

import itertools

import pytest

from pitune.reports.markup import tag
from pitune.reports.numbers import PERCENT, PLAIN, fixed, summarise, ticks, unit_of
from pitune.reports.text import clean, columns, natural_key, short_labels


def test_clean_shows_what_it_takes_away() -> None:
    assert clean("a\x00b\ud800c\u202ed\ufffee\tf\n") == "a\ufffdb\ufffdc\ufffdd\ufffde\tf\n"
    assert clean("π, 長い, é") == "π, 長い, é"


def test_labels_lose_the_beginning_that_all_share() -> None:
    assert short_labels(["pocket/mnist", "pocket/digits"]) == ["mnist", "digits"]
    assert short_labels(["encoder.layer.0", "encoder.layer.10"]) == ["layer.0", "layer.10"]
    assert short_labels(["pocket", "pocket/digits"]) == ["pocket", "pocket/digits"]
    assert short_labels(["same", "same"]) == ["same", "same"]
    assert short_labels(["a-", "a-b"]) == ["a-", "a-b"]


def test_labels_lose_the_ending_that_most_share() -> None:
    names = ["openclipart-images-lora-all-0", "openclipart-pairs-lora-all-0", "mnist-lora-all-0", "nyt (target)"]
    assert short_labels(names) == ["openclipart-images", "openclipart-pairs", "mnist", "nyt (target)"]
    assert short_labels(["a-lora-4-0", "b-lora-4-0", "a"]) == ["a-lora-4-0", "b-lora-4-0", "a"]  # or two were one
    assert short_labels(["1-lora-4", "2-lora-4", "3-lora-4"]) == ["1-lora-4", "2-lora-4", "3-lora-4"]
    assert short_labels(["layer-1", "layer-11"]) == ["layer-1", "layer-11"]


def test_long_labels_lose_their_middle() -> None:
    found = short_labels(["x" * 50 + "end", "長" * 50], limit=11)
    assert found == ["xxxxx…xxend", "長長…長長長"]
    assert all(columns(label) <= 11 for label in found)


def test_numbers_within_names_sort_by_value() -> None:
    assert sorted(["l.10", "l.2", "l", "k²"], key=natural_key) == ["k²", "l", "l.2", "l.10"]


def test_interval_is_students_t() -> None:
    found = summarise([0.5, 0.52, 0.54])
    assert found.mean == pytest.approx(0.52)
    assert found.half_width == pytest.approx(4.302653 * 0.02 / 3**0.5, rel=1e-6)
    assert summarise([0.5]).half_width is None


def test_numbers_have_a_real_minus_and_no_negative_zero() -> None:
    assert fixed(-0.004, 2) == "0.00"
    assert fixed(-1.25, 1) == "−1.2"
    assert [PERCENT.show_gain(value) for value in (0.05, -0.05, 0.0001)] == ["+5.0", "−5.0", "0.0"]
    assert unit_of([0.2, 1.0]) is PERCENT
    assert unit_of([0.2, 1.1]) is PLAIN


@pytest.mark.parametrize(("low", "high"), [(0, 15.1), (-3, 2), (5, 5), (0, 0), (40.1, 91), (-1e12, 1e12), (1e12, 1e12)])
def test_ticks_are_few_and_cover_both_ends(low: float, high: float) -> None:
    found = ticks(low, high)
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    assert 2 <= len(found) <= 7
    assert found[0] <= low + slack
    assert found[-1] >= high - slack
    assert all(a < b for a, b in itertools.pairwise(found))


def test_elements_escape_text_and_attributes() -> None:
    found = tag("text", "<b>&", tag("b", "in"), data_tip='"><i>', class_="x", hidden=True, id=None, x=-0.001, y=1.5)
    expected = '<text data-tip="&#34;&gt;&lt;i&gt;" class="x" hidden x="0" y="1.5">&lt;b&gt;&amp;<b>in</b></text>'
    assert str(found) == expected
