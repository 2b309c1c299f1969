"""`pitune study predictors`: which score tells best which expert helps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from pitune.commands import study
from pitune.commands.output import is_told, shown, table
from pitune.commands.set_up import check_writable, quieten

if TYPE_CHECKING:
    from rich.table import Table

    from pitune.studies import PredictorsResults


def predictors(
    tasks: study.Tasks = None,
    *,
    out: study.Out = Path("predictors"),
    shots: Annotated[int, Option(min=1, help="Examples per class that scores may read.")] = 4,
    seeds: study.Seeds = None,
    adapted: Annotated[
        bool, Option("--adapted", help="Measure experts trained on for a few steps, too; far slower.")
    ] = False,
    effort: study.Effort,
    on: study.Running,
) -> None:
    """Compare what scores predict of every source with what its expert gains on every target."""
    quieten()
    check_writable(out)
    from pitune.studies import PREDICTORS, run_predictors

    plan = study.make_plan(PREDICTORS, tasks, study.Draws([str(shots)], seeds), effort, on)
    results = run_predictors(plan, out, adapted=adapted, workers=on.spread, progress=is_told())
    on.told(results, [*_tables(results), f"rows and all of it: {out / 'predictors.json'}"])


def _tables(results: PredictorsResults) -> Iterator[str | Table]:
    for kind, sure in results.reliability.items():
        if sure:
            halves, ceiling = shown(sure.halves), shown(sure.ceiling)
            yield f"{kind}: two halves of the test agree at ρ = {halves}; the truth itself would reach {ceiling}"
    for kind, summaries in results.predictors.items():
        rows = []
        for one in summaries:
            rho, regret, gain = one.spearman, round(one.regret.mean, 1), round(one.gain.mean, 1)
            spearman = (rho.mean, rho.low, rho.high)
            rows.append((one.predictor, *spearman, regret, one.recall.mean, gain, one.targets, one.seeds))
        yield table(
            (f"expert {kind}", "Spearman", "from", "to", "regret", "recall@2", "gain", "targets", "seeds"), rows
        )
