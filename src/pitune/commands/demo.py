"""`pitune demo`: the whole of it on tasks that come out of packages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Annotated

from typer import Option

from pitune.commands import options
from pitune.commands.output import is_told, report, table
from pitune.commands.set_up import check_writable, quieten, usable_cores
from pitune.commands.study import in_points, untouched_column
from pitune.defaults import DEMO_TARGETS, QUICK_DEMO_TARGETS

if TYPE_CHECKING:
    from rich.table import Table

    from pitune.studies import DemoResults

REPORT = "report.html"
_WORKERS = 2  # each computes with its share of the cores, and holds a copy of the backbone


def demo(
    *,
    out: Annotated[Path, Option(metavar="DIR", help="Leave results, report and expert here.")] = Path("demo"),
    seeds: Annotated[
        int | None, Option(min=1, help="Runs with as many seeds, to show the spread; 2, quickly 1.", show_default=False)
    ] = None,
    quick: Annotated[bool, Option("--quick", help="The same, smaller: three sources, one target, 20 steps.")] = False,
    common: options.Common,
) -> None:
    """Train a pool, predict neighbours, tune few-shot targets, and leave a report to look at."""
    quieten()
    check_writable(out)
    from pitune.reports import write_report
    from pitune.studies import DEMO, QUICK_DEMO, run_demo

    plan = QUICK_DEMO if quick else DEMO
    plan = plan.but(seeds=seeds or plan.seeds, first_seed=common.seed, device=common.device)
    targets = QUICK_DEMO_TARGETS if quick else DEMO_TARGETS
    workers = min(_WORKERS, usable_cores())
    results = run_demo(out, plan=plan, targets=(targets,), quick=quick, workers=workers, progress=is_told())
    write_report(results, out / REPORT)
    report(common.as_json, results.described(), _lines(results, out))


def _lines(results: DemoResults, out: Path) -> Iterator[str | Table]:
    values: dict[str, dict[str, list[float]]] = {}
    for row in results.rows:
        values.setdefault(row.method, {}).setdefault(row.task, []).append(row.value)
    targets = list(dict.fromkeys(row.task for row in results.rows))
    heads, last = untouched_column(results.rows)
    means = [(method, *(mean(of[target]) for target in targets), *last(method)) for method, of in values.items()]
    yield table(("mean over seeds", *targets, *heads), means)
    shown = ("π-Tuning over", "on", "points", "from", "to", "seeds")
    gains = [
        (gain.baseline, gain.task, *in_points(gain.mean, gain.low, gain.high), gain.seeds) for gain in results.gains
    ]
    yield table(shown, gains)
    yield from (f"{name}: {out / name}" for name in ("results.json", REPORT, "expert"))
