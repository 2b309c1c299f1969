"""Gains over seeds, with the interval that the field accepts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from pitune.studies._rows import Row

_RESAMPLES = 10_000


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval (percentile, 10,000 resamples, seeded) of a mean; one value is its own."""
    if len(values) < 2 or len(set(values)) == 1:
        return float(np.mean(values)), float(np.mean(values))
    found = stats.bootstrap(
        (np.asarray(values),), np.mean, n_resamples=_RESAMPLES, method="percentile", rng=np.random.default_rng(0)
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def paired_gains(rows: Iterable[Row], method: str, baseline: str) -> list[dict[str, Any]]:
    """Return, by task, the mean gain of a method over a baseline on the same seeds, with its interval."""
    by_key = {row.key: row.value for row in rows}
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
            low, high = interval(differences)
            mean = float(np.mean(differences))
            found = {"task": task, "shots": shots, "baseline": baseline, "mean": mean, "low": low, "high": high}
            gains.append({**found, "seeds": len(differences)})
    return gains
