"""Rows on disk, and what is computed from them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pitune.errors import InputError
from pitune.studies import Measured, Row, Rows, interval, method_means, paired_gains, summed_gains, untouched
from pitune.tasks.metrics import Metric


def row(method: str, seed: int, value: float, task: str = "t") -> Row:
    return Row(task=task, method=method, shots=4, seed=seed, metric="accuracy", value=value, n=10, seconds=1.0)


def test_a_measurement_is_made_once(tmp_path: Path) -> None:
    calls = []

    def run() -> Measured:
        calls.append(1)
        return Measured("accuracy", 0.5, 10)

    first = Rows(tmp_path / "rows.jsonl").measure(("t", "m", 4, 0), run)
    second = Rows(tmp_path / "rows.jsonl").measure(("t", "m", 4, 0), run)
    assert first == second
    assert len(calls) == 1


def test_runs_that_changed_nothing_are_counted_of_those_that_say_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    for seed, said in enumerate((True, False, True, None)):
        Rows(path).measure(("t", "m", 4, seed), partial(Measured, "accuracy", 0.5, 10, said))
    Rows(path).add(row("of before", 0, 0.1))
    assert untouched(Rows(path)) == {"m": (2, 3)}
    assert path.read_text().count("untouched") == 3


def test_a_row_keeps_what_guessing_has_and_what_answers_claim_where_they_are_known(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    Rows(path).measure(("t", "m", 4, 0), partial(Measured, "accuracy", 0.5, 10, False, 0.25, 0.75))
    Rows(path).measure(("t", "m", 4, 1), partial(Measured, "f1", 0.5, 10))
    first, second = Rows(path)
    assert (first.untouched, first.chance, first.claimed) == (False, 0.25, 0.75)
    assert "chance" not in second.model_fields_set


def test_a_line_cut_short_is_dropped_and_another_damage_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = Rows(path)
    rows.add(row("a", 0, 0.1))
    rows.add(row("b", 0, 0.2))
    path.write_bytes(path.read_bytes()[:-20])
    assert [one.method for one in Rows(path)] == ["a"]
    Rows(path).add(row("c", 0, 0.3))
    assert [one.method for one in Rows(path)] == ["a", "c"]
    path.write_text("nonsense\n" + path.read_text())
    with pytest.raises(InputError, match="line 1"):
        Rows(path)


def test_gains_are_paired_by_seed() -> None:
    rows = [row("pi", s, v) for s, v in enumerate((0.9, 0.8, 0.7))]
    rows += [row("single", s, v) for s, v in ((2, 0.1), (0, 0.5))]
    gain = paired_gains(rows, "pi", "single")[0]
    assert gain.mean == pytest.approx((0.4 + 0.6) / 2)
    assert gain.seeds == 2
    assert (gain.low, gain.high) == pytest.approx(interval([0.4, 0.6]))


def test_less_of_a_metric_may_be_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Metric, "worth", lambda metric, value: -value)
    rows = [row("pi", 0, 0.2), row("single", 0, 0.5)]
    assert paired_gains(rows, "pi", "single")[0].mean == pytest.approx(0.3)
    assert summed_gains(rows, "pi", "single")[0].wins == 1


def test_the_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(0.3, 0.1, 40)
    expected = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))
    assert interval(list(values)) == pytest.approx(expected)
    assert interval([0.25]) is None
    assert interval([0.25, 0.25]) == (0.25, 0.25)


def test_gains_over_tasks_weigh_tasks_alike_and_vary_with_seeds_alone() -> None:
    by = {"a": (0.0, 0.1, 0.2, 0.3, 0.4), "b": (-0.1, -0.3, 0.1)}
    rows = [row("pi", s, 0.5 + value, task) for task, values in by.items() for s, value in enumerate(values)]
    rows += [row("single", s, 0.5, task) for task, values in by.items() for s in range(len(values))]
    gain = summed_gains(rows, "pi", "single")[0]
    assert gain.mean == pytest.approx((0.2 - 0.1) / 2)
    assert (gain.wins, gain.losses, gain.seeds) == (1, 1, 3)
    # half the difference of the means of two samples of unlike variance, the second turned round: Welch's t
    welch = stats.ttest_ind(by["a"], [-value for value in by["b"]], equal_var=False).confidence_interval()
    assert (gain.low, gain.high) == pytest.approx((welch.low / 2, welch.high / 2))
    means = {one.method: one.mean for one in method_means(rows, ("single", "pi"))}
    assert means == pytest.approx({"single": 0.5, "pi": (0.7 + 0.4) / 2})


def test_one_seed_has_no_interval() -> None:
    rows = [row("pi", 0, 0.9, "a"), row("single", 0, 0.5, "a"), row("pi", 0, 0.5, "b"), row("single", 0, 0.5, "b")]
    gain = summed_gains(rows, "pi", "single")[0]
    assert gain.mean == pytest.approx(0.2)
    assert gain.low is None
    assert gain.high is None


def test_tasks_drawn_anew_spread_a_gain_even_of_one_seed() -> None:
    gained = np.random.default_rng(1).normal(0.02, 0.03, 20)
    rows = [row(name, 0, 0.5 + (name == "pi") * by, str(i)) for i, by in enumerate(gained) for name in ("pi", "single")]
    over_tasks = summed_gains(rows, "pi", "single")[0].over_tasks
    assert over_tasks is not None
    low, high = over_tasks
    error = gained.std(ddof=1) / 20**0.5
    assert low == pytest.approx(gained.mean() - stats.t.ppf(0.975, 19) * error)
    assert high == pytest.approx(gained.mean() + stats.t.ppf(0.975, 19) * error)
