"""Sixty steps against twenty passes over the labels, π-Tuning's candidates on validation examples that no run drew.

`python scripts/training_length.py compare training-length.json` reads the pool in `compare/`, writes a line a task and
length as it comes, and prints the table of docs/settings.md. With rows that are there it prints alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pitune.studies.shared import held_out

from pitune.interpolation import TuneSettings, mix, tune_expert
from pitune.studies.statistics import interval
from pitune.studies.trial import Cell, ComparePlan, Trial
from pitune.tasks import expand
from pitune.training import evaluate_expert, target_training

SHOTS, SEED, EARNED = 16, 0, 1.0
PARTS = ("neighbours", "alone", "joint")
Found = dict[str, dict[str, list[float]]]  # by task and candidate: its metric, its summed validation loss


def main(study: Path, out: Path) -> None:
    """Measure what the rows lack, and print what they say."""
    plan = ComparePlan()
    rows: dict[str, Found] = json.loads(out.read_text()) if out.exists() else {"sixty": {}, "twenty": {}}
    for name in expand(plan.tasks):
        trial = Trial(Cell(plan, study, name, SHOTS, SEED))
        longer = target_training(len(trial.data.train))
        if longer == plan.tuning.training or all(name in found for found in rows.values()):
            continue
        for length, training in (("sixty", plan.tuning.training), ("twenty", longer)):
            if name not in rows[length]:
                rows[length][name] = measure(trial, TuneSettings(training=training))
                out.write_text(json.dumps(rows, indent=1) + "\n")
    for length, found in rows.items():
        for way in (*PARTS, "soup", "trained"):
            print(f"{length}: {way} {mean([one[way][0] for one in found.values()]):.3f}")
        for soup in ("soup", "trained"):
            print(
                f"{length}: chosen among the parts and {soup} {mean([chosen(one, soup) for one in found.values()]):.3f}"
            )
        compare(f"{length}: chosen over alone", [chosen(one) - one["alone"][0] for one in found.values()])
    sixty, twenty = rows["sixty"], rows["twenty"]
    compare("alone, twenty over sixty", [twenty[name]["alone"][0] - sixty[name]["alone"][0] for name in sixty])
    compare("chosen, twenty over sixty", [chosen(twenty[name]) - chosen(sixty[name]) for name in sixty])


def measure(trial: Trial, settings: TuneSettings) -> dict[str, list[float]]:
    """Return each candidate's metric on held-out examples and its loss on those that it was chosen by."""
    near, data, task, backbone = trial.near(trial.plan.k), trial.data, trial.task, trial.backbone
    experts = dict(tune_expert(backbone, task, data, near, settings).folded)
    experts["trained"] = mix([experts["alone"], experts["joint"]], [0.5, 0.5])
    examples = held_out(task, data, trial.plan.test)
    found = {}
    for way, expert in experts.items():
        loss = float(evaluate_expert(backbone, task, expert, data.validation).calibrated.sum())
        found[way] = [evaluate_expert(backbone, task, expert, examples).value, loss]
    return found


def chosen(found: dict[str, list[float]], soup: str = "soup") -> float:
    """Return the metric of the part of the lowest loss, or of a soup that no part betters by a nat."""
    best = min(PARTS, key=lambda part: found[part][1])
    return found[soup][0] if found[soup][1] - EARNED < found[best][1] else found[best][0]


def mean(values: list[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)


def compare(title: str, gains: list[float]) -> None:
    """Print a mean gain in points with its interval over tasks, and on how many tasks it is beyond half a point."""
    low, high = interval(gains)
    counts = f"{sum(gain > 0.005 for gain in gains)} better, {sum(gain < -0.005 for gain in gains)} worse"
    print(f"{title}: {100 * mean(gains):+.1f} [{100 * low:+.1f}, {100 * high:+.1f}], {counts}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
