"""Sixty steps against twenty passes over the labels, π-Tuning's candidates on validation examples that no run drew.

`python scripts/training_length.py docs/data/training-length.json` prints the table of docs/settings.md from kept rows;
with `compare` after it, it first measures, with the pool in `compare/`, what the rows lack, a task at a time.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import fmean

from pitune import reports
from pitune.interpolation import TuneSettings, mix, tune_expert
from pitune.studies import ComparePlan, Trial, held_out, interval
from pitune.tasks import expand
from pitune.training import evaluate_expert, target_training

SHOTS, SEED, EARNED = 16, 0, 1.0
PARTS = ("neighbours", "alone", "joint")
Ways = dict[str, dict[str, list[float]]]  # by task and candidate: its metric, its summed validation loss


def main(out: Path, study: Path | None = None) -> None:
    """Measure what the rows lack if there is a pool to do it with, and print what they say."""
    rows: dict[str, Ways] = json.loads(out.read_text()) if out.exists() else {"sixty": {}, "twenty": {}}
    if study is not None:
        lengthen(rows, study, out)
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


def lengthen(rows: dict[str, Ways], study: Path, out: Path) -> None:
    """Measure what rows lack of the tasks that twenty passes are longer for, and write them as they come."""
    plan = ComparePlan()
    for name in expand(plan.tasks):
        trial = Trial(plan, study, name, SHOTS, SEED)
        longer = target_training(len(trial.draw.train))
        for length, training in (("sixty", plan.training), ("twenty", longer)) if longer != plan.training else ():
            if name not in rows[length]:
                rows[length][name] = measure(trial, TuneSettings(training=training))
                out.write_text(json.dumps(rows, indent=1) + "\n")


def measure(trial: Trial, settings: TuneSettings) -> dict[str, list[float]]:
    """Return each candidate's metric on held-out examples and its loss on those that it was chosen by."""
    draw, backbone = trial.draw, trial.backbone
    experts = dict(tune_expert(backbone, draw, trial.near(), settings=settings).folded)
    experts["trained"] = mix([experts["alone"], experts["joint"]], [0.5, 0.5])
    examples = held_out(draw, trial.plan.test)
    ways = {}
    for way, expert in experts.items():
        loss = float(evaluate_expert(backbone, draw.task, expert, draw.validation).calibrated.sum())
        ways[way] = [evaluate_expert(backbone, draw.task, expert, examples).value, loss]
    return ways


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
    main(*map(Path, sys.argv[1:]))
