"""What docs/results.md says of its rows: `python scripts/read_comparison.py docs/data/compare-*.json`.

For each number of shots: every method's gain over the single expert; the same over the tasks where two runs in another
order are not one run twice; and the mean of the best method for each task, picked on the test examples. Where two files
measured the same, how often they agree.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from itertools import combinations

from pitune.reports import points
from pitune.studies.rows import Row
from pitune.studies.statistics import method_means, summed_gains

SINGLE, TWO = "single", "mean of two singles"


def main(paths: Sequence[str]) -> None:
    """Print it all."""
    files = {path: _read(path) for path in paths}
    for path, rows in files.items():
        print(path)
        methods = list(dict.fromkeys(row.method for row in rows))
        _print_gains("over single", rows, methods)
        value = {row.key: row.value for row in rows}
        same = {row.task for row in rows if row.method == TWO} - {
            row.task for row in rows if row.method == TWO and value[row.task, SINGLE, row.shots, row.seed] != row.value
        }
        _print_gains(f"without {len(same)} tasks", [row for row in rows if row.task not in same], [TWO, "pi"])
        for shots in dict.fromkeys(row.shots for row in rows):
            best = _best([row for row in rows if row.shots == shots], methods)
            print(f"  {shots} shots, the best for each task: {best:.3f}")
    for (first, one), (second, other) in combinations(files.items(), 2):
        common = {row.key: row.value for row in one}.keys() & {row.key for row in other}
        if common:
            _print_agreement(f"{first} and {second}", [[r for r in rows if r.key in common] for rows in (one, other)])


def _read(path: str) -> list[Row]:
    with open(path, encoding="utf-8") as file:
        return [Row(**row) for row in json.load(file)["rows"]]


def _print_gains(title: str, rows: Sequence[Row], methods: Iterable[str]) -> None:
    for method in methods:
        for gain in summed_gains(rows, method, SINGLE) if method != SINGLE else []:
            spread = "" if gain["low"] is None else f" [{points(gain['low'])}, {points(gain['high'])}]"
            print(f"  {gain['shots']} shots, {title}: {method} {points(gain['mean'])}{spread}")


def _best(rows: Sequence[Row], methods: Sequence[str]) -> float:
    tasks = dict.fromkeys(row.task for row in rows)
    best = [max(m["mean"] for m in method_means([r for r in rows if r.task == task], methods)) for task in tasks]
    return sum(best) / len(best)


def _print_agreement(title: str, both: Sequence[Sequence[Row]]) -> None:
    one, other = ({row.key: row.value for row in rows} for rows in both)
    methods = list(dict.fromkeys(row.method for row in both[0]))
    means = [{m["method"]: m["mean"] for m in method_means(rows, methods)} for rows in both]
    apart = max(abs(means[0][method] - means[1][method]) for method in methods)
    alike = sum(one[key] == other[key] for key in one)
    print(
        f"{title}: {alike} of {len(one)} rows are the same; means of methods are {100 * apart:.1f} points apart at most"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
