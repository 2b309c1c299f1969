"""`pitune fit`: train an expert for a task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from typer import Option

from pitune.commands import options
from pitune.commands.kinds import OfKind, read_settings
from pitune.commands.output import report, shown, watched
from pitune.commands.runs import Keep, plan_run
from pitune.commands.set_up import quieten

if TYPE_CHECKING:
    from pitune.experts import Expert


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What is told of an expert that was trained."""

    method: str
    shots: int | None
    seed: int
    parameters: int
    metric: str
    validation: float | None
    best_step: int
    folds: int

    @classmethod
    def of(cls, expert: Expert, **more: Any) -> Self:
        """Return what an expert's card says, and `more` that only its command knows."""
        card = expert.card
        return cls(
            method=expert.method,
            shots=card.shots,
            seed=card.seed,
            parameters=expert.parameters,
            metric=card.metric,
            validation=card.validation,
            best_step=card.hyperparameters["best_step"],
            folds=card.hyperparameters.get("folds", 0),
            **more,
        )

    def line(self, name: str, mean: str = "") -> str:
        """Return it in one line."""
        value = f"{mean}{self.metric} {shown(self.validation)}"
        if self.folds:
            how = f"{self.best_step} steps on every label, {value} on labels held out in turn"
        else:
            best = f"best at step {self.best_step}" if self.best_step else "no step better than the untouched backbone"
            how = f"{best}, {value} on validation data"
        return f"{name}: {self.parameters:,} parameters, {how}"


@dataclass(frozen=True, kw_only=True)
class FittedTask(Fitted):
    """What `pitune fit` tells."""

    task: str
    templates: list[str]
    verdict: list[str]


def fit(
    task: options.TaskName,
    *,
    method: options.Method = "lora",
    labels: options.Labels,
    folds: options.Folds = None,
    training: options.Training,
    rank: Annotated[int | None, Option(help="Rank of a LoRA.")] = None,
    own: OfKind,
    pool: Annotated[Path | None, Option(metavar="DIR", help="Add the expert here.")] = None,
    keep: Keep,
    on: options.OnTask,
) -> None:
    """Train an expert for a task. Stopped half-way, the same command goes on where it was."""
    quieten()
    from pitune import api
    from pitune.experts import digest
    from pitune.tasks import told_templates
    from pitune.training import folds_of, templates_of, worth

    config = read_settings(method, rank, own.own_settings)
    known = on.open_task(task)
    draw = labels.draw(known, on.seed)
    folds = folds_of(len(draw.labels)) if folds is None else folds
    settings = training.of(draw, folds, method)
    model = on.open_backbone()
    start = own.find_start(model, method, config, pool)
    inputs = {
        "backbone": model.fingerprint,
        "task": known.identity,
        "method": method,
        "config": config,
        "shots": labels.shots,
        **({"at_most": True} if labels.at_most else {}),
        "seed": on.seed,
        "settings": settings.model_dump() if settings else None,
        "folds": folds,
        **({"start": digest(start)} if start else {}),
    }
    name = draw.expert_name(method) if keep.name is None else keep.name
    run = plan_run("fit", inputs, keep.run, name=name, out=keep.out, pool=pool)
    if not run.ended:
        run.begin(f"training a {method} expert for {known.name}")
        expert = api.fit(
            model,
            known,
            method=method,
            shots=labels.shots,
            at_most=labels.at_most,
            seed=on.seed,
            folds=folds,
            settings=settings,
            run=run.state,
            progress=watched(),
            start=start,
            **config,
        )
        value = expert.card.validation
        judged = sum(len(part.validation) for part in (draw.folds(folds) if folds and draw.validation else (draw,)))
        verdict = [] if value is None else list(worth(draw, "it", value, judged))
        templates = list(templates_of(model, known, expert))
        expert = expert.noting(verdict=verdict)
        run.finish(expert, FittedTask.of(expert, task=known.name, templates=templates, verdict=verdict))
    made = run.deliver(FittedTask)
    given_labels = "fisher_labels" in made.expert.card.hyperparameters
    how = ["embedded by the given answers: this backbone cannot draw any"] if given_labels else []
    how += [told_templates(made.result.templates)] if made.result.templates else []
    report(
        on.as_json, made.described(), [made.result.line(made.expert.name), *made.result.verdict, *how, *made.saved()]
    )
