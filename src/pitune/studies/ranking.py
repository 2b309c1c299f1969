"""How well scores rank sources: against what the sources were measured to be worth to each target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pitune.extras import need
from pitune.studies.results import Reliability, Spread, Summary
from pitune.studies.statistics import interval

TOP = 2
FEWEST = 3  # sources that have ranks to compare
BySource = Mapping[str, float]
ByTarget = Mapping[str, BySource]


@dataclass(frozen=True)
class Quality:
    """How well one score ranks the sources of one target.

    `spearman` in [−1, 1]; `regret`, points lost by its first source against the truly best; `recall`, the share of
    the two truly best sources among its first two; `gain`, points of its first source over what `measured` is 0 at.
    """

    spearman: float
    regret: float
    recall: float
    gain: float


def quality(measured: BySource, predicted: BySource) -> Quality | None:
    """Compare a score with what was measured of all sources; None where it tells fewer than three apart.

    Rank correlation is over the sources that have a score; the truly best are out of all, so a score pays for
    sources that it cannot read. Ties go by name.
    """
    shared = [source for source in measured if source in predicted]
    values = [predicted[source] for source in shared]
    truth = [measured[source] for source in shared]
    if len(shared) < FEWEST or len(set(values)) < 2 or len(set(truth)) < 2:
        return None
    first = _best(predicted, shared)
    return Quality(
        spearman=float(need("scipy.stats", "metrics").spearmanr(truth, values).statistic),
        regret=100 * (max(measured.values()) - measured[first[0]]),
        recall=len(set(first) & set(_best(measured, list(measured)))) / TOP,
        gain=100 * measured[first[0]],
    )


def at_random(measured: BySource) -> Quality:
    """Return what a source drawn at random is worth on average."""
    values = list(measured.values())
    return Quality(0.0, 100 * float(max(values) - np.mean(values)), TOP / len(values), 100 * float(np.mean(values)))


def mean_rank(scores: Sequence[BySource]) -> BySource:
    """Return the mean over scores of a source's rank, higher is better, over the sources that all of them read."""
    shared = sorted(set.intersection(*(set(one) for one in scores)))
    rankdata = need("scipy.stats", "metrics").rankdata
    ranks = [rankdata([one[source] for source in shared]) for one in scores]
    return dict(zip(shared, np.mean(ranks, axis=0).tolist(), strict=True)) if shared else {}


def reliability(first: ByTarget, second: ByTarget) -> Reliability | None:
    """Return how far measured ranks can be trusted, and so what Spearman a perfect score may reach.

    Of two halves of the test examples, r is the mean over targets of their Spearman over sources; `whole` is
    `2r / (1 + r)`, that of two measurements as large as all of them (Spearman and Brown), and `ceiling` its root:
    what truth itself would reach. None where no target has both halves.
    """
    both = [_rank_correlation(first[target], second[target]) for target in first if target in second]
    correlations = [one for one in both if one is not None]
    if not correlations:
        return None
    halves = float(np.mean(correlations))
    whole = 2 * max(0.0, halves) / (1 + max(0.0, halves))
    return Reliability(targets=len(correlations), halves=halves, whole=whole, ceiling=whole**0.5)


def _rank_correlation(first: BySource, second: BySource) -> float | None:
    shared = [source for source in first if source in second]
    values = [[one[source] for source in shared] for one in (first, second)]
    if len(shared) < FEWEST or any(len(set(each)) < 2 for each in values):
        return None
    return float(need("scipy.stats", "metrics").spearmanr(*values).statistic)


def summary(predictor: str, by_seed: Sequence[tuple[ByTarget, ByTarget]]) -> Summary | None:
    """Return means over targets of each target's mean over seeds, with 95 % intervals over targets.

    `by_seed` holds, for every seed, what was measured and what was predicted. Targets that a score cannot read
    are not counted; None where it reads none.
    """
    qualities: dict[str, list[Quality]] = {}
    for measured, predicted in by_seed:
        for target, truth in measured.items():
            one = at_random(truth) if predictor == "random" else quality(truth, predicted.get(target, {}))
            if one is not None:
                qualities.setdefault(target, []).append(one)
    if not qualities:
        return None

    def over_targets(part: Callable[[Quality], float]) -> Spread:
        values = [float(np.mean([part(one) for one in each])) for each in qualities.values()]
        low, high = interval(values) or (None, None)
        return Spread(mean=float(np.mean(values)), low=low, high=high)

    return Summary(
        predictor=predictor,
        targets=len(qualities),
        seeds=max(map(len, qualities.values())),
        spearman=over_targets(lambda one: one.spearman),
        regret=over_targets(lambda one: one.regret),
        recall=over_targets(lambda one: one.recall),
        gain=over_targets(lambda one: one.gain),
        by_target={target: float(np.mean([one.spearman for one in each])) for target, each in qualities.items()},
    )


def _best(values: BySource, among: Sequence[str]) -> list[str]:
    return sorted(among, key=lambda source: (-values[source], source))[:TOP]
