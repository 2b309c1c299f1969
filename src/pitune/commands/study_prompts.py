"""`pitune study transfer|coop|elevater|cross-task`: prompts learned over many tasks, carried to the next (MVLPT)."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pitune.commands import options as options
from pitune.commands.output import note, report, table
from pitune.commands.study import (
    Seeds,
    StudyOut,
    StudyShots,
    StudySteps,
    StudyTest,
    Workers,
    in_points,
    means_table,
    read_shots,
)
from pitune.defaults import IMAGE_TASKS
from pitune.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from pitune.studies import PromptsResults, Protocol, TransferResults
    from pitune.training import TrainingSettings

MoreTasks = Annotated[
    list[str] | None,
    typer.Argument(metavar="TASK…", help=f"Tasks; {IMAGE_TASKS} unless given.", show_default=False),
]
Kinds = Annotated[
    list[str] | None,
    typer.Option("--method", help="Kind of expert; repeatable. Text, visual and unified prompts unless given."),
]
Sources = Annotated[
    list[str] | None, typer.Option("--source", metavar="TASK", help="A task to learn the source on; repeatable.")
]
SourceShots = Annotated[str, typer.Option(help="Examples a class of the sources, or all.")]
SourceSteps = Annotated[int | None, typer.Option(min=1, help="Steps on the sources at most.", show_default=False)]
Length = Annotated[
    int | None, typer.Option(min=1, help="Vectors of a text or visual prompt; 16 unless given.", show_default=False)
]


def transfer(
    tasks: MoreTasks = None,
    out: StudyOut = Path("transfer"),
    method: Annotated[str, typer.Option(help="Kind of expert that all the tasks can carry.")] = "visual_prompt",
    shots: Annotated[str, typer.Option(help="Examples a class of a target, or all.")] = "16",
    source_shots: SourceShots = "all",
    seeds: Seeds = None,
    steps: StudySteps = None,
    source_steps: SourceSteps = None,
    learning_rate: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    length: Length = None,
    test: StudyTest = None,
    adapt: Annotated[bool, typer.Option(help="Adapt each pair to the target, too, which is the long part.")] = True,
    workers: Workers = 1,
    backbone: options.BackboneName = options.BACKBONE,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Measure which task's expert helps which, every two of them. Stopped, it goes on where it was."""
    from pitune.commands.set_up import check_writable, quieten

    check_writable(out)
    quieten()
    from pitune.reports import write_transfer
    from pitune.studies import STAGES, TransferPlan, run_transfer
    from pitune.tasks import expand

    source_training, training = _training(steps, source_steps, learning_rate, batch_size)
    plan = TransferPlan(
        tasks=tuple(expand(tasks or [IMAGE_TASKS])),
        method=method,
        shots=read_shots([shots])[0],
        source_shots=read_shots([source_shots])[0],
        seeds=seeds or 1,
        first_seed=seed,
        **({"test": test} if test else {}),
        stages=STAGES if adapt else STAGES[:1],
        length=length,
        backbone=backbone,
        device=device,
        source_training=source_training,
        training=training,
    )
    results = run_transfer(plan, out, workers=workers)
    write_transfer(results, out, shlex.join(["pitune", *sys.argv[1:]]))
    kept = ", ".join(str(out / name) for name in ("results.json", "results.md", f"{plan.stages[-1]}.svg"))
    report(as_json, results.described(), [*_transfer(results), f"all of it: {kept}"])


def coop(
    tasks: MoreTasks = None,
    sources: Sources = None,
    out: StudyOut = Path("coop"),
    methods: Kinds = None,
    shots: StudyShots = None,
    source_shots: SourceShots = "all",
    seeds: Seeds = None,
    steps: StudySteps = None,
    source_steps: SourceSteps = None,
    learning_rate: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    length: Length = None,
    mixing: Annotated[str, typer.Option(help="How often sources are drawn.")] = "balanced",
    test: StudyTest = None,
    workers: Workers = 1,
    backbone: options.BackboneName = options.BACKBONE,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """CoOp's protocol, 1 to 16 shots: each task alone, and from a source over the others (or over --source)."""
    targets = tasks or [IMAGE_TASKS]
    settings = _training(steps, source_steps, learning_rate, batch_size)
    given = (methods, shots, source_shots, seeds, seed, test, length, mixing, backbone, device)
    _run("coop", sources or targets, targets, out, workers, as_json, settings, *given)


def elevater(
    tasks: Annotated[
        list[str] | None,
        typer.Argument(metavar="TASK…", help="Tasks; ELEVATER's twenty unless given.", show_default=False),
    ] = None,
    sources: Sources = None,
    out: StudyOut = Path("elevater"),
    methods: Kinds = None,
    shots: StudyShots = None,
    source_shots: SourceShots = "all",
    seeds: Seeds = None,
    steps: StudySteps = None,
    source_steps: SourceSteps = None,
    learning_rate: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    length: Length = None,
    mixing: Annotated[str, typer.Option(help="How often sources are drawn.")] = "balanced",
    test: StudyTest = None,
    workers: Workers = 1,
    backbone: options.BackboneName = options.BACKBONE,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """ELEVATER's protocol, 5, 20 and 50 shots of which one in five is to stop by; metrics are the official ones."""
    from pitune.tasks import declared_names

    targets = tasks or [name for name in declared_names() if name.startswith("elevater/")]
    settings = _training(steps, source_steps, learning_rate, batch_size)
    given = (methods, shots, source_shots, seeds, seed, test, length, mixing, backbone, device)
    _run("elevater", sources or targets, targets, out, workers, as_json, settings, *given)


def cross_task(
    tasks: Annotated[list[str], typer.Argument(metavar="TASK…", help="Tasks to carry the source over to.")],
    sources: Annotated[
        list[str], typer.Option("--source", metavar="TASK", help="A task to learn the source on; repeatable.")
    ],
    out: StudyOut = Path("cross-task"),
    methods: Kinds = None,
    shots: StudyShots = None,
    source_shots: SourceShots = "all",
    seeds: Seeds = None,
    steps: StudySteps = None,
    source_steps: SourceSteps = None,
    learning_rate: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    length: Length = None,
    mixing: Annotated[str, typer.Option(help="How often sources are drawn.")] = "balanced",
    test: StudyTest = None,
    workers: Workers = 1,
    backbone: options.BackboneName = options.BACKBONE,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Cross-task generalisation: one source over the --source tasks, carried to other tasks, none of them among it."""
    from pitune.commands.set_up import quieten

    quieten()
    from pitune.tasks import expand, load_task

    tasks, sources = list(expand(tasks)), list(expand(sources))
    known = {load_task(source).name for source in sources}
    kept = [task for task in tasks if load_task(task).name not in known]
    for task in [task for task in tasks if task not in kept]:
        note(f"{task} is left out of the targets: it is a source")
    if not kept:
        raise InputError("every target is a source; expected other tasks")
    settings = _training(steps, source_steps, learning_rate, batch_size)
    given = (methods, shots, source_shots, seeds, seed, test, length, mixing, backbone, device)
    _run("cross-task", sources, kept, out, workers, as_json, settings, *given)


def _training(
    steps: int | None, source_steps: int | None, learning_rate: float | None, batch_size: int | None
) -> tuple[TrainingSettings, TrainingSettings]:
    """Return how sources and how targets are trained."""
    from pitune.commands.set_up import make_settings
    from pitune.studies import PROMPT_SOURCE, PROMPT_TARGET
    from pitune.training import TrainingSettings

    both = {"learning_rate": learning_rate, "batch_size": batch_size}
    return (
        make_settings(TrainingSettings, {**both, "steps": source_steps}, PROMPT_SOURCE),
        make_settings(TrainingSettings, {**both, "steps": steps}, PROMPT_TARGET),
    )


def _run(
    protocol: Protocol,
    sources: list[str],
    targets: list[str],
    out: Path,
    workers: int,
    as_json: bool,
    settings: tuple[TrainingSettings, TrainingSettings],
    methods: list[str] | None,
    shots: list[str] | None,
    source_shots: str,
    seeds: int | None,
    seed: int,
    test: int | None,
    length: int | None,
    mixing: str,
    backbone: str,
    device: str | None,
) -> None:
    from pitune.commands.set_up import check_writable, quieten

    check_writable(out)
    quieten()
    from pitune.reports import write_prompts
    from pitune.studies import KINDS, SHOTS, PromptPlan, run_prompts
    from pitune.tasks import expand
    from pitune.training import read_mixing

    source_training, training = settings
    plan = PromptPlan(
        protocol=protocol,
        sources=tuple(expand(sources)),
        targets=tuple(expand(targets)),
        methods=tuple(methods or KINDS),
        shots=read_shots(shots) if shots else SHOTS[protocol],
        source_shots=read_shots([source_shots])[0],
        **({"seeds": seeds} if seeds else {}),
        first_seed=seed,
        test=test,
        length=length,
        mixing=str(read_mixing(mixing)),
        backbone=backbone,
        device=device,
        source_training=source_training,
        training=training,
    )
    results = run_prompts(plan, out, workers=workers)
    write_prompts(results, out, shlex.join(["pitune", *sys.argv[1:]]))
    kept = f"all of it: {out / 'results.json'}, {out / 'results.md'}"
    report(as_json, results.described(), [*_prompts(results), kept])


def _prompts(results: PromptsResults) -> Iterator[Table]:
    for shots in dict.fromkeys(one.shots for one in results.means):
        yield means_table(results.means, shots)
        gains = [
            (
                gain.baseline.removesuffix(" alone"),
                *in_points(gain.mean, gain.low, gain.high),
                gain.wins,
                gain.losses,
                gain.seeds,
            )
            for gain in results.gains
            if gain.shots == shots
        ]
        yield table(("from multitask over alone", "points", "from", "to", "win", "loss", "seeds"), gains)


def _transfer(results: TransferResults) -> Iterator[Table]:
    from pitune.studies import STAGES

    for stage in STAGES:
        rows = [
            (name, *(None if one is None else round(one, 2) for one in line))
            for name, line in zip(results.tasks, results.transfer["test"][stage], strict=True)
        ]
        yield table((f"{stage}: from", *results.tasks), rows)
    by_stage = results.correlations
    rows = [(kind, *(by_stage[stage][kind].rho for stage in STAGES)) for kind in by_stage["adapted"]]
    yield table(("similarity", *(f"rank correlation, {stage}" for stage in STAGES)), rows)
