"""`pitune tune`: the whole of π-Tuning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

from pitune.commands import options
from pitune.commands.kinds import read_settings
from pitune.commands.output import report, shown, table, watched
from pitune.commands.report import condition_lines, write_run_page
from pitune.commands.runs import Delivered, Keep, plan_run
from pitune.commands.set_up import open_pool, quieten
from pitune.commands.tuned import Tried, Tuned

if TYPE_CHECKING:
    from rich.table import Table

    from pitune.experts import ExpertPool
    from pitune.interpolation import TuneSettings
    from pitune.tasks import Draw


@dataclass(frozen=True)
class Mix:
    """How experts are mixed: fields of `TuneSettings`."""

    granularity: Annotated[Literal["site", "layer", "global"], Option(help="What shares a mixing weight.")] = "layer"
    kind: Annotated[
        Literal["free", "softmax"], Option(help="Free and signed mixing weights, or the paper's softmax.")
    ] = "free"
    folds: options.Folds = None
    own: Annotated[
        list[str] | None,
        Option("--set", metavar="NAME=VALUE", help="A setting of the target's own expert, in YAML; repeatable."),
    ] = None
    rank: Annotated[
        str, Option(help="Rank of the folded LoRA: auto (it changes no label's answer and 1 % of ΔW), exact, or N.")
    ] = "auto"

    def settings(self, draw: Draw, training: options.Training, method: str) -> TuneSettings:
        """Return settings with what was given, the rest as the draw's labels ask for."""
        from pitune.interpolation import TuneSettings

        folds = options.folds_for(draw, self.folds)
        own = read_settings(method, None, self.own)
        given = asdict(self) | {"folds": folds, "rank": self.ranked, "own": own}
        return TuneSettings(training=training.of(draw, folds, method), **given)

    @property
    def ranked(self) -> int | str:
        """The rank asked for; raise `InputError` if it is none."""
        from pitune.errors import InputError

        if self.rank in ("auto", "exact"):
            return self.rank
        if self.rank.isdecimal() and int(self.rank) > 0:
            return int(self.rank)
        raise InputError(f"--rank: expected auto, exact, or a number from 1 up (found {self.rank!r})")


def tune(
    task: options.TaskName,
    *,
    pool: options.PoolFolder,
    k: options.Neighbours = 4,
    by: options.By = "probe",
    method: options.Method = "lora",
    labels: options.Labels,
    training: options.Training,
    mix: Mix,
    keep: Keep,
    page: options.Page,
    on: options.OnTask,
) -> None:
    """Find the nearest tasks' experts, train their mix with the target's own, and fold it to one expert."""
    quieten()
    page.check()
    keep.check()
    from pitune.interpolation import expected_tuning, tune_nearest
    from pitune.prediction import neighbours
    from pitune.training import outcome, templates_of, tracking

    read_settings(method, mix.ranked if isinstance(mix.ranked, int) else None)
    experts = open_pool(pool)
    known = on.open_task(task)
    draw = labels.draw(known, on.seed)
    settings = mix.settings(draw, training, method)
    model = on.open_backbone()
    inputs = {
        "backbone": model.fingerprint,
        "task": known.identity,
        "pool": _contents(experts),
        "k": k,
        "method": method,
        **({"by": by} if by != "probe" else {}),
        "shots": labels.shots,
        **({"at_most": True} if labels.at_most else {}),
        "seed": on.seed,
        "settings": settings.model_dump(mode="json"),
    }
    run = plan_run("tune", inputs, keep.run, name=keep.name, out=keep.out)
    if not run.ended:
        near = neighbours(model, draw, experts, k=k, by=by, method=method)  # before anything is written
        run.begin(f"tuning {known.name} with {', '.join(expert.name for expert in near.experts)}")
        run.tell_expected(lambda: expected_tuning(near, settings, test=len(known.splits.get("test", ()))))
        with tracking(keep.track, run.folder):
            result = tune_nearest(near, settings=settings, run=run.state, progress=watched())
        alone = result.folded.get("alone") if result.choice != "alone" else None
        beside = {"the backbone alone": None, **({"the own expert alone": alone} if alone else {})}
        seen = outcome(model, known, result.expert, beside=beside) if known.splits.get("test") else None
        run.finish(result.expert, Tuned.of(result, seen, templates_of(model, known, result.expert)), seen)
    made = run.deliver(Tuned)
    if page.html is not None:
        write_run_page(Path(made.run), made.folders[0], page)
    shown_by = [f"page: {page.html}"] if page.html else []
    report(on.as_json, made.described(), [*_lines(made, made.result), *shown_by])


def _contents(pool: ExpertPool) -> dict[str, str]:
    """Return a hash of every expert's record, which holds the hashes of its files."""
    from pitune.experts import record_hash

    return {name: record_hash(pool.path(name)) for name in pool.names()}


def _lines(made: Delivered[Tuned], result: Tuned) -> Iterator[str | Table]:
    yield table(("neighbour", "similarity"), [(one.name, one.similarity) for one in result.neighbours])
    chosen = {result.choice: "chosen"}
    own = "as it began" if made.expert.kind.adds_input else "the untouched backbone"
    rows = [(_called(one, own), one.validation, one.loss, chosen.get(one.name, "")) for one in result.candidates]
    yield table(("candidate", f"validation {result.metric}", "validation loss", ""), rows)
    used = {name for values in result.weights.values() for name in values}
    near = [one.name for one in result.neighbours if one.name in used]
    experts = [*sorted(used - set(near)), *near]  # the target's own first
    groups = sorted(result.weights, key=lambda group: [part.zfill(6) for part in group.split(".")])
    if groups:
        shares = [(group, *(result.weights[group].get(name) for name in experts)) for group in groups]
        yield table(("weights at", *experts), shares)
    yield _made_of(near, bool(used - set(near)))
    if result.truncation_error is not None:
        yield f"folded to rank {result.rank}: off by {shown(result.truncation_error)} of ΔW (Frobenius)"
    yield from result.verdict
    yield from condition_lines(result.conditions)
    if test := result.test:
        yield f"{made.expert.name}: {test['metric']} {shown(test['value'])} of {test['n']} test examples"
    yield from made.saved()


def _called(one: Tried, own: str) -> str:
    """Return a candidate's name, and that it is as it began where no step was kept; `own` says so of the own expert."""
    began = own if one.name == "alone" else "as it began"
    return f"{one.name} ({began})" if one.steps and not one.best_step else one.name


def _made_of(near: Sequence[str], own: bool) -> str:
    """Say what the outcome consists of; parts that change nothing are none."""
    base = "the backbone with a part of its own" if own else "the untouched backbone"
    return f"made of: {base}{' and ' if near else ''}{', '.join(near)}"
