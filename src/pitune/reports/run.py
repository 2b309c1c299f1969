"""The report of one expert: what came out, why, on which examples, and how to load it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from pitune.experts import Expert, is_served
from pitune.files import write_atomic
from pitune.prediction import SCORES
from pitune.reports.curves import Curves, curve_charts
from pitune.reports.heat_map import Cell, HeatMap, heat_map
from pitune.reports.numbers import fixed
from pitune.reports.page import render
from pitune.reports.weights import describe_mix
from pitune.studies import TunedTarget
from pitune.training import Judgement, Outcome

_CLASSES = 24  # of a confusion matrix that a page shows whole


@dataclass(frozen=True)
class RunReport:
    """What is known of an expert that lies in a folder; of one that comes without its run, little more than the card.

    `tuned` and `by`, the score that found its neighbours, are of `pitune tune`.
    """

    expert: Expert
    folder: str
    verdict: Sequence[str] = ()
    tuned: TunedTarget | None = None
    by: str = "probe"
    outcome: Outcome | None = None
    curves: Curves = field(default_factory=dict)


@dataclass(frozen=True)
class NearLine:
    """A neighbour: how alike, whether it is in the outcome, and its mean weight there."""

    name: str
    similarity: str
    used: bool
    weight: str


def write_run(run: RunReport, path: Path, *, examples: bool = True) -> None:
    """Write the report of an expert as one HTML file; without `examples`, none of the task's own are in it."""
    card, outcome = run.expert.card, run.outcome
    page = render(
        "run.html",
        expert=run.expert,
        card=card,
        facts=_facts(run.expert),
        verdict=run.verdict,
        conditions=outcome.conditions if outcome else (),
        outcome=outcome,
        classes=outcome.judgement.classes if outcome else (),
        confusion=_confusion(outcome.judgement) if outcome else None,
        reliability=_reliability(outcome.judgement) if outcome else None,
        examples=[("Answered wrong", outcome.wrong), ("Answered right", outcome.right)] if outcome and examples else [],
        near=_near(run),
        by=run.by,
        about=SCORES.get(run.by).about,
        mix=describe_mix(card.task, run.tuned) if run.tuned else None,
        parents=[(parent.name, fixed(fmean(parent.weights.values()), 3)) for parent in card.parents if parent.weights],
        charts=curve_charts(run.curves),
        folder=run.folder,
        shell=shlex.quote(run.folder),
        in_peft=run.expert.kind.peft(run.expert.settings) is not None,
        served=is_served(run.expert),
        number=fixed,
    )
    write_atomic(path, page)


def _facts(expert: Expert) -> list[tuple[str, str]]:
    card = expert.card
    return [
        ("task", card.task),
        ("backbone", card.base_model),
        ("kind of expert", expert.method),
        ("parameters", f"{expert.parameters:,}"),
        ("labels per class", "all" if card.shots is None else str(card.shots)),
        ("seed", str(card.seed)),
    ]


def _near(run: RunReport) -> list[NearLine]:
    if run.tuned is None:
        return []
    weights = list(run.tuned.weights.values())
    lines = []
    for name, similarity in run.tuned.neighbours:
        own = [group[name] for group in weights if name in group]
        lines.append(NearLine(name, fixed(similarity, 3), any(own), fixed(fmean(own), 3) if any(own) else "–"))
    return lines


def _confusion(judged: Judgement) -> HeatMap | None:
    """Return the matrix of right answers by given ones, of the classes that are most often one or the other."""
    if judged.confusion is None:
        return None
    often = sorted(judged.classes, key=lambda one: -(one.n + (one.answered or 0)))[:_CLASSES]
    names = [one.name for one in judged.classes if one in often]
    cells = []
    for right in names:
        row = judged.confusion.get(right, {})
        whole = max(1, sum(row.values()))
        cells.append([_share(row.get(given, 0), whole, right == given) for given in names])
    return heat_map(names, names, cells, "Right answers down, given answers across")


def _share(count: int, whole: int, right: bool) -> Cell:
    return Cell(str(count), count / whole if right else -count / whole) if count else Cell("0", None)


def _reliability(judged: Judgement) -> list[tuple[str, str, str, int]] | None:
    """Return, for answers by how probable they claim to be, their mean claim, the share that is right, and how many."""
    if judged.calibration is None:
        return None
    bins = judged.calibration.bins
    return [(f"{one.low:.2f} to {one.high:.2f}", fixed(one.probability, 3), fixed(one.right, 3), one.n) for one in bins]
