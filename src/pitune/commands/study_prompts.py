"""`pitune study transfer|coop|elevater|cross-task`: prompts learned over many tasks, carried to the next (MVLPT)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from pitune.commands import options, study
from pitune.commands.output import is_told, note, table
from pitune.commands.set_up import check_writable, quieten, training_settings
from pitune.defaults import IMAGE_TASKS
from pitune.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from pitune.studies import PromptsResults, Protocol, TransferResults

MoreTasks = Annotated[list[str] | None, Argument(metavar="TASK…", help=f"Tasks; {IMAGE_TASKS} unless given.")]
SOURCES = Option("--source", metavar="TASK", help="A task to learn the source on; repeatable.")
SourceShots = Annotated[str, Option(help="Examples per class of the sources, or all.")]


@dataclass(frozen=True)
class Training:
    """How sources and targets are trained, and how long a prompt is."""

    steps: study.Steps = None
    source_steps: Annotated[int | None, Option(min=1, help="Steps on the sources at most.")] = None
    learning_rate: options.LearningRate = None
    batch_size: options.BatchSize = None
    length: Annotated[int | None, Option(min=1, help="Vectors of a text or visual prompt; 16 unless given.")] = None

    def plan(self) -> dict[str, Any]:
        """Return the fields of a plan that it decides; raise `InputError` that names the flag which is wrong."""
        both = {"learning_rate": self.learning_rate, "batch_size": self.batch_size}
        given = {"source_training": {**both, "steps": self.source_steps}, "training": {**both, "steps": self.steps}}
        told = {name: training_settings(fields).model_dump(exclude_unset=True) for name, fields in given.items()}
        return {"length": self.length, **told}


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """What is learned on how many labels in a study of sources over several tasks."""

    methods: Annotated[
        list[str] | None,
        Option(
            "--method",
            help="Kind of expert, or text+visual; repeatable. Text, visual and unified prompts unless given.",
        ),
    ] = None
    shots: study.Shots = None
    source_shots: SourceShots = "all"
    seeds: study.Seeds = None
    training: Training
    mixing: Annotated[str, Option(help="How often sources are drawn.")] = "balanced"
    test: study.Test = None


def transfer(
    tasks: MoreTasks = None,
    *,
    out: study.Out = Path("transfer"),
    method: Annotated[str, Option(help="Kind of expert that all the tasks can carry.")] = "visual_prompt",
    shots: Annotated[str, Option(help="Examples per class of a target, or all.")] = "16",
    source_shots: SourceShots = "all",
    seeds: study.Seeds = None,
    training: Training,
    test: study.Test = None,
    adapt: Annotated[bool, Option(help="Adapt each pair to the target, too, which is the long part.")] = True,
    on: study.Running,
) -> None:
    """Measure which task's expert helps which, every two of them. Stopped, it goes on where it was."""
    quieten()
    check_writable(out)
    from pitune.reports import write_transfer
    from pitune.studies import STAGES, TransferPlan, run_transfer
    from pitune.tasks import expand

    trained = training.plan()
    plan = TransferPlan(
        tasks=tuple(expand(tasks or [IMAGE_TASKS])),
        method=method,
        shots=study.read_shots([shots])[0],
        source_shots=study.read_shots([source_shots])[0],
        seeds=seeds or 1,
        **({"test": test} if test else {}),
        stages=STAGES if adapt else STAGES[:1],
        **trained,
        **on.plan(),
    )
    results = run_transfer(plan, out, workers=on.spread, progress=is_told())
    write_transfer(results, out, study.as_typed())
    kept = ", ".join(str(out / name) for name in ("results.json", "results.md", f"{plan.stages[-1]}.svg"))
    on.told(results, [*_transfer(results), f"all of it: {kept}"])


def coop(
    tasks: MoreTasks = None,
    *,
    sources: Annotated[list[str] | None, SOURCES] = None,
    out: study.Out = Path("coop"),
    prompts: Prompts,
    on: study.Running,
) -> None:
    """CoOp's protocol, 1 to 16 shots: each task alone, and from a source over the others (or over --source)."""
    targets = tasks or [IMAGE_TASKS]
    _run("coop", sources or targets, targets, out, prompts, on)


def elevater(
    tasks: Annotated[list[str] | None, Argument(metavar="TASK…", help="Tasks; ELEVATER's twenty unless given.")] = None,
    *,
    sources: Annotated[list[str] | None, SOURCES] = None,
    out: study.Out = Path("elevater"),
    prompts: Prompts,
    on: study.Running,
) -> None:
    """ELEVATER's protocol, 5, 20 and 50 shots of which one in five is to stop by; metrics are the official ones."""
    from pitune.tasks import declared_names

    targets = tasks or [name for name in declared_names() if name.startswith("elevater/")]
    _run("elevater", sources or targets, targets, out, prompts, on)


def cross_task(
    tasks: Annotated[list[str], Argument(metavar="TASK…", help="Tasks to carry the source over to.")],
    *,
    sources: Annotated[list[str], SOURCES],
    out: study.Out = Path("cross-task"),
    prompts: Prompts,
    on: study.Running,
) -> None:
    """Cross-task generalisation: one source over the --source tasks, carried to other tasks, none of them among it."""
    quieten()
    from pitune.tasks import expand, load_task

    tasks, sources = list(expand(tasks)), list(expand(sources))
    known = {load_task(source).name for source in sources}
    kept = [task for task in tasks if load_task(task).name not in known]
    for task in [task for task in tasks if task not in kept]:
        note(f"{task} is left out of the targets: it is a source")
    if not kept:
        raise InputError("every target is a source; expected other tasks")
    _run("cross-task", sources, kept, out, prompts, on)


def _run(
    protocol: Protocol, sources: Sequence[str], targets: Sequence[str], out: Path, prompts: Prompts, on: study.Running
) -> None:
    quieten()
    trained = prompts.training.plan()
    check_writable(out)
    from pitune.reports import write_prompts
    from pitune.studies import KINDS, SHOTS, PromptPlan, run_prompts
    from pitune.tasks import expand
    from pitune.training import read_mixing

    plan = PromptPlan(
        protocol=protocol,
        sources=tuple(expand(sources)),
        targets=tuple(expand(targets)),
        methods=tuple(prompts.methods or KINDS),
        shots=study.read_shots(prompts.shots) if prompts.shots else SHOTS[protocol],
        source_shots=study.read_shots([prompts.source_shots])[0],
        **({"seeds": prompts.seeds} if prompts.seeds else {}),
        test=prompts.test,
        mixing=str(read_mixing(prompts.mixing)),
        **trained,
        **on.plan(),
    )
    results = run_prompts(plan, out, workers=on.spread, progress=is_told())
    write_prompts(results, out, study.as_typed())
    kept = f"all of it: {out / 'results.json'}, {out / 'results.md'}"
    on.told(results, [*_prompts(results), kept])


def _prompts(results: PromptsResults) -> Iterator[Table]:
    for shots in dict.fromkeys(one.shots for one in results.means):
        yield study.means_table(results, shots)
        gains = [
            (
                gain.baseline.removesuffix(" alone"),
                *study.in_points(gain.mean, gain.low, gain.high),
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
