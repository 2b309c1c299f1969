"""What holds for every metric, whoever adds it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pitune.errors import InputError
from pitune.tasks.metrics import METRICS, Metric, compute_metric, compute_text_metric

TEXTS = ("a man rides a brown horse", "two dogs play in the snow", "the red bus stops", "rice and beans on a plate")
BOXES = ("<loc_0><loc_0><loc_9><loc_9>", "10 10 20 30", "[5, 5, 8.5, 9]", "0 0 40 40")

every = pytest.mark.parametrize("metric", METRICS.all(), ids=METRICS.names())


def measured(metric: Metric, chosen: list[int], right: list[int], number: int) -> float:
    """Measure that of `number` answers one is chosen for each example, where another is right."""
    if metric.reads == "text":
        texts = [one for one in (*TEXTS, *BOXES) if metric.accepts(one)] * number
        return compute_text_metric(metric.name, [texts[i] for i in chosen], [[texts[i], texts[i]] for i in right])
    scores = 8 * torch.nn.functional.one_hot(torch.tensor(chosen, dtype=torch.long), number).float()
    target = torch.tensor(right, dtype=torch.long)
    relevant = torch.nn.functional.one_hot(target, number).bool() if metric.several else None
    return compute_metric(metric.name, scores.log_softmax(-1), target, relevant, [str(i) for i in range(number)])


@contextmanager
def needing_more() -> Iterator[None]:
    """Let a metric refuse what it cannot be computed of, such as one class, if it asks for more examples."""
    try:
        yield
    except InputError as error:
        if "more examples" not in str(error):
            raise


@every
def test_it_says_what_it_is(metric: Metric) -> None:
    assert METRICS.get(metric.name) is metric
    assert metric.about
    assert "\n" not in metric.about
    assert metric.low < metric.high


@every
@pytest.mark.parametrize("number", [2, 4])
def test_perfect_answers_have_the_best_value(metric: Metric, number: int) -> None:
    best = metric.high if metric.higher_is_better else metric.low
    right = [i % number for i in range(3 * number)]
    assert measured(metric, right, right, number) == pytest.approx(best, abs=1e-6)


@every
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_its_range_holds(metric: Metric, data: st.DataObject) -> None:
    number = data.draw(st.integers(2, 5))
    answers = st.lists(st.integers(0, number - 1), min_size=1, max_size=12)
    right = data.draw(answers)
    chosen = data.draw(st.lists(st.integers(0, number - 1), min_size=len(right), max_size=len(right)))
    with needing_more():
        assert metric.low - 1e-6 <= measured(metric, chosen, right, number) <= metric.high + 1e-6


@every
def test_one_example_is_enough_or_refused_in_words(metric: Metric) -> None:
    with needing_more():
        assert metric.low - 1e-6 <= measured(metric, [0], [0], 2) <= metric.high + 1e-6


@every
def test_no_example_is_refused(metric: Metric) -> None:
    with pytest.raises(InputError, match=metric.name):
        measured(metric, [], [], 2)
