"""`pitune fit`: train an expert for a task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from typer import Argument, Option

from pitune.commands import options
from pitune.commands.kinds import OfKind, read_settings
from pitune.commands.output import report, shown, watched
from pitune.commands.runs import Delivered, Keep, plan_run
from pitune.commands.set_up import quieten
from pitune.errors import InputError

if TYPE_CHECKING:
    from pitune.backbones import Backbone
    from pitune.experts import Expert
    from pitune.tasks import Draw


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
    untouched: bool = False

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
            untouched=expert.untouched,
            **more,
        )

    def line(self, name: str, mean: str = "") -> str:
        """Return it in one line."""
        value = f"{mean}{self.metric} {shown(self.validation)}"
        if self.folds:
            how = f"{self.best_step} steps on every label, {value} on labels held out in turn"
        else:
            start = "the untouched backbone" if self.untouched else "where it began"
            best = f"best at step {self.best_step}" if self.best_step else f"no step better than {start}"
            how = f"{best}, {value} on validation data"
        return f"{name}: {self.parameters:,} parameters, {how}"


@dataclass(frozen=True, kw_only=True)
class FittedTask(Fitted):
    """What `pitune fit` tells."""

    task: str
    templates: list[str]
    verdict: list[str]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """All that is asked of a fit beside the task."""

    method: str
    labels: options.Labels
    folds: int | None
    training: options.Training
    rank: int | None
    own: OfKind
    pool: Path | None
    keep: Keep
    on: options.OnTask

    def check_several(self) -> None:
        """Raise `InputError` if this cannot be done for several tasks at once."""
        if self.pool is None:
            raise InputError("nowhere to keep the experts of several tasks; give --pool DIR")
        if one := next((name for name in ("name", "out", "run") if getattr(self.keep, name) is not None), None):
            raise InputError(f"--{one} is of one expert, found several tasks; leave it out")
        if self.on.validation or self.on.test:
            raise InputError("--validation and --test are of one task; declare them in a YAML file for each")

    def one_of_several(self, task: str) -> Delivered[FittedTask]:
        """Do it for a task, with the backbone that this process has loaded."""
        quieten()
        from pitune.studies import load_once

        return self.one(task, load_once(self.on.backbone, self.on.device, self.on.dtype))

    def one(self, task: str, model: Backbone | None = None) -> Delivered[FittedTask]:
        """Do it for a task, from where it was stopped, and keep the expert where it was asked for."""
        from pitune import api
        from pitune.experts import digest
        from pitune.training import expected_time, templates_of, tracking

        method, labels, on = self.method, self.labels, self.on
        config = read_settings(method, self.rank, self.own.own_settings)
        known = on.open_task(task)
        draw = labels.draw(known, on.seed)
        folds = options.folds_for(draw, self.folds)
        settings = self.training.of(draw, folds, method)
        model = model or on.open_backbone()
        start = self.own.find_start(model, method, config, self.pool)
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
        name = draw.expert_name(method) if self.keep.name is None else self.keep.name
        run = plan_run("fit", inputs, self.keep.run, name=name, out=self.keep.out, pool=self.pool)
        if not run.ended:
            run.begin(f"training a {method} expert for {known.name}")
            run.tell_expected(
                lambda: expected_time(model, draw, method=method, folds=folds, settings=settings, **config)
            )
            with tracking(self.keep.track, run.folder):
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
            verdict = [] if value is None else _verdict(model, draw, folds, value)
            templates = list(templates_of(model, known, expert))
            expert = expert.noting(verdict=verdict)
            run.finish(expert, FittedTask.of(expert, task=known.name, templates=templates, verdict=verdict))
        return run.deliver(FittedTask)


def fit(
    task: Annotated[list[str], Argument(metavar="TASK...", help=options.TASK_HELP)],
    *,
    method: options.Method = "lora",
    labels: options.Labels,
    folds: options.Folds = None,
    training: options.Training,
    rank: Annotated[int | None, Option(help="Rank of a LoRA.")] = None,
    own: OfKind,
    pool: Annotated[Path | None, Option(metavar="DIR", help="Add the expert here.")] = None,
    keep: Keep,
    over: options.Spreading,
    on: options.OnTask,
) -> None:
    """Train an expert for a task, or one for each of several. Stopped, the same command goes on where it was."""
    quieten()
    keep.check()
    how = Fit(
        method=method,
        labels=labels,
        folds=folds,
        training=training,
        rank=rank,
        own=own,
        pool=pool,
        keep=keep,
        on=on,
    )
    if len(task) == 1:
        made = how.one(task[0])
        report(on.as_json, made.described(), _lines(made))
        return
    from pitune.studies import run_jobs

    how.check_several()
    run_jobs(how.one_of_several, task, over.spread)
    each = [how.one_of_several(one) for one in task]
    report(on.as_json, {"experts": [one.described() for one in each]}, [line for one in each for line in _lines(one)])


def _verdict(model: Backbone, draw: Draw, folds: int, value: float) -> list[str]:
    """Return what the labels that judge say of an expert, beside the backbone alone on the same."""
    from pitune.training import evaluate_expert, worth

    judged = [one for part in (draw.folds(folds) if folds else (draw,)) for one in part.validation]
    alone = evaluate_expert(model, draw.task, None, judged).value
    return list(worth(draw.task, draw.labels, "it", value, len(judged), {"the backbone alone": alone}))


def _lines(made: Delivered[FittedTask]) -> list[str]:
    from pitune.tasks import told_templates

    given_labels = "fisher_labels" in made.expert.card.hyperparameters
    how = ["embedded by the given answers: this backbone cannot draw any"] if given_labels else []
    how += [told_templates(made.result.templates)] if made.result.templates else []
    return [made.result.line(made.expert.name), *made.result.verdict, *how, *made.saved()]
