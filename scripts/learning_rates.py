"""At which learning rate each kind of expert learns few labels best, by validation examples that no run drew.

    python scripts/learning_rates.py rates.jsonl [TASK …] [--kind lora …] [--rate 3e-3 …] [--longer 1 …] [--shots 4]
        [--precision bf16]

Every label of a draw trains, as `pitune fit` does it but for the rate, and `--longer` times the usual number of steps;
with `--stopped` some labels are kept apart to stop by, as `pitune fit --folds 0` does it. Up to 200 validation
examples judge, and the test part is not touched. Rows are kept in the file; the same command goes on where it was
stopped. Printed is the mean over tasks of the metric, and of the calibrated loss.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from pitune.backbones import Backbone, load_backbone
from pitune.experts import KINDS
from pitune.studies import held_out
from pitune.tasks import expand, few_shot, load_task
from pitune.training import evaluate_expert, fit_every_label, fit_expert, target_training

TASKS = ("pocket/digits", "pocket/emoji-images", "pocket/fashion", "pocket/domain", "pocket/emoji-names")


def main() -> None:
    """Measure what the rows lack, and print all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("tasks", nargs="*", default=TASKS)
    parser.add_argument("--kind", nargs="+", default=("lora",))
    parser.add_argument("--rate", nargs="+", type=float, default=(1e-3, 3e-3, 1e-2, 3e-2))
    parser.add_argument("--longer", nargs="+", type=float, default=(1.0,))
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stopped", action="store_true")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--backbone", default="pocket")
    asked = parser.parse_args()
    backbone = load_backbone(asked.backbone)
    kept = [json.loads(line) for line in asked.rows.read_text().splitlines()] if asked.rows.exists() else []
    for task, kind, rate, longer in product(expand(asked.tasks), asked.kind, asked.rate, asked.longer):
        key = {"task": task, "kind": kind, "rate": rate, "longer": longer, "shots": asked.shots, "seed": asked.seed}
        key |= {"stopped": True} if asked.stopped else {}
        key |= {"precision": asked.precision} if asked.precision != "fp32" else {}
        if KINDS.get(kind).has_place(backbone) and not any(key.items() == _asked(row).items() for row in kept):
            kept.append({**key, **measured(backbone, **key)})
            with asked.rows.open("a") as file:
                file.write(json.dumps(kept[-1]) + "\n")
    show(kept)


def _asked(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("value", "loss", "steps", "labels")}


def measured(
    backbone: Backbone,
    task: str,
    kind: str,
    rate: float,
    longer: float,
    shots: int,
    seed: int,
    stopped: bool = False,
    precision: str = "fp32",
) -> Any:
    """Return the metric and the calibrated loss of one run on held-out validation examples."""
    draw = few_shot(load_task(task), shots, seed)
    fit, labels = (fit_expert, draw.train) if stopped else (fit_every_label, draw.labels)
    usual = target_training(len(labels), KINDS.get(kind), stopped=stopped)
    changes = {"learning_rate": rate, "steps": round(longer * usual.steps), "precision": precision}
    settings = usual.model_copy(update=changes)
    expert, _ = fit(backbone, draw, method=kind, settings=settings)
    seen = evaluate_expert(backbone, draw.task, expert, held_out(draw, 200))
    found = {"value": seen.value, "loss": float(seen.calibrated.mean())}
    return {**found, "steps": settings.steps, "labels": len(labels)}


def show(rows: list[dict[str, Any]]) -> None:
    """Print a line a rate and length: means over the tasks that all lines of a kind, alike in the rest, have."""

    def alike(row: dict[str, Any]) -> tuple[Any, ...]:
        return row["kind"], row.get("stopped", False), row.get("precision", "fp32"), row["shots"]

    for kind, stopped, precision, shots in dict.fromkeys(map(alike, rows)):
        of: dict[tuple[float, float], dict[str, Any]] = {}
        for row in rows:
            if alike(row) == (kind, stopped, precision, shots):
                of.setdefault((row["rate"], row["longer"]), {})[row["task"], row["seed"]] = row
        common = set.intersection(*(set(found) for found in of.values()))
        for (rate, longer), found in sorted(of.items()):
            means = [fmean(found[key][name] for key in common) for name in ("value", "loss")] if common else []
            told = " ".join(f"{mean:.3f}" for mean in means)
            how = f"{kind}{', stopped' * stopped} at {rate:g} in {precision}, {longer:g} times as long"
            print(f"{how}, {shots} shots, {len(common)} draws: {told}")


if __name__ == "__main__":
    main()
