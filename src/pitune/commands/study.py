"""`pitune study compare|settings`: the questions of the papers, asked of any tasks."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from pitune.commands import options
from pitune.commands.output import is_told, report, table
from pitune.commands.set_up import check_writable, quieten, training_settings
from pitune.defaults import TASKS
from pitune.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from pitune.studies import ComparePlan, CompareResults, Gain, PromptsResults, Results, Row, SettingsResults

Tasks = Annotated[list[str] | None, Argument(metavar="TASK…", help=f"Tasks or collections; {TASKS} unless given.")]
Out = Annotated[Path, Option(metavar="DIR", help="Keeps pool, runs, rows and results.")]
Shots = Annotated[list[str] | None, Option("--shots", help="Examples per class, or all; repeatable.")]
Seeds = Annotated[int | None, Option(min=1, help="How many seeds.")]
Steps = Annotated[int | None, Option(help="Steps on a target at most.")]
Test = Annotated[int | None, Option(min=1, help="Examples to score a task by.")]


@dataclass(frozen=True)
class Draws:
    """How many labels, drawn how often."""

    shots: Shots = None
    seeds: Seeds = None


@dataclass(frozen=True)
class Effort:
    """How long a target is trained on, and how much of it is answered."""

    steps: Steps = None
    test: Test = None
    precision: Annotated[str | None, Option(help="Number format that runs compute in: fp32, bf16 or fp16.")] = None


@dataclass(frozen=True)
class Workers(options.Spreading):
    """How many processes, with which backbone."""

    backbone: options.BackboneName = options.BACKBONE


@dataclass(frozen=True)
class Running(options.Common, options.Html, Workers):
    """What every study takes, last of all."""

    def plan(self) -> dict[str, Any]:
        """Return the fields of a plan that it decides; raise `InputError` if its page could not be written."""
        self.check()
        return {"first_seed": self.seed, "backbone": self.backbone, "device": self.device}

    def told(self, results: Results, lines: Iterable[str | Table]) -> None:
        """Write the page, if one was asked for, and print the results."""
        if self.html is not None:
            from pitune.reports import write_study

            write_study(results, self.html)
        report(self.as_json, results.described(), [*lines, *([f"page: {self.html}"] if self.html else [])])


def read_shots(given: Sequence[str]) -> tuple[int | None, ...]:
    """Return numbers of shots, None for `all`; raise `InputError` at anything else."""
    for one in given:
        if one != "all" and not (one.isdecimal() and int(one) > 0):
            raise InputError(f"--shots {one}: expected a number from 1 on, or all")
    return tuple(None if one == "all" else int(one) for one in given)


def as_typed() -> str:
    """Return the command line, as what a study writes quotes it."""
    return shlex.join(["pitune", *sys.argv[1:]])


def make_plan(
    base: ComparePlan, tasks: Sequence[str] | None, draws: Draws, effort: Effort, on: Running, **rest: Any
) -> ComparePlan:
    """Return a plan with what the flags say; raise `InputError` that names the flag which is wrong."""
    from pitune.experts import KINDS
    from pitune.training import target_training

    training, sources = base.tuning.training, base.source_training
    if effort.steps is not None:
        usual = training or target_training(0, KINDS.get("lora"), stopped=True)
        training = training_settings({"steps": effort.steps}, usual)
    if effort.precision is not None:
        sources = training_settings({"precision": effort.precision}, sources)
        training = training and training_settings({"precision": effort.precision}, training)
    given = {"tasks": tasks, "shots": read_shots(draws.shots or ()), "seeds": draws.seeds, "test": effort.test, **rest}
    changes = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items() if value}
    tuning = base.tuning.model_copy(update={"training": training, "precision": sources.precision})
    return base.but(**changes, tuning=tuning, source_training=sources, **on.plan())


def compare(
    tasks: Tasks = None,
    *,
    out: Out = Path("compare"),
    draws: Draws,
    pool: Annotated[
        Path | None,
        Option(metavar="DIR", help="Mix with the experts of this pool; trained on the other tasks unless given."),
    ] = None,
    methods: Annotated[list[str] | None, Option("--method", help="Measure these alone; repeatable.")] = None,
    k: Annotated[int | None, Option("-k", "--k", min=1, help="How many neighbours; 4 unless given.")] = None,
    effort: Effort,
    quick: Annotated[bool, Option("--quick", help="The same, smaller: five tasks, two seeds, k = 2.")] = False,
    on: Running,
) -> None:
    """Compare π-Tuning with all one would otherwise do, leave-one-out over tasks. Stopped, it goes on where it was.

    With --pool, any tasks of your own: does it help me?
    """
    quieten()
    check_writable(out)
    from pitune.reports import write_comparison
    from pitune.studies import QUICK, ComparePlan, run_compare

    given = str(pool) if pool else None
    plan = make_plan(QUICK if quick else ComparePlan(), tasks, draws, effort, on, methods=methods, k=k, pool=given)
    results = run_compare(plan, out, workers=on.spread, progress=is_told())
    write_comparison(results, out, as_typed())
    kept = ", ".join(str(out / name) for name in ("results.json", "results.md", "gains.svg"))
    on.told(results, [*comparison(results), f"all of it: {kept}"])


def settings(
    tasks: Tasks = None,
    *,
    out: Out = Path("compare"),
    draws: Draws,
    variants: Annotated[list[str] | None, Option("--variant", help="Try these alone; repeatable.")] = None,
    effort: Effort,
    on: Running,
) -> None:
    """Try π-Tuning's settings, judged by validation examples that no run has drawn; the pool is that of `compare`."""
    quieten()
    check_writable(out)
    from pitune.studies import VARIANTS, ComparePlan, run_settings

    plan = make_plan(ComparePlan(), tasks, draws, effort, on)
    results = run_settings(plan, out, tuple(variants or VARIANTS), workers=on.spread, progress=is_told())
    kept = f"rows, means and gains: {out / 'settings.json'}"
    on.told(results, [*_settings_tables(results), kept])


def _settings_tables(results: SettingsResults) -> Iterator[Table]:
    from pitune.studies import ALONE

    spread = ("from", "to", "tasks: from", "to", "win", "loss")
    for shots in dict.fromkeys(one.shots for one in results.means):
        means = {one.method: one.mean for one in results.means if one.shots == shots}
        few = "all" if shots is None else f"{shots}"
        heads, last = untouched_column(row for row in results.rows if row.shots == shots)
        alone, changed = [], []
        for gain in results.gains:
            if gain.shots == shots:
                rest = (*_points(gain), gain.wins, gain.losses)
                if gain.baseline == ALONE:
                    alone.append((gain.method, means[gain.method], *rest, *last(gain.method)))
                else:
                    changed.append((gain.method, gain.baseline, *rest))
        yield table((f"{few} shots", "mean", "points over alone", *spread, *heads), alone)
        if changed:
            yield table((f"{few} shots", "over", "points", *spread), changed)


def _points(gain: Gain) -> list[str | None]:
    """Return points gained, with their interval over seeds and over tasks."""
    return [*in_points(gain.mean, gain.low, gain.high), *in_points(*(gain.over_tasks or (None, None)))]


def in_points(*values: float | None) -> list[str | None]:
    """Return differences in points; a single seed has no interval."""
    from pitune.reports import points

    return [None if value is None else points(value) for value in values]


def comparison(results: CompareResults) -> Iterator[str | Table]:
    """Yield the tables of a comparison, means over tasks and gains with their intervals, and what they say."""
    from pitune.reports import told

    heads = ("π-Tuning over", "points", "from", "to", "tasks: from", "to", "win", "tie", "loss", "seeds")
    for shots in dict.fromkeys(one.shots for one in results.means):
        yield means_table(results, shots)
        gains = [
            (gain.baseline, *_points(gain), gain.wins, gain.ties, gain.losses, gain.seeds)
            for gain in results.gains
            if gain.shots == shots
        ]
        yield table(heads, gains)
        yield told(results, shots)


def means_table(results: CompareResults | PromptsResults, shots: int | None) -> Table:
    """Return a line a method: its mean over tasks, how many there are, and runs that are the untouched backbone."""
    few = "all" if shots is None else f"{shots}"
    heads, last = untouched_column(row for row in results.rows if row.shots == shots)
    rows = [(one.method, one.mean, one.tasks, *last(one.method)) for one in results.means if one.shots == shots]
    return table((f"{few} shots", "mean over tasks", "tasks", *heads), rows)


def untouched_column(rows: Iterable[Row]) -> tuple[tuple[str, ...], Callable[[str], tuple[str, ...]]]:
    """Return the head of a column of runs that are the untouched backbone, and its cell for a method.

    Both are empty where no row says it.
    """
    from pitune.reports import UNTOUCHED, in_runs
    from pitune.studies import untouched

    counts = untouched(rows)
    if not counts:
        return (), lambda method: ()
    return (UNTOUCHED,), lambda method: (in_runs(counts.get(method)),)
