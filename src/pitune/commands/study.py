"""`pitune study`: the questions of the papers, asked of any tasks."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pitune.commands import options as options
from pitune.commands.output import report, table
from pitune.defaults import TASKS
from pitune.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from pitune.studies import ComparePlan, CompareResults, Gain, Mean, SettingsResults

StudyTasks = Annotated[
    list[str] | None,
    typer.Argument(metavar="TASK…", help=f"Tasks or collections; {TASKS} unless given.", show_default=False),
]
StudyOut = Annotated[Path, typer.Option(metavar="DIR", help="Keeps pool, runs, rows and results.")]
StudyShots = Annotated[
    list[str] | None, typer.Option("--shots", help="Examples a class, or all; repeatable.", show_default=False)
]
Seeds = Annotated[int | None, typer.Option(min=1, help="How many seeds.", show_default=False)]
StudySteps = Annotated[int | None, typer.Option(help="Steps on a target at most.", show_default=False)]
StudyTest = Annotated[int | None, typer.Option(min=1, help="Examples to score a task by.", show_default=False)]
Workers = Annotated[int, typer.Option(min=1, help="Processes side by side; they share the cores.")]


def read_shots(given: Sequence[str]) -> tuple[int | None, ...]:
    """Return numbers of shots, None for `all`; raise `InputError` at anything else."""
    for one in given:
        if one != "all" and not (one.isdecimal() and int(one) > 0):
            raise InputError(f"--shots {one}: expected a number from 1 on, or all")
    return tuple(None if one == "all" else int(one) for one in given)


def compare(
    tasks: StudyTasks = None,
    out: StudyOut = Path("compare"),
    shots: StudyShots = None,
    seeds: Seeds = None,
    methods: Annotated[
        list[str] | None, typer.Option("--method", help="Measure these alone; repeatable.", show_default=False)
    ] = None,
    k: Annotated[
        int | None, typer.Option("-k", "--k", min=1, help="How many neighbours; 4 unless given.", show_default=False)
    ] = None,
    steps: StudySteps = None,
    test: StudyTest = None,
    quick: Annotated[bool, typer.Option("--quick", help="The same, smaller: five tasks, two seeds, k = 2.")] = False,
    workers: Workers = 1,
    backbone: options.BackboneName = options.BACKBONE,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Compare π-Tuning with all one would otherwise do, leave-one-out over tasks. Stopped, it goes on where it was."""
    from pitune.commands.set_up import check_writable, quieten

    check_writable(out)
    quieten()
    from pitune.reports import write_comparison
    from pitune.studies import QUICK, ComparePlan, run_compare

    base = QUICK if quick else ComparePlan()
    own = {
        "first_seed": seed,
        "backbone": backbone,
        "device": device,
        "methods": tuple(methods or ()),
        "k": k or base.k,
    }
    plan = make_plan(base, tasks=tasks, shots=shots, seeds=seeds, steps=steps, test=test, **own)
    results = run_compare(plan, out, workers=workers)
    write_comparison(results, out, shlex.join(["pitune", *sys.argv[1:]]))
    kept = ", ".join(str(out / name) for name in ("results.json", "results.md", "gains.svg"))
    report(as_json, results.described(), [*comparison(results), f"all of it: {kept}"])


def settings(
    tasks: StudyTasks = None,
    out: StudyOut = Path("compare"),
    shots: StudyShots = None,
    seeds: Seeds = None,
    variants: Annotated[
        list[str] | None, typer.Option("--variant", help="Try these alone; repeatable.", show_default=False)
    ] = None,
    steps: StudySteps = None,
    test: StudyTest = None,
    workers: Workers = 1,
    backbone: options.BackboneName = options.BACKBONE,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Try π-Tuning's settings, judged by validation examples that no run has drawn; the pool is that of `compare`."""
    from pitune.commands.set_up import check_writable, quieten

    check_writable(out)
    quieten()
    from pitune.studies import VARIANTS, ComparePlan, run_settings

    own = {"first_seed": seed, "backbone": backbone, "device": device}
    plan = make_plan(ComparePlan(), tasks=tasks, shots=shots, seeds=seeds, steps=steps, test=test, **own)
    results = run_settings(plan, out, tuple(variants or VARIANTS), workers=workers)
    report(
        as_json, results.described(), [*_settings_tables(results), f"rows, means and gains: {out / 'settings.json'}"]
    )


def _settings_tables(results: SettingsResults) -> Iterator[Table]:
    from pitune.studies import ALONE

    spread = ("from", "to", "tasks: from", "to", "win", "loss")
    for shots in dict.fromkeys(one.shots for one in results.means):
        means = {one.method: one.mean for one in results.means if one.shots == shots}
        few = "all" if shots is None else f"{shots}"
        alone, changed = [], []
        for gain in results.gains:
            if gain.shots == shots:
                rest = (*_points(gain), gain.wins, gain.losses)
                if gain.baseline == ALONE:
                    alone.append((gain.method, means[gain.method], *rest))
                else:
                    changed.append((gain.method, gain.baseline, *rest))
        yield table((f"{few} shots", "mean", "points over alone", *spread), alone)
        if changed:
            yield table((f"{few} shots", "over", "points", *spread), changed)


def _points(gain: Gain) -> list[str | None]:
    """Return points gained, with their interval over seeds and over tasks."""
    return [*in_points(gain.mean, gain.low, gain.high), *in_points(*(gain.over_tasks or (None, None)))]


def in_points(*values: float | None) -> list[str | None]:
    """Return differences in points; a single seed has no interval."""
    from pitune.reports import points

    return [None if value is None else points(value) for value in values]


def make_plan(
    base: ComparePlan,
    *,
    tasks: Sequence[str] | None,
    shots: Sequence[str] | None,
    seeds: int | None,
    steps: int | None,
    test: int | None,
    **rest: Any,
) -> ComparePlan:
    """Return a plan with what the flags say; raise `InputError` that names the flag which is wrong."""
    from pitune.commands.set_up import make_settings
    from pitune.training import TrainingSettings

    training = make_settings(TrainingSettings, {"steps": steps}, base.training)
    given: dict[str, Any] = {
        "tasks": tuple(tasks or ()),
        "shots": read_shots(shots or ()),
        "seeds": seeds,
        "test": test,
    }
    changes = {name: value for name, value in given.items() if value}
    return base.but(**changes, tuning=base.tuning.model_copy(update={"training": training}), **rest)


def comparison(results: CompareResults) -> Iterator[str | Table]:
    """Yield the tables of a comparison: means over tasks, then gains with their intervals."""
    heads = ("π-Tuning over", "points", "from", "to", "tasks: from", "to", "win", "tie", "loss", "seeds")
    for shots in dict.fromkeys(one.shots for one in results.means):
        yield means_table(results.means, shots)
        gains = [
            (gain.baseline, *_points(gain), gain.wins, gain.ties, gain.losses, gain.seeds)
            for gain in results.gains
            if gain.shots == shots
        ]
        yield table(heads, gains)


def means_table(means: Iterable[Mean], shots: int | None) -> Table:
    """Return a line a method: its mean over tasks, and how many there are."""
    few = "all" if shots is None else f"{shots}"
    rows = [(one.method, one.mean, one.tasks) for one in means if one.shots == shots]
    return table((f"{few} shots", "mean over tasks", "tasks"), rows)
