"""Sixty steps against twenty passes over the labels, π-Tuning's candidates on validation examples that no run drew.

`python scripts/training_length.py docs/data/training-length.json` prints the table of docs/settings.md from kept rows,
which are of the rules of 0.1.0.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import fmean

from pitune import reports
from pitune.studies import interval

EARNED = 1.0
PARTS = ("neighbours", "alone", "joint")
Ways = dict[str, dict[str, list[float]]]  # by task and candidate: its metric, its summed validation loss


def main(kept: Path) -> None:
    """Print what the rows say."""
    rows: dict[str, Ways] = json.loads(kept.read_text())
    for length, ways in rows.items():
        for way in (*PARTS, "soup", "trained"):
            print(f"{length}: {way} {fmean(one[way][0] for one in ways.values()):.3f}")
        for soup in ("soup", "trained"):
            print(
                f"{length}: chosen among the parts and {soup} {fmean(chosen(one, soup) for one in ways.values()):.3f}"
            )
        compare(f"{length}: chosen over alone", [chosen(one) - one["alone"][0] for one in ways.values()])
    sixty, twenty = rows["sixty"], rows["twenty"]
    compare("alone, twenty over sixty", [twenty[name]["alone"][0] - sixty[name]["alone"][0] for name in sixty])
    compare("chosen, twenty over sixty", [chosen(twenty[name]) - chosen(sixty[name]) for name in sixty])


def chosen(ways: dict[str, list[float]], soup: str = "soup") -> float:
    """Return the metric of the part of the lowest loss, or of a soup that no part betters by a nat."""
    best = min(PARTS, key=lambda part: ways[part][1])
    return ways[soup][0] if ways[soup][1] - EARNED < ways[best][1] else ways[best][0]


def compare(title: str, gains: list[float]) -> None:
    """Print a mean gain in points with its interval over tasks, and on how many tasks it is beyond half a point."""
    spread = reports.interval(*(interval(gains) or (None, None)))
    counts = f"{sum(gain > 0.005 for gain in gains)} better, {sum(gain < -0.005 for gain in gains)} worse"
    print(f"{title}: {reports.points(fmean(gains))} {spread}, {counts}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
