"""Gains over seeds, with the one kind of interval that every table and page shows: Student's t."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from pitune.extras import need
from pitune.studies.results import Gain, Mean, Row, TaskGain

HALF_A_POINT = 0.005


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of a mean (Student's t), the one of every gain and mean; None of one value."""
    return _interval([values])


def paired_gains(rows: Iterable[Row], method: str, baseline: str) -> list[TaskGain]:
    """Return, by task, the mean gain of a method over a baseline on the same seeds, with its interval."""
    by_key = {row.key: row.worth for row in rows}
    tasks = dict.fromkeys((task, shots) for task, name, shots, _ in by_key if name == method)
    gains = []
    for task, shots in tasks:
        seeds = [seed for t, name, s, seed in by_key if (t, name, s) == (task, method, shots)]
        differences = [
            by_key[task, method, shots, seed] - by_key[task, baseline, shots, seed]
            for seed in sorted(seeds)
            if (task, baseline, shots, seed) in by_key
        ]
        if differences:
            low, high = interval(differences) or (None, None)
            mean, both = float(np.mean(differences)), len(differences)
            gains.append(TaskGain(task=task, shots=shots, baseline=baseline, mean=mean, low=low, high=high, seeds=both))
    return gains


def method_means(rows: Iterable[Row], methods: Iterable[str]) -> list[Mean]:
    """Return, by method and shots, the mean over tasks of each task's mean over seeds, and how many tasks there are."""
    values: dict[tuple[str, int | None], dict[str, list[float]]] = {}
    for row in rows:
        values.setdefault((row.method, row.shots), {}).setdefault(row.task, []).append(row.value)
    shots = dict.fromkeys(few for _, few in values)
    return [
        Mean(method=name, shots=few, mean=_mean_of_means(values[name, few].values()), tasks=len(values[name, few]))
        for few in shots
        for name in methods
        if (name, few) in values
    ]


def untouched(rows: Iterable[Row]) -> dict[str, tuple[int, int]]:
    """Return, by method, in how many runs the expert is the untouched backbone, and of how many.

    Rows that do not say it are not counted; a method without others is not there.
    """
    counts: dict[str, tuple[int, int]] = {}
    for row in rows:
        if row.untouched is not None:
            found, of = counts.get(row.method, (0, 0))
            counts[row.method] = found + row.untouched, of + 1
    return counts


def summed_gains(rows: Iterable[Row], method: str, baseline: str) -> list[Gain]:
    """Return, by shots, the gain of a method over a baseline as a mean over tasks, paired by task and seed.

    The 95 % interval says how the result varies with the labels drawn, not with the choice of tasks: the variance of
    the mean is that of each task's seeds, and there is none where a task has one seed. `over_tasks` is the interval of
    other tasks, of the tasks' mean gains. Both are Student's t. A task is a win or a loss where its mean gain is beyond
    half a point, else a tie.
    """
    by_key = {row.key: row.worth for row in rows}
    differences: dict[int | None, dict[str, list[float]]] = {}
    for (task, name, shots, seed), value in by_key.items():
        other = by_key.get((task, baseline, shots, seed))
        if name == method and other is not None:
            differences.setdefault(shots, {}).setdefault(task, []).append(value - other)
    gains = []
    for shots, by_task in differences.items():
        low, high = _interval(list(by_task.values())) or (None, None)
        means = {task: float(np.mean(values)) for task, values in by_task.items()}
        gains.append(
            Gain(
                method=method,
                shots=shots,
                baseline=baseline,
                mean=_mean_of_means(by_task.values()),
                low=low,
                high=high,
                over_tasks=interval(list(means.values())),
                tasks=means,
                seeds=min(map(len, by_task.values())),
                wins=sum(value > HALF_A_POINT for value in means.values()),
                losses=sum(value < -HALF_A_POINT for value in means.values()),
            )
        )
    return gains


def _mean_of_means(strata: Iterable[Sequence[float]]) -> float:
    return float(np.mean([np.mean(values) for values in strata]))


def _interval(strata: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean of the strata's means, None unless every stratum has two values.

    Student's t of the degrees of freedom that Welch and Satterthwaite give the mean of strata of unlike variance; of
    one stratum they are its number less one.
    """
    if min(map(len, strata)) < 2:
        return None
    mean = _mean_of_means(strata)
    variances = np.array([np.var(values, ddof=1) / len(values) for values in strata])
    whole = float(variances.sum())
    if whole == 0:
        return mean, mean
    freedom = whole**2 / float(sum(variances**2 / np.array([len(values) - 1 for values in strata])))
    half = float(need("scipy.stats", "metrics").t.ppf(0.975, freedom)) * whole**0.5 / len(strata)
    return mean - half, mean + half
