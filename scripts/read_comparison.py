"""What docs/results.md says of its rows: `python scripts/read_comparison.py docs/data/compare-*.json`.

For each number of shots: every method's gain over the single expert; the same over the tasks where two runs in another
order are not one run twice; and the mean of the best method for each task, picked on the test examples. Where two files
measured the same, how often they agree.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path

from pitune.reports import interval, points
from pitune.studies import PI, SINGLE, CompareResults, Row, method_means, summed_gains

TWO = "mean of two singles"


def main(paths: Sequence[str]) -> None:
    """Print it all."""
    files = {path: CompareResults.read(Path(path)).rows for path in paths}
    for path, rows in files.items():
        print(path)
        methods = list(dict.fromkeys(row.method for row in rows))
        print_gains("over single", rows, methods)
        value = {row.key: row.value for row in rows}
        two = [row for row in rows if row.method == TWO]
        apart = {row.task for row in two if value[row.task, SINGLE, row.shots, row.seed] != row.value}
        same = {row.task for row in two} - apart
        print_gains(f"without {len(same)} tasks", [row for row in rows if row.task not in same], [TWO, PI])
        for shots in dict.fromkeys(row.shots for row in rows):
            best = mean_of_best([row for row in rows if row.shots == shots], methods)
            print(f"  {shots} shots, the best for each task: {best:.3f}")
    for (first, one), (second, other) in combinations(files.items(), 2):
        common = {row.key for row in one} & {row.key for row in other}
        if common:
            both = [[row for row in rows if row.key in common] for rows in (one, other)]
            print_agreement(f"{first} and {second}", *both)


def print_gains(title: str, rows: Sequence[Row], methods: Iterable[str]) -> None:
    """Print each method's gain over the single expert."""
    for method in methods:
        for gain in summed_gains(rows, method, SINGLE) if method != SINGLE else []:
            spread = "" if gain.low is None else f" {interval(gain.low, gain.high)}"
            print(f"  {gain.shots} shots, {title}: {method} {points(gain.mean)}{spread}")


def mean_of_best(rows: Sequence[Row], methods: Sequence[str]) -> float:
    """Return the mean over tasks of the best method's mean."""
    tasks = dict.fromkeys(row.task for row in rows)
    best = [max(m.mean for m in method_means([r for r in rows if r.task == task], methods)) for task in tasks]
    return sum(best) / len(best)


def print_agreement(title: str, one: Sequence[Row], other: Sequence[Row]) -> None:
    """Print how many rows of two files are the same, and how far the means of methods are apart at most."""
    values = [{row.key: row.value for row in rows} for rows in (one, other)]
    methods = list(dict.fromkeys(row.method for row in one))
    means = [{mean.method: mean.mean for mean in method_means(rows, methods)} for rows in (one, other)]
    apart = max(abs(means[0][method] - means[1][method]) for method in methods)
    alike = sum(value == values[1][key] for key, value in values[0].items())
    share = f"{alike} of {len(one)} rows are the same"
    print(f"{title}: {share}; means of methods are {100 * apart:.1f} points apart at most")


if __name__ == "__main__":
    main(sys.argv[1:])
