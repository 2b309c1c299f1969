"""`pitune demo`: the whole of it on tasks that come out of packages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pitune.commands import _options as options
from pitune.commands._output import report


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Leave results, report and expert here.")],
    seeds: Annotated[int, typer.Option(min=1, help="Runs with as many seeds, to show the spread.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="One seed only.")] = False,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Train a pool, predict neighbours, tune few-shot targets, and leave a report to look at."""
    from pitune.commands._set_up import check_writable, open_backbone, quieten

    check_writable(out)
    quieten()
    from pitune.studies.demo import run_demo

    result = run_demo(out, 1 if quick else seeds, True, backbone=open_backbone("pocket", device))
    report(as_json, result, [f"{name}: {out / name}" for name in ("results.json", "report.html", "expert")])
